// The last lines that workers have printed.

import { h, show, text } from "./nodes.js";
import { coloured } from "./colours.js";

const samePrint = (one, other) => one.text === other.text && one.label === other.label && one.error === other.error;

/** By how many lines `before` has moved up to become the beginning of `after`. */
function moved(before, after) {
  for (let by = 0; by < before.length; by += 1) {
    const rest = before.length - by;
    if (rest <= after.length && before.slice(by).every((one, place) => samePrint(one, after[place]))) return by;
  }
  return before.length;
}

export function printBox() {
  const lines = h("div", "lines", { tabindex: "0", role: "group", "aria-label": "Printed by workers" });
  const dropped = h("div", "dropped");
  const node = h("section", "prints", h("div", "title", "Printed"), lines, dropped);
  let before = [];
  let follows = true;
  lines.addEventListener("scroll", () => {
    follows = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
  });
  return { node, draw: (rows, said) => {
    show(node, rows.length > 0 || said !== "");
    text(dropped, said);
    show(dropped, said !== "");
    const gone = moved(before, rows);
    const kept = before.length - gone;
    for (let place = 0; place < gone; place += 1) lines.firstChild.remove();
    for (const row of rows.slice(kept)) {
      const words = h("span", "words");
      coloured(words, row.text);
      const line = h("div", row.error ? "print error" : "print", h("span", "label", `[${row.label}] `), words);
      if (row.error) line.firstChild.append(h("span", "stderr", "stderr "));
      lines.append(line);
    }
    if (follows && (gone || rows.length > kept)) lines.scrollTop = lines.scrollHeight;
    before = rows;
  }, appear: () => {
    if (follows) lines.scrollTop = lines.scrollHeight;
  } };
}
