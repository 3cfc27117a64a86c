// Runs of jobs as people read them: how they are, when, for how long, of what. A list of them, paged.

import { ask, errorBox } from "./api.js";
import { h, put, setText } from "./dom.js";
import { brief, moment, valueText } from "./format.js";
import { keyedRows, keyedTable } from "./keyed.js";

const PAGE = 20;
const ERROR_CHARS = 120; // the run's page says all

const LEVELS = { WAITING: "off", STARTED: "live", COMPLETED: "good", EMPTY: "good", FAILED: "bad", STOPPED: "warn" };

/** The colour of a status; exit statuses of the user's own are good ones. */
export const level = (status) => LEVELS[status] ?? "good";

const WORDS = { WAITING: "waiting", STARTED: "running", COMPLETED: "completed", FAILED: "failed", STOPPED: "stopped", EMPTY: "nothing to do" };

/** A status in words. */
export const statusWord = (status) => WORDS[status] ?? status;

/** How a run is, in words. */
export const runWord = (run) => (run.status === "STARTED" && run.stop_asked ? "stopping" : run.died ? "died" : statusWord(run.status));

/** How long something took, or has taken by now. */
export const took = (each, nowUs) => Math.max(0, (each.ended_us ?? nowUs) - each.started_us);

/** Parameters on one line. */
export const parametersText = (parameters) => Object.entries(parameters).map(([name, value]) => `${name}=${valueText(value)}`).join(" ");

/** The address of a run's page. */
export const runHref = (run) => `#/run/${run}`;

/** A word with its colour; returns its element, and how to change it. */
export function statusMark() {
  const element = h("span", { class: "status" });
  return [
    element,
    (status, words = statusWord(status)) => {
      element.dataset.level = level(status);
      setText(element, words);
    },
  ];
}

/** A list of runs, the newest first, with older ones on demand. `path()` says which are asked for. Returns {element, load}. */
export function runsList(caption, path, { withJob = true } = {}) {
  const columns = ["Run", ...(withJob ? ["Job"] : []), "Parameters", "How it is", "Began", "Took", "Because of", "Error"];
  const table = keyedTable(caption, columns, { numbers: ["Run"] });
  const nothing = h("p", { class: "quiet", hidden: true }, "No runs yet.");
  const problem = h("div");
  const newest = h("button", { type: "button", hidden: true, onclick: () => turn(null) }, "Newest runs");
  const older = h("button", { type: "button", hidden: true, onclick: () => turn(last) }, "Older runs");
  const element = h("div", {}, problem, table.element, nothing, h("p", { class: "foot buttons" }, newest, older));
  const show = keyedRows(table.body, (run) => run.id, () => line(withJob));
  let before = null; // the page: older than this run
  let last = null;
  let asked = 0;

  function turn(to) {
    before = to;
    void load();
  }

  async function load() {
    const now = (asked += 1);
    try {
      const page = before === null ? "" : `&before=${before}`;
      const answer = await ask(`${path()}limit=${PAGE}${page}`, { exact: true });
      if (now !== asked) return; // another page was asked for meanwhile
      put(problem);
      show(answer.runs);
      last = answer.runs.at(-1)?.id ?? null;
      older.hidden = !answer.more;
      newest.hidden = before === null;
      nothing.hidden = answer.runs.length > 0;
      table.element.hidden = !nothing.hidden;
    } catch (error) {
      if (now === asked && error.status !== undefined) put(problem, errorBox(error));
    }
  }

  return { element, load, reset: () => turn(null) };
}

const cut = (text) => (text.length > ERROR_CHARS ? `${text.slice(0, ERROR_CHARS)}…` : text);

function line(withJob) {
  const link = h("a", {});
  const [mark, showMark] = statusMark();
  const cells = Array.from({ length: 6 }, () => h("td"));
  const [job, parameters, began, length, trigger, error] = cells;
  parameters.className = "texts";
  error.className = "words";
  const element = h("tr", {}, h("td", { class: "number" }, link), withJob ? job : null, parameters, h("td", {}, mark), began, length, trigger, error);
  return {
    element,
    show(run) {
      link.href = runHref(run.id);
      setText(link, String(run.id));
      setText(job, run.job);
      setText(parameters, parametersText(run.parameters));
      showMark(run.status, runWord(run));
      setText(began, moment(run.started_us));
      setText(length, brief(took(run, run.heartbeat_us)));
      setText(trigger, run.trigger);
      setText(error, cut((run.error ?? "").split("\n")[0]));
      element.dataset.level = level(run.status);
    },
  };
}
