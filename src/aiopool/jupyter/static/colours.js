// A text with a terminal's colours, as spans.

import { changed, h, text } from "./nodes.js";

// A sequence that sets the style; any other sequence, or a control character: these are left out.
const ESCAPES = /\x1b\[([\d;:]*)m|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?|[\0-\x08\x0b-\x1f\x7f-\x9f]/g;
const STYLES = { 1: ["bold", true], 2: ["dim", true], 3: ["italic", true], 4: ["underline", true], 22: ["bold", false],
  23: ["italic", false], 24: ["underline", false], 39: ["front", null], 49: ["back", null] };

/** The nearest of the sixteen basic colours, which follow the theme. */
function basicColour(codes) {
  if (codes.shift() === 2) return nearest(codes.splice(0, 3).map((part) => part / 255));
  const number = codes.shift() ?? 7;
  if (number < 16) return number;
  if (number > 231) return number < 244 ? 8 : 7;
  const cube = number - 16;
  return nearest([Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((part) => part / 5));
}

function nearest([red, green, blue]) {
  const top = Math.max(red, green, blue);
  if (!(top > 0.2)) return 0;
  return [red, green, blue].reduce((sum, part, bit) => sum + (part > top * 0.6 ? 1 << bit : 0), 0);
}

function restyle(now, codes) {
  while (codes.length) {
    const code = codes.shift();
    if (code === 0) for (const key of Object.keys(now)) delete now[key];
    else if (code === 38) now.front = basicColour(codes);
    else if (code === 48) now.back = basicColour(codes);
    else if (code >= 30 && code <= 37) now.front = code - 30;
    else if (code >= 90 && code <= 97) now.front = code - 82;
    else if (code >= 40 && code <= 47) now.back = code - 40;
    else if (code >= 100 && code <= 107) now.back = code - 92;
    else if (STYLES[code]) now[STYLES[code][0]] = STYLES[code][1];
    if (code === 22) now.dim = false;
  }
}

/** Write a text with the colours of a terminal, as spans. */
export function coloured(node, value) {
  if (!changed(node, "coloured", value)) return;
  const parts = [];
  const now = {};
  const add = (piece) => {
    if (!piece) return;
    const classes = ["bold", "dim", "italic", "underline"].filter((name) => now[name]);
    if (now.front != null) classes.push(`front-${now.front}`);
    if (now.back != null) classes.push(`back-${now.back}`);
    parts.push(classes.length ? h("span", classes.join(" "), piece) : piece);
  };
  let start = 0;
  for (const found of value.matchAll(ESCAPES)) {
    add(value.slice(start, found.index));
    start = found.index + found[0].length;
    if (found[1] !== undefined) restyle(now, found[1].split(/[;:]/).map(Number));
  }
  add(value.slice(start));
  node.replaceChildren(...parts);
}
