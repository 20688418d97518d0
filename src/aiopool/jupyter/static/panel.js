// The panel under a cell.

import { attr, flag, h, keyed, show, text } from "./nodes.js";
import { toggle } from "./controls.js";
import { JOB, jobLine, jobList } from "./jobs.js";
import { workerTable } from "./workers.js";
import { printBox } from "./prints.js";
import { failureList } from "./failures.js";
import { strip } from "./strip.js";

function foldControl(view) {
  const titles = { Bar: "Only the bars", Workers: "With the workers", All: "With prints and failures, too" };
  const buttons = Object.entries(titles).map(([label, title], fold) => {
    const one = h("button", "", { title }, label);
    one.addEventListener("click", () => view.click({ action: "fold", fold }));
    return one;
  });
  const node = h("div", "fold", { role: "group", "aria-label": "How much is shown" }, ...buttons);
  return { node, draw: (now, failed) => buttons.forEach((one, fold) => {
    attr(one, "aria-pressed", String(fold === now));
    flag(one, "alert", failed && fold === 2 && now < 2);
  }) };
}

export function panel(view) {
  const jobs = jobList(view);
  const lines = h("div", "list");
  const fold = foldControl(view);
  const head = strip(view, fold.node);
  const running = h("div", "jobs", jobs.node);
  let opened = false;
  const details = toggle("Details", (on) => {
    opened = on;
    view.hurry();
  }, "quiet toggle");
  const ended = h("div", "ended", lines, details);
  const more = h("div", "title");
  const foot = strip(view);
  // Said once by a screen reader, at the end; what changes ten times a second is not announced.
  const told = h("div", "unseen", { role: "status" });
  const workers = workerTable(view);
  const prints = printBox();
  const failures = failureList(view);
  const nodes = [head.node, running, ended, more, foot.node, workers.node, prints.node, failures.node, told];
  const drawLines = keyed(lines, (row) => row.key, (row) => jobLine(view, row));
  let wasLive = false;
  let level = -1;
  return { nodes, draw: (state, texts) => {
    const wanted = view.clicks.find({ action: "fold" })?.fold ?? state.fold;
    const before = level;
    level = state.live ? wanted : opened ? 2 : 0;
    show(running, state.live);
    show(ended, !state.live);
    // What is hidden is not kept either: the page may hold the panels of a whole day.
    jobs.draw(state.live ? state.jobs : []);
    if (!state.live) drawLines(state.jobs);
    fold.draw(wanted, state.failures.length > 0);
    show(details, state.workers.length + state.prints.length + state.failures.length > 0 || state.dropped !== "");
    text(more, state.more);
    show(more, state.more !== "");
    // What is said stands beside the fold, or, when that has gone, below what is left.
    head.draw(state, state.workers_title, state.live);
    foot.draw(state, "", !state.live && foot.says(state) !== "");
    show(workers.node, level > 0 && state.workers.length > 0);
    if (level > 0) workers.draw(state.workers);
    if (level > 1) {
      prints.draw(state.prints, state.dropped);
      failures.draw(state.failures, texts);
      if (before < 2) prints.appear();
    } else {
      show(prints.node, false);
      show(failures.node, false);
    }
    if (wasLive && !state.live) text(told, state.jobs.map((row) => row.summary).join(". "));
    wasLive = state.live;
    return state.jobs.length * JOB + (level > 0 ? state.workers.length : 0);
  } };
}
