// Elements of the page: made, kept, and written only where something differs from what was written last.

/** An element; a plain object among the children is its attributes. */
export function h(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (tag === "button") node.type = "button";
  for (const child of children) {
    if (child.constructor !== Object) node.append(child);
    else for (const [name, value] of Object.entries(child)) node.setAttribute(name, value);
  }
  return node;
}

export function changed(node, what, value) {
  const key = `aiopool_${what}`;
  if (node[key] === value) return false;
  node[key] = value;
  return true;
}

export function text(node, value) {
  if (!changed(node, "text", value)) return;
  // To change a text node costs less than to replace it.
  if (node.firstChild) node.firstChild.data = value;
  else node.append(value);
}

export function attr(node, name, value) {
  if (!changed(node, name, value)) return;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

export function style(node, name, value) {
  if (changed(node, name, value)) node.style.setProperty(name, value);
}

export function flag(node, name, on) {
  if (changed(node, `is_${name}`, on)) node.classList.toggle(name, on);
}

export function show(node, on) {
  if (changed(node, "shown", on)) node.hidden = !on;
}

/** How many digits wide a text is, about: commas, points and blanks are half as wide. */
const digits = (value) => value.length - value.replace(/[^ ,.:/]/g, "").length / 2;

/** The room for a text that had `room` before: it only grows, by a digit more than is needed, so that little moves. */
export const roomFor = (value, room) => (digits(value) > room ? digits(value) + 1 : room);

/** Keep one item `{node, draw}` per key in `parent`, in the order of the rows. */
export function keyed(parent, keyOf, make) {
  const items = new Map();
  return (rows, ...more) => {
    const keys = new Map();
    // Two pools may have a worker 0 each.
    for (const row of rows) {
      let key = keyOf(row);
      while (keys.has(key)) key = `${key}'`;
      keys.set(key, row);
    }
    // What has gone leaves first: to move the others past it would take the focus from them.
    for (const [key, item] of items) {
      if (keys.has(key)) continue;
      item.node.remove();
      items.delete(key);
    }
    let next = parent.firstChild;
    let place = 0;
    for (const [key, row] of keys) {
      if (!items.has(key)) items.set(key, make(row));
      const item = items.get(key);
      if (item.node === next) next = next.nextSibling;
      else parent.insertBefore(item.node, next);
      item.draw(row, place, ...more);
      place += 1;
    }
  };
}

/** A state is told by shape as well as by colour and word. */
const SHAPES = {
  dot: "M6 2a4 4 0 1 0 0 8a4 4 0 1 0 0-8z",
  ring: "M6 2a4 4 0 1 0 0 8a4 4 0 1 0 0-8zM6 4a2 2 0 1 1 0 4a2 2 0 1 1 0-4z",
  half: "M6 2a4 4 0 1 0 0 8zM6.9 2.1a4 4 0 0 1 0 7.8l-.4-.9a3 3 0 0 0 0-6z",
  triangle: "M6 1.2L11 10.4H1z",
  square: "M2 2h8v8H2z",
  diamond: "M6 .8L11.2 6L6 11.2L.8 6zM6 3.4L3.4 6L6 8.6L8.6 6z",
  cross: "M2.9 1.5L6 4.6L9.1 1.5L10.5 2.9L7.4 6L10.5 9.1L9.1 10.5L6 7.4L2.9 10.5L1.5 9.1L4.6 6L1.5 2.9z",
  check: "M1.2 6.4L2.7 4.9L4.9 7.1L9.5 2.3L11 3.8L4.9 10.1z",
  bars: "M2.5 2h2.6v8H2.5zM6.9 2h2.6v8H6.9z",
};
const STATE_SHAPES = {
  running: "dot", unheard: "ring", paused: "bars", done: "check", failed: "cross", cancelled: "square", stopped: "square",
  flawed: "triangle", starting: "half", idle: "ring", busy: "dot", blocked: "triangle", stuck: "square", retiring: "diamond", lost: "cross",
};

export function mark() {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("fill-rule", "evenodd");
  const node = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  node.setAttribute("viewBox", "0 0 12 12");
  node.setAttribute("class", "mark");
  node.append(path);
  return { node, draw: (state, label = null) => {
    // Where a word stands beside it, it is not read out.
    attr(node, "role", label && "img");
    attr(node, "aria-label", label);
    attr(node, "aria-hidden", label ? null : "true");
    attr(path, "d", SHAPES[STATE_SHAPES[state] ?? "dot"]);
    attr(node, "data-state", state);
  } };
}
