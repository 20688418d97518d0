// What a notebook keeps of a widget: the HTML that stands for it.
//
// JupyterLab and Notebook 7 prefer a widget to the HTML beside it also where the kernel that knew it is gone, and show
// an error then. So the widget is left out of what they save; when the notebook is opened again and the kernel still
// knows the widget, it is put back in the place of its HTML.

import { endedPage, holds } from "./ended.js";

const VIEW = "application/vnd.jupyter.widget-view+json";

/** The notebook around a widget, where the front end says when it saves it; nothing elsewhere. */
function notebookAround(model) {
  const context = model.widget_manager?.context;
  // One that several people edit at once is saved by the server.
  return context?.saveState && context.model?.cells && !context.model.collaborative ? context : null;
}

/** The outputs that are places of this widget. */
function* places(context, id) {
  for (const cell of context.model.cells) {
    for (let place = 0; place < (cell.outputs?.length ?? 0); place += 1) {
      const output = cell.outputs.get(place);
      if (id && output.metadata?.aiopool === id) yield { cell, place, output };
    }
  }
}

function withoutView({ [VIEW]: _, ...data }) {
  return data;
}

/** See to it that the notebook is saved with the page that stands for this widget; returns how to stop that. */
function keepIn(context, model, clicks) {
  const kept = new WeakMap();
  let last = null;
  // Of a job that has ended with the kernel nobody else can say so.
  const pageOf = () => last && clicks.gone ? last : model.get("page") ?? {};
  // What is done here is no change of the user's: whether there is something to save stays as it was.
  const each = (change) => {
    if (context.isDisposed) return;
    const { id, data } = pageOf();
    const dirty = context.model.dirty;
    for (const found of places(context, id)) change(found, id, data);
    context.model.dirty = dirty;
  };
  const save = ({ cell, place, output }, _, data) => {
    const page = pageOf();
    if (kept.get(output) === page) return;
    kept.set(output, page);
    const saved = { ...output.toJSON(), data: { ...withoutView(output.data), ...data } };
    // As the front end itself writes what a kernel sends: on the page all stays as it is.
    cell.sharedModel.updateOutputs(place, place + 1, [saved], "silent-change");
  };
  const enter = ({ output }, id) => {
    if (!output.data[VIEW]) output.setData({ data: { ...output.data, [VIEW]: { version_major: 2, version_minor: 0, model_id: id } } });
  };
  const leave = ({ output }, _, data) => {
    if (output.data[VIEW]) output.setData({ data: { ...withoutView(output.data), ...data } });
  };
  const listen = (_, state) => {
    if (state === "started") each(save);
  };
  context.saveState.connect(listen);
  clicks.whenGone = () => {
    const [state, page] = [model.get("state"), model.get("page")];
    last = holds(state) ? { id: page?.id, data: endedPage(state, model.get("details") ?? {}) } : null;
    if (last && !context.isDisposed) context.model.dirty = true;
  };
  // What the kernel would write into the notebook at the end would draw all anew.
  clicks.tell(model, { action: "keeps" });
  context.ready.then(() => each(enter));
  return () => {
    context.saveState.disconnect(listen);
    each(leave);
  };
}

/** Elsewhere HTML takes the place of the widget a while after the end: the kernel does that, if it is asked to. */
function askForPage(model, clicks) {
  let live;
  const look = () => {
    const was = live;
    live = model.get("state")?.live;
    if (live === false && was !== false) clicks.tell(model, { action: "replace" });
  };
  model.on("change:state", look);
  look();
  return () => model.off("change:state", look);
}

export function keep(model, clicks) {
  const context = notebookAround(model);
  return context ? keepIn(context, model, clicks) : askForPage(model, clicks);
}
