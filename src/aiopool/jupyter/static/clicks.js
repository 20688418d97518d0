// What was clicked and waits for an answer.

const BUSY_AFTER = 1000; // milliseconds without an answer until the kernel is called busy
const REST = 60_000; // milliseconds between two times at most that a click is sent which nobody answers
const ON_THE_WAY = 1000; // milliseconds for which something may come from a kernel that has ended

/** The clicks of one model, whichever of its views they come from, what waits for an answer, and whether any can come. */
export class Clicks {
  views = new Set();
  gone = false;
  whenGone = () => {};
  #goneAt = 0;
  waiting = new Map();
  last = 0;
  #by = Math.random().toString(36).slice(2);

  send(model, message) {
    this.last = Math.max(this.last, model.get("state")?.ack ?? 0) + 1;
    // Of what can only be one way, the last word counts.
    if (message.action === "fold" || message.action === "resize") {
      for (const [click, one] of this.waiting) if (one.action === message.action) this.waiting.delete(click);
    }
    this.waiting.set(this.last, { ...message, click: this.last, at: performance.now() });
    this.#insist(model, { ...message, click: this.last, by: this.#by }, BUSY_AFTER);
    this.redraw();
  }

  /** Send it, and again, ever more rarely, as long as it is not answered; the kernel does each once.
   *
   *  JupyterLab makes a subshell for what the widgets of a kernel send, and what is sent before that is there goes to
   *  the main one, where it waits for the cell.
   */
  #insist(model, message, wait) {
    // As of a page from which it was scrolled away for a moment.
    if (this.views.size) this.tell(model, message);
    setTimeout(() => {
      this.redraw();
      if (this.gone || !this.waiting.has(message.click) || this.#isHeard(message.click, model.get("state"))) return;
      this.#insist(model, message, Math.min(2 * wait, REST));
    }, wait);
  }

  /** Whether the kernel has heard it. That of another page with the same number, or of a later one, says nothing. */
  #isHeard(click, state) {
    return state?.heard ? (state.heard[this.#by] ?? []).includes(click) : click <= (state?.ack ?? 0);
  }

  /** Send what needs no answer. It fails where the kernel has ended, and not every front end says so before. */
  tell(model, message) {
    if (this.gone) return;
    try {
      model.send(message);
    } catch {
      this.lose();
    }
  }

  /** The kernel has ended: nothing is answered any more, and how much is shown is a matter of this page alone. */
  lose() {
    for (const [click, one] of this.waiting) if (one.action !== "fold") this.waiting.delete(click);
    if (this.gone) return;
    this.gone = true;
    this.#goneAt = performance.now();
    this.whenGone();
    this.redraw();
  }

  /** News. Some may have been on the way when the kernel ended; what comes later is of one that is there. */
  hear() {
    if (performance.now() - this.#goneAt > ON_THE_WAY) this.gone = false;
  }

  redraw() {
    for (const view of this.views) view.hurry();
  }

  /** Forget what was answered. What it has changed may come a moment after: nothing jumps back until then. */
  settle(state) {
    for (const [click, one] of this.waiting) {
      const held = (one.action === "fold" && one.fold !== state.fold) || (one.action === "resize" && one.size !== state.size);
      if (this.#isHeard(click, state) && (!held || performance.now() - one.at > BUSY_AFTER)) this.waiting.delete(click);
    }
  }

  find(wanted) {
    const all = [...this.waiting.values()];
    return all.findLast((one) => Object.entries(wanted).every(([name, value]) => one[name] === value));
  }

  /** What to say of a kernel that has not answered. A job that no longer has the button needs no answer. */
  apology(state) {
    const late = [...this.waiting.values()].filter((one) => {
      if (this.#isHeard(one.click, state) || one.action === "fold" || performance.now() - one.at < BUSY_AFTER - 5) return false;
      return one.job === undefined || state.jobs.some((job) => job.key === one.job && job.buttons.includes(one.action));
    });
    if (!late.length) return "";
    if (late.some((one) => one.action === "cancel")) return "The kernel is busy. Press Stop (■) to cancel.";
    return "The kernel is busy: this happens when the cell ends.";
  }
}
