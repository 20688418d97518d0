// A line for what belongs to the whole.

import { h, show, text } from "./nodes.js";

const SILENT = "No news for some seconds: the kernel has ended, or something holds it.";

/** A line for what belongs to the whole: a title, a note, and that the kernel is busy; and at its end, controls. */
export function strip(view, ...controls) {
  const title = h("span", "title");
  const note = h("span", "note");
  const apology = h("span", "apology", { role: "status" });
  const node = h("div", "strip", h("span", "told", title, h("span", "says", note, apology)), ...controls);
  const sorry = (state) => state.lost ?? (view.silent ? SILENT : view.clicks.apology(state));
  return { node, says: (state) => state.note + sorry(state), draw: (state, titled, shown) => {
    text(title, titled);
    text(note, state.note);
    text(apology, sorry(state));
    show(node, shown);
  } };
}
