// Buttons.

import { attr, changed, flag, h, text } from "./nodes.js";

/** A button that shows at once that it was pressed, and is deaf until that was answered. */
export function button(label, press, className = "") {
  const node = h("button", className, label);
  node.addEventListener("click", () => {
    if (node.getAttribute("aria-disabled") !== "true") press();
  });
  return { node, draw: (pressed, off = false) => {
    flag(node, "pressed", pressed);
    attr(node, "aria-disabled", pressed || off ? "true" : null);
  } };
}

export function copyButton(label, textOf) {
  const node = h("button", "quiet", { "aria-label": label }, "Copy");
  let back = 0;
  node.addEventListener("click", async () => {
    text(node, (await copy(textOf(), node)) ? "Copied" : "Not allowed");
    clearTimeout(back);
    back = setTimeout(() => text(node, "Copy"), 1500);
  });
  changed(node, "text", "Copy");
  return node;
}

/** Copy; where the page may not use the clipboard, as over plain http, through a selection. */
async function copy(value, near) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    const field = h("textarea", "unseen");
    field.value = value;
    near.after(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    near.focus();
    return done;
  }
}

export function toggle(label, onChange, className = "toggle") {
  const node = h("button", className, { "aria-expanded": "false" }, label);
  node.addEventListener("click", () => {
    const open = node.getAttribute("aria-expanded") === "false";
    node.setAttribute("aria-expanded", String(open));
    onChange(open);
  });
  return node;
}
