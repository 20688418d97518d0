// What the workers of a pool did in the last minutes: a row per worker, a block per item or batch.

import { attr, h, show, text } from "./nodes.js";
import { TONES } from "./jobs.js";

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const GUTTER = 28;
const TOP = 4;

function ago(seconds) {
  if (seconds === 0) return "now";
  if (seconds < 60) return `−${seconds} s`;
  return seconds % 60 ? `−${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : `−${seconds / 60} min`;
}

export function timeline(view) {
  const canvas = h("canvas", "", { role: "img" });
  const tip = h("div", "tip", { hidden: "" });
  const probe = h("i", "unseen");
  const node = h("section", "timeline", canvas, tip, probe);
  let colours = null;
  let state = null;
  let rows = [];
  let high = 0;

  function measure() {
    const workers = new Set(state.workers.map((row) => row.index));
    for (const block of state.blocks) workers.add(block.worker);
    rows = [...workers].sort((one, other) => one - other);
    high = Math.max(5, Math.min(18, Math.floor(320 / Math.max(1, rows.length))));
  }

  /** The theme's colours, as a canvas takes them. */
  function read() {
    const names = [...Array(TONES).keys()].map((tone) => `tone-${tone}`);
    return Object.fromEntries([...names, "text-2", "track", "bad", "back"].map((name) => {
      probe.style.color = `var(--aiopool-${name})`;
      return [name, getComputedStyle(probe).color];
    }));
  }

  function prepare(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== down) {
      Object.assign(canvas, { width: across, height: down });
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  function hatch(pen) {
    const tile = new OffscreenCanvas(6, 6);
    const brush = tile.getContext("2d");
    brush.lineWidth = 2.2;
    brush.strokeStyle = colours.back;
    for (const shift of [-6, 0, 6]) {
      brush.moveTo(shift - 1, 7);
      brush.lineTo(shift + 7, -1);
    }
    brush.stroke();
    return pen.createPattern(tile, "repeat");
  }

  function paint() {
    const width = node.clientWidth;
    if (!state || !width) return;
    colours ??= read();
    const pen = prepare(width, TOP + rows.length * high + 20);
    const scale = (width - GUTTER) / state.span;
    const place = new Map(rows.map((worker, row) => [worker, TOP + row * high]));
    const gap = high > 7 ? 2 : 1;
    pen.fillStyle = colours.track;
    for (const top of place.values()) pen.fillRect(GUTTER, top, width - GUTTER, high - gap);
    const paths = new Map();
    for (const block of state.blocks) {
      const right = Math.min(width, width - (block.end * scale));
      const left = Math.max(GUTTER, width - block.start * scale);
      if (right < GUTTER) continue;
      const key = block.failed ? -1 : block.tone % TONES;
      if (!paths.has(key)) paths.set(key, new Path2D());
      const wide = Math.max(1, right - left - (right - left > 3 ? 0.6 : 0));
      paths.get(key).rect(left, place.get(block.worker), wide, high - gap);
    }
    // What failed is drawn last: it may lie in the middle of what did not.
    for (const [key, path] of [...paths].sort(([one], [other]) => other - one)) {
      pen.fillStyle = key < 0 ? colours.bad : colours[`tone-${key}`];
      pen.fill(path);
      if (key >= 0) continue;
      pen.fillStyle = hatch(pen);
      pen.fill(path);
    }
    axis(pen, width, scale);
  }

  function axis(pen, width, scale) {
    Object.assign(pen, { fillStyle: colours["text-2"], textAlign: "right", textBaseline: "middle",
      font: `11px ${getComputedStyle(node).fontFamily}` });
    const every = Math.ceil(12 / high);
    rows.forEach((worker, row) => {
      if (row % every === 0) pen.fillText(String(worker), GUTTER - 8, TOP + row * high + high / 2);
    });
    const step = STEPS.find((one) => one * scale >= 90) ?? state.span;
    const bottom = TOP + rows.length * high;
    for (let seconds = 0; seconds <= state.span; seconds += step) {
      const across = width - seconds * scale;
      pen.textAlign = seconds === 0 ? "right" : across < GUTTER + 20 ? "left" : "center";
      pen.fillRect(Math.min(width - 1, Math.round(across)), bottom, 1, 4);
      pen.fillText(ago(seconds), across, bottom + 12);
    }
  }

  function find(across, down) {
    const worker = rows[Math.floor((down - TOP) / high)];
    const scale = (node.clientWidth - GUTTER) / state.span;
    const seconds = (node.clientWidth - across) / scale;
    // A block is at least a pixel wide on the screen.
    const near = 1 / scale;
    return state.blocks.findLast(
      (block) => block.worker === worker && seconds <= block.start + near && seconds >= block.end - near);
  }

  canvas.addEventListener("pointermove", (event) => {
    const block = state && event.offsetX >= GUTTER ? find(event.offsetX, event.offsetY) : undefined;
    tip.hidden = !block;
    if (!block) return;
    text(tip, block.title);
    const room = node.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, event.offsetX + 12))}px`;
    tip.style.top = `${event.offsetY + 16}px`;
  });
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  const resized = new ResizeObserver(() => requestAnimationFrame(paint));
  resized.observe(node);
  view.onTheme(() => {
    colours = null;
    requestAnimationFrame(paint);
  });
  view.onEnd(() => {
    resized.disconnect();
    state = null;
  });
  return { node, draw: (whole) => {
    state = whole;
    measure();
    attr(canvas, "aria-label", `Timeline of the last ${Math.round(whole.span)} seconds, a row per worker`);
    show(node, rows.length > 0);
    paint();
  } };
}
