// Workers: a table of rows, or, of many, side by side.

import { attr, flag, h, keyed, mark, show, text } from "./nodes.js";
import { coloured } from "./colours.js";
import { button } from "./controls.js";
import { progress } from "./jobs.js";

const ROOMY = 12; // more workers than this stand side by side

// The class of a cell, its heading, and what of the row it shows.
const CELLS = [["index", "worker", (row) => String(row.index)], ["word", "state", (row) => row.word],
  ["item", "current item", (row) => row.item], ["age", "age", (row) => row.age], ["flight", "in flight", (row) => row.in_flight],
  ["done", "done", (row) => row.done], ["cpu", "CPU", (row) => row.cpu], ["memory", "memory", (row) => row.memory],
  ["lag", "lag", (row) => row.lag]];

function workerRow(view, first) {
  const shape = mark();
  const cells = CELLS.map(([className]) => h("span", `cell ${className}`, { role: "cell" }));
  const said = h("span", "said");
  const bar = progress("thin");
  const report = h("span", "cell report", { role: "cell" }, bar.node, said);
  const node = h("div", "worker", { role: "row" }, ...cells.slice(0, 4), report, ...cells.slice(4));
  const value = h("span");
  cells[0].append(shape.node, value);
  let now = first;
  // Built when somebody points at it: 64 of them ten times a second would cost more than the rows.
  node.addEventListener("pointerenter", () => attr(node, "title", CELLS.filter(([, , get]) => get(now)).map(
    ([, heading, get]) => `${heading} ${get(now)}`.trim()).concat(now.pid && `pid ${now.pid}`, now.text).filter(Boolean).join("\n")));
  const buttons = view.kind !== "dashboard" ? [] : [["stack", "Stack", "Stack of"], ["restart_worker", "Restart", "Restart"]].map(
    ([action, label, said]) => {
      const one = button(label, () => view.worker(action, first.index), "quiet");
      one.node.setAttribute("aria-label", `${said} worker ${first.index}`);
      return { ...one, action };
    });
  if (buttons.length) node.append(h("span", "cell actions", { role: "cell" }, ...buttons.map((one) => one.node)));
  return { node, draw: (row, _, compact) => {
    now = row;
    shape.draw(row.state, compact ? row.word : null);
    attr(node, "data-state", row.state);
    const shown = compact ? 4 : cells.length;
    for (let place = 0; place < shown; place += 1) text(place ? cells[place] : value, CELLS[place][2](row));
    const reports = row.fraction !== null || row.text !== "";
    flag(node, "reports", reports);
    flag(node, "named", row.item !== "");
    show(bar.node, row.fraction !== null);
    if (row.fraction !== null) bar.draw(`worker ${row.index} reports`, row.fraction, 0, row.text);
    if (!compact) coloured(said, row.text);
    for (const one of buttons) {
      one.draw(Boolean(view.clicks.find({ action: one.action, worker: row.index })), !view.open);
    }
  } };
}

export function workerTable(view) {
  const headed = (className, heading) => h("span", `cell ${className}`, { role: "columnheader" }, heading);
  const heads = CELLS.map(([className, heading]) => headed(className, heading));
  heads.splice(4, 0, headed("report", "reports"));
  if (view.kind === "dashboard") heads.push(headed("actions", ""));
  const head = h("div", "worker head", { role: "row" }, ...heads);
  const body = h("div", "rows", { role: "rowgroup" });
  const node = h("div", `workers ${view.kind}`, { role: "table", "aria-label": "Workers" }, head, body);
  const rows = keyed(body, (row) => row.index, (row) => workerRow(view, row));
  let reports = false;
  return { node, draw: (workers) => {
    // A column that has appeared stays: a report that comes and goes must not move the others.
    reports ||= workers.some((row) => row.fraction !== null || row.text !== "");
    flag(node, "reporting", reports);
    const compact = workers.length > ROOMY;
    flag(node, "compact", compact);
    show(head, !compact);
    rows(workers, compact);
  } };
}
