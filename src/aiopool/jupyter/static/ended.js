// What is left to show when the kernel has ended, or seems to: nobody is there to say it.

const NOW = /(\/(ms|s|min|h|d)| left| in flight| open)$/; // facts that hold only while a job runs
const LINE = "The kernel has ended.";
const WITH = "ended with the kernel";

const runs = (row) => row.state === "running" || row.state === "paused";

/** Whether there must be news soon: the time of a job that runs goes on. */
export const goesOn = (state) => state?.kind === "dashboard" ? state.open && state.jobs.some(runs) : Boolean(state?.live);

/** Whether it shows something that ends with the kernel: jobs that run, a pool that is open. */
export const holds = (state) => state?.visible !== false && Boolean(state?.kind === "dashboard" ? state.open : state?.live);

const still = (state, word, jobState) => state.jobs.map((row) => !runs(row) ? row
  : { ...row, state: jobState, word, note: "", facts: row.facts.filter((fact) => !NOW.test(fact)) });

/** A state of which it is not known whether it still holds. */
export const unheard = (state) => ({ ...state, open: false, jobs: still(state, "no news", "unheard") });

/** A state that was the last. */
export function ended(state) {
  const wanted = state.kind === "dashboard" ? state.open : state.jobs.some((row) => row.buttons.length || runs(row));
  const nothing = { state: "idle", word: "ended", in_flight: "", item: "", age: "", cpu: "", memory: "", lag: "", fraction: null, text: "" };
  const workers = holds(state);
  return { ...state, open: false, note: "", lost: wanted ? LINE : "", workers_title: "",
    title: workers ? WITH : state.title, jobs: still(state, WITH, "stopped"),
    workers: workers ? state.workers.map((row) => ({ ...row, ...nothing })) : state.workers };
}

const escaped = (value) => value.replace(/\x1b\[[\d;:]*m/g, "").replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const folded = (title, body) => `<details><summary>${escaped(title)}</summary><pre style="white-space:pre-wrap">${escaped(body)}</pre></details>`;
const told = (row) => `${row.name}: ${[WITH, row.count.trim(), ...row.facts].join(", ")}`;

/** The same for a notebook that is saved, as ../page.py writes it of a kernel that lives. */
export function endedPage(state, details) {
  const last = ended(state);
  const lines = last.jobs.map((row, place) => runs(state.jobs[place]) ? told(row) : row.summary).concat(state.more).filter(Boolean);
  if (state.kind === "dashboard") lines.unshift(`Pool ${state.name}: ${last.title}`);
  const failures = (state.failures ?? []).map((row) => [`${row.title}, ${row.where}: ${row.message}`,
    [...row.inputs, row.more, details[row.key] ?? ""].filter(Boolean).join("\n")]);
  const printed = (state.prints ?? []).map((row) => `[${row.label}] ${row.text}`).join("\n");
  const parts = [...lines.map((line) => `<div>${escaped(line)}</div>`), ...failures.map(([title, body]) => folded(title, body))];
  if (printed) parts.push(folded("the last lines of workers", printed));
  return { "text/html": `<div style="margin:0.2em 0">${parts.join("")}</div>`,
    "text/plain": [...lines, ...failures.map(([title]) => `  ${title}`)].join("\n") };
}
