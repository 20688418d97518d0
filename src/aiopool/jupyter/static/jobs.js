// Jobs: a row with a bar while one runs, a line when it has ended.

import { attr, flag, h, keyed, mark, roomFor, show, style, text } from "./nodes.js";
import { button } from "./controls.js";

export const TONES = 8;
export const JOB = 3; // rows of workers, so much does one of a job cost

export function progress(className) {
  const done = h("div", "part");
  const bad = h("div", "part bad");
  const node = h("div", className, { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, done, bad);
  return { node, draw: (label, fraction, failed, said) => {
    const ratio = Math.min(1, Math.max(0, fraction ?? 0));
    const worse = Math.min(ratio, Math.max(0, failed));
    attr(node, "aria-label", label);
    attr(node, "aria-valuetext", said || null);
    // A progressbar without a value is one whose end is not known.
    attr(node, "aria-valuenow", fraction === null ? null : String(Math.floor(ratio * 100)));
    flag(node, "endless", fraction === null);
    style(done, "width", `${((ratio - worse) * 100).toFixed(2)}%`);
    style(bad, "width", `${(worse * 100).toFixed(2)}%`);
    show(bad, worse > 0);
  } };
}

const LABELS = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Retry" };

function jobButtons(view, key) {
  const node = h("span", "actions");
  const draw = keyed(node, (action) => action, (action) => {
    const one = button(LABELS[action] ?? action, () => view.click({ action, job: key }), action);
    return { node: one.node, draw: (_, __, row) => {
      attr(one.node, "aria-label", `${LABELS[action] ?? action} ${row.name}`);
      one.draw(Boolean(view.clicks.find({ action, job: key })), view.deaf);
    } };
  });
  return { node, draw: (row, wanted = row.buttons) => draw(wanted, row) };
}

/** What a fact is about, whatever its figures: "left" of "34 s left", "/" of a rate, and nothing of the time since. */
const kindOf = (fact) => fact.replace(/[\d.,:]/g, "").trim().split(" ").at(-1).replace(/^(\/?)(?:m?s|min|h|d)$/, "$1");

function jobRow(view, first) {
  const shape = mark();
  const name = h("span", "ellipsis");
  const bar = progress("bar");
  const count = h("span", "count");
  const actions = jobButtons(view, first.key);
  // Elsewhere than the others: a click on Cancel that comes too late must not hit it.
  const retry = jobButtons(view, first.key);
  const word = h("span", "word");
  const facts = h("span", "facts");
  const note = h("span", "note");
  const drawFacts = keyed(facts, kindOf, () => {
    const fact = h("span", "fact");
    let room = 5;
    return { node: fact, draw: (said) => {
      text(fact, said);
      room = roomFor(said, room);
      style(fact, "min-width", `${room}ch`);
    } };
  });
  const node = h("div", "job", h("div", "name", shape.node, name), bar.node, count, actions.node,
    h("div", "under", word, facts, note, retry.node));
  return { node, draw: (row, place) => {
    shape.draw(outcome(row));
    // A tone is a job's number, as in the timeline.
    const tone = Number.isNaN(Number(row.key)) ? place : Number(row.key) % TONES;
    if (view.kind === "dashboard") style(node, "--aiopool-part", `var(--aiopool-tone-${tone % TONES})`);
    text(name, row.name);
    attr(name, "title", row.name);
    const over = !["running", "paused", "unheard"].includes(row.state);
    bar.draw(row.name, over && row.fraction === null ? 1 : row.fraction, row.failed, row.count);
    flag(bar.node, "still", row.state === "paused" || row.state === "unheard");
    flag(bar.node, "over", over);
    text(count, row.count);
    actions.draw(row, row.buttons.filter((action) => action !== "retry"));
    retry.draw(row, row.buttons.filter((action) => action === "retry"));
    show(word, row.word !== "running");
    text(word, row.word);
    attr(word, "data-state", row.state);
    drawFacts(row.facts);
    text(note, row.note);
    attr(note, "title", row.note || null);
  } };
}

/** All rows of jobs. Their columns are as wide as the longest text was: they only grow, and no row measures another. */
export function jobList(view) {
  const node = h("div", "list");
  const draw = keyed(node, (row) => row.key, (row) => jobRow(view, row));
  let name = 0;
  let count = 6;
  return { node, draw: (rows) => {
    for (const row of rows) {
      name = Math.max(name, Math.min(26, row.name.length));
      count = roomFor(row.count, count);
    }
    // Bold letters are wider than the digit that is the measure.
    style(node, "--aiopool-name", `${name * 1.15 + 1}ch`);
    style(node, "--aiopool-count", `${count}ch`);
    draw(rows);
  } };
}

/** A job in which items have failed is done, but nobody should take it for well. */
const outcome = (row) => row.state === "done" && row.failed > 0 ? "flawed" : row.state;

/** What is left of a job: one line. */
export function jobLine(view, first) {
  const shape = mark();
  const summary = h("span", "summary");
  const actions = jobButtons(view, first.key);
  const node = h("div", "line", shape.node, summary, actions.node);
  return { node, draw: (row) => {
    shape.draw(outcome(row));
    text(summary, row.summary);
    attr(summary, "title", row.summary);
    actions.draw(row);
  } };
}
