// The dashboard of a pool.

import { attr, flag, h, show, text } from "./nodes.js";
import { coloured } from "./colours.js";
import { button, copyButton } from "./controls.js";
import { JOB, jobList } from "./jobs.js";
import { workerTable } from "./workers.js";
import { strip } from "./strip.js";
import { timeline } from "./timeline.js";

const BLOCK = 0.05; // rows of workers, so much does a block of the timeline cost

function sizeControl(view) {
  const field = h("input", "", { type: "number", min: "1", step: "1", "aria-label": "Number of workers",
    "data-lm-suppress-shortcuts": "true" });
  let size = 0;
  let edited = false;
  const wanted = () => view.clicks.find({ action: "resize" })?.size ?? size;
  const send = (value) => {
    edited = false;
    if (view.open && Number.isInteger(value) && value >= 1 && value !== wanted()) view.click({ action: "resize", size: value });
    else view.hurry();
  };
  const less = button("−", () => send(wanted() - 1), "step");
  const more = button("+", () => send(wanted() + 1), "step");
  less.node.setAttribute("aria-label", "One worker less");
  more.node.setAttribute("aria-label", "One worker more");
  field.addEventListener("input", () => {
    edited = true;
  });
  field.addEventListener("change", () => send(Number(field.value)));
  field.addEventListener("keydown", (event) => {
    // What is typed here is for this field alone: "a", "b" and "dd" are commands of the notebook around it.
    event.stopPropagation();
    if (event.key === "Enter") send(Number(field.value));
    if (event.key !== "Escape") return;
    edited = false;
    view.hurry();
  });
  const node = h("span", "size", h("span", "", "Workers"), less.node, field, more.node);
  return { node, draw: (state) => {
    size = state.size;
    const now = wanted();
    if (!edited && field.value !== String(now)) field.value = String(now);
    attr(field, "disabled", state.open ? null : "");
    flag(field, "pressed", now !== size);
    less.draw(false, !state.open || now <= 1);
    more.draw(false, !state.open);
  } };
}

function stackBox(view) {
  const title = h("span");
  const long = h("pre", "long", { tabindex: "0", "aria-label": "Stack" });
  let worker = null;
  let said = "";
  const close = button("Close", () => {
    worker = null;
    view.hurry();
  }, "quiet");
  const node = h("section", "stack", h("div", "title", title, copyButton("Copy the stack", () => said), close.node), long);
  return { node, open: (index) => {
    worker = index;
  }, draw: (texts) => {
    show(node, worker !== null);
    if (worker === null) return;
    said = texts[`stack-${worker}`] ?? "";
    text(title, `Stack of worker ${worker}`);
    coloured(long, said || "Asking the worker.");
  } };
}

export function dashboard(view) {
  const name = h("span", "heading");
  const title = h("span", "title");
  const size = sizeControl(view);
  const restart = button("Restart all", () => view.click({ action: "restart" }));
  const head = h("div", "topline", name, title, size.node, restart.node);
  const line = strip(view);
  const list = jobList(view);
  const jobs = h("div", "jobs", list.node);
  const more = h("div", "title");
  const time = timeline(view);
  const workers = workerTable(view);
  const stack = stackBox(view);
  view.worker = (action, worker) => {
    if (action === "stack") stack.open(worker);
    view.click({ action, worker });
  };
  return { nodes: [head, line.node, jobs, more, workers.node, stack.node, time.node], draw: (state, texts) => {
    view.open = state.open;
    text(name, state.name);
    text(title, state.title);
    size.draw(state);
    restart.draw(Boolean(view.clicks.find({ action: "restart" })), !state.open);
    line.draw(state, "", line.says(state) !== "");
    show(jobs, state.jobs.length > 0);
    list.draw(state.jobs);
    text(more, state.more);
    show(more, state.more !== "");
    show(workers.node, state.workers.length > 0);
    workers.draw(state.workers);
    stack.draw(texts);
    time.draw(state);
    return state.jobs.length * JOB + state.workers.length + state.blocks.length * BLOCK;
  } };
}
