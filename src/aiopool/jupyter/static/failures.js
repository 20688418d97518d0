// Failures, those of a kind together, with the traceback on a click.

import { attr, h, keyed, show, text } from "./nodes.js";
import { coloured } from "./colours.js";
import { copyButton, toggle } from "./controls.js";

function failureRow(view, first) {
  const title = h("span", "what");
  const message = h("span", "message");
  const where = h("span", "where");
  const inputs = h("span", "inputs");
  const trace = h("pre", "long", { tabindex: "0", "aria-label": "Traceback" });
  const hint = h("code");
  let now = first;
  const tried = h("div", "hint", h("span", "", "Try it here:"), hint, copyButton("Copy how to try it", () => now.hint));
  const more = h("div", "more", trace, tried);
  let open = false;
  const head = toggle("", (on) => {
    open = on;
    more.hidden = !on;
    view.hurry();
  }, "toggle failure-head");
  more.hidden = true;
  head.append(title, message);
  const node = h("div", "failure", head, h("div", "about", where, inputs), more);
  return { node, draw: (row, _, details) => {
    now = row;
    text(title, row.title);
    text(message, row.message);
    attr(message, "title", row.message);
    text(where, row.where);
    show(where, row.where !== "");
    text(inputs, [...row.inputs, row.more].filter(Boolean).join(" · "));
    text(hint, row.hint);
    show(tried, row.hint !== "");
    if (open) coloured(trace, details[row.key] ?? "The traceback is on its way.");
  } };
}

export function failureList(view) {
  const list = h("div");
  const node = h("section", "failures", h("div", "title", "Failures"), list);
  const rows = keyed(list, (row) => row.key, (row) => failureRow(view, row));
  return { node, draw: (failures, details) => {
    show(node, failures.length > 0);
    rows(failures, details);
  } };
}
