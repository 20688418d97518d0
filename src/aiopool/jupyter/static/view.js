// Draws what ../state.py describes: the panel under a cell, or the dashboard of a pool.
//
// Python formats, this draws. Each state is whole, so one that is lost does no harm; nodes are kept, and only what
// differs from the last state is written, in an animation frame. Whatever the state says reaches the page as data of
// text nodes or as values of attributes that hold no code, never as markup.
//
// A widget's script is one text: ../front.py puts these modules together.

import { flag, h, show } from "./nodes.js";
import { Clicks } from "./clicks.js";
import { panel } from "./panel.js";
import { dashboard } from "./dashboard.js";
import { ended, goesOn, unheard } from "./ended.js";
import { whenEnded } from "./kernel.js";
import { keep } from "./saved.js";

const SILENT_AFTER = 5000; // milliseconds without a new state of jobs that run until that is said
const ROWS = 200; // drawn in a second at most, of jobs and workers: a few of them as often as they come, many more rarely
const AWAY_AFTER = 60_000; // milliseconds of a hidden page until the dashboard says so
const BEAT = 30_000; // milliseconds between two times that a dashboard says that it is there

/** Whether what stands behind a node is dark: which theme it is has a different name in every front end. */
function isDark(node) {
  for (let one = node; one; one = one.parentElement) {
    const parts = getComputedStyle(one).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
    if (parts.length >= 3 && (parts[3] ?? 1) > 0.5) return 0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2] < 128;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

class View {
  id = Math.random().toString(36).slice(2);
  kind = "";
  open = true;
  awake = true;
  silent = false;
  #frame = 0;
  #timer = 0;
  #next = 0;
  #silence = 0;
  #away = 0;
  #beat = 0;
  #told = false;
  #over = new AbortController();
  #themes = [];
  #picture = null;

  constructor(model, el, clicks) {
    this.model = model;
    this.el = el;
    this.clicks = clicks;
    this.root = h("div", "aiopool");
    el.classList.add("aiopool-host");
    el.append(this.root);
    this.ask = this.ask.bind(this);
    this.listen = this.listen.bind(this);
    model.on("change:state", this.listen);
    model.on("change:details", this.ask);
    clicks.views.add(this);
    this.#followTheme();
    this.on(document, "visibilitychange", () => this.#turned());
    this.on(window, "pagehide", () => this.#look(false));
    this.on(window, "pageshow", () => this.#look(!document.hidden));
    this.#turned();
    this.draw();
    this.listen();
  }

  /** Whether there is nobody, as far as is known, who would hear a click. */
  get deaf() {
    return this.silent || this.clicks.gone;
  }

  /** A new state is there. As long as jobs run another must follow: the time in it goes on. */
  listen() {
    this.silent = false;
    clearTimeout(this.#silence);
    if (goesOn(this.model.get("state"))) this.#silence = setTimeout(() => {
      this.silent = true;
      this.ask();
    }, SILENT_AFTER);
    this.ask();
  }

  /** There is something new: draw it as soon as it is time. */
  ask() {
    if (this.#frame || this.#timer) return;
    const wait = this.#next - performance.now();
    if (wait <= 0) this.hurry();
    else this.#timer = setTimeout(() => this.hurry(), wait);
  }

  /** Somebody has clicked: draw with the next frame. */
  hurry() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.#frame = 0;
    const [state, details] = [this.model.get("state"), this.model.get("details") ?? {}];
    const nothing = !state?.kind || state.visible === false;
    show(this.root, !nothing);
    flag(this.el, "aiopool-empty", nothing);
    if (nothing) return;
    this.clicks.settle(state);
    if (this.kind !== state.kind) {
      this.kind = state.kind;
      this.#picture = state.kind === "dashboard" ? dashboard(this) : panel(this);
      this.root.replaceChildren(...this.#picture.nodes);
      this.theme();
      this.#look(this.awake);
    }
    const shown = this.clicks.gone ? ended(state) : this.silent ? unheard(state) : state;
    const rows = this.#picture.draw(shown, details);
    this.#next = performance.now() + (1000 * rows) / ROWS - 20;
  }

  click(message) {
    this.clicks.send(this.model, message);
  }

  /** Listen as long as the view is there. */
  on(target, event, callback) {
    target.addEventListener(event, callback, { signal: this.#over.signal });
  }

  onEnd(callback) {
    this.#over.signal.addEventListener("abort", callback);
  }

  onTheme(callback) {
    this.#themes.push(callback);
  }

  theme() {
    const was = this.root.style.colorScheme;
    this.root.style.colorScheme = "";
    this.root.style.colorScheme = isDark(this.root) ? "dark" : "light";
    if (was !== this.root.style.colorScheme) for (const callback of this.#themes) callback();
  }

  #followTheme() {
    const look = () => this.theme();
    const changes = new MutationObserver(look);
    for (const node of [document.documentElement, document.body]) changes.observe(node, { attributes: true });
    // A view is drawn before it is put into the page, where there is nothing behind it yet.
    const placed = new ResizeObserver(look);
    placed.observe(this.root);
    this.on(matchMedia("(prefers-color-scheme: dark)"), "change", look);
    this.onEnd(() => [changes, placed].forEach((each) => each.disconnect()));
  }

  /** The page was hidden, or is seen again. */
  #turned() {
    clearTimeout(this.#away);
    if (document.hidden) this.#away = setTimeout(() => this.#look(false), AWAY_AFTER);
    else this.#look(true);
  }

  /** Tell the kernel whether this dashboard is looked at; again and again, for a browser may vanish without a word. */
  #look(awake) {
    this.awake = awake;
    const seen = awake && this.kind === "dashboard";
    if (seen === this.#told) return;
    this.#told = seen;
    clearInterval(this.#beat);
    const tell = () => this.clicks.tell(this.model, { action: seen ? "shown" : "hidden", view: this.id });
    if (seen) this.#beat = setInterval(tell, BEAT);
    tell();
  }

  end() {
    for (const timer of [this.#timer, this.#silence, this.#away]) clearTimeout(timer);
    cancelAnimationFrame(this.#frame);
    // A frame asked for from now on is never drawn.
    this.#frame = -1;
    this.model.off("change:state", this.listen);
    this.model.off("change:details", this.ask);
    this.#over.abort();
    this.clicks.views.delete(this);
    this.#look(false);
    this.root.remove();
  }
}

// One of these per model: its views share the count of clicks and the fold.
export default () => {
  const clicks = new Clicks();
  return {
    initialize({ model }) {
      const hear = () => clicks.hear();
      model.on("change:state", hear);
      const ends = [whenEnded(model, () => clicks.lose()), keep(model, clicks), () => model.off("change:state", hear)];
      return () => ends.forEach((end) => end());
    },
    render({ model, el }) {
      const view = new View(model, el, clicks);
      return () => view.end();
    },
  };
};
