// All jobs: when they begin, how their last runs went, and a form to start one; then the runs of all.

import { ask, errorBox } from "../api.js";
import { empty, h, put, section, setText, svg } from "../dom.js";
import { brief, many, moment } from "../format.js";
import { keyedRows, keyedTable } from "../keyed.js";
import { level, parametersText, runHref, runWord, runsList, statusMark, took } from "../runs.js";
import { mayWrite } from "../session.js";
import { openStartForm } from "../start_form.js";

const STATUSES = { STARTED: "running", COMPLETED: "completed", FAILED: "failed", STOPPED: "stopped" };
const BARS = 20;
const BAR_WIDTH = 6;
const BAR_HEIGHT = 24;

export function open(root, { query }) {
  const problem = h("div");
  const note = h("p", { class: "note", hidden: true });
  const table = keyedTable("Jobs", ["Job", "Start", "Last runs", "The last one", "Next", "Begins"]);
  const nothing = empty(
    "No jobs are declared.",
    h("p", {}, "A job reads something to its end, a chunk at a time:"),
    h("pre", {}, '@app.job\ndef load(day: date):\n    return chunk("copy", read=f"orders/{day}.csv", write="log:orders")'),
  );
  nothing.hidden = true;
  const job = h("select", { "aria-label": "Job", onchange: () => runs.reset() }, h("option", { value: "" }, "All jobs"));
  const status = h("select", { "aria-label": "How it is", onchange: () => runs.reset() }, h("option", { value: "" }, "All runs"), Object.entries(STATUSES).map(([value, words]) => h("option", { value }, words)));
  const runs = runsList("Runs", () => `jobs/runs?${job.value ? `job=${encodeURIComponent(job.value)}&` : ""}${status.value ? `status=${status.value}&` : ""}`);
  put(root, h("div", { class: "title" }, h("h1", {}, "Jobs")), note, problem, section("What there is", table.element, nothing), section("Runs", h("div", { class: "filter" }, job, status), runs.element));

  let now = null; // the last answer
  let names = "";
  let wanted = query.get("job");
  let isAsking = false;
  let dialog = null;
  const show = keyedRows(table.body, (each) => each.name, () => line(() => now, (found) => (dialog = openStartForm(found))));

  async function update() {
    void runs.load();
    if (isAsking) return;
    isAsking = true;
    try {
      now = await ask("jobs", { exact: true });
      put(problem);
      draw();
    } catch (error) {
      if (error.status !== undefined) put(problem, errorBox(error));
    }
    isAsking = false;
  }

  function draw() {
    nothing.hidden = now.jobs.length > 0;
    table.element.hidden = !nothing.hidden;
    note.hidden = mayWrite() && now.begins_here;
    setText(note, mayWrite() ? "Another process begins the runs of this data folder: here they can be looked at, and stopped." : "To start, stop or restart runs you need the role writer.");
    const all = JSON.stringify(now.jobs.map((each) => each.name));
    if (all !== names) {
      names = all;
      const chosen = wanted ?? job.value;
      wanted = null;
      put(job, h("option", { value: "" }, "All jobs"), now.jobs.map((each) => h("option", { value: each.name, selected: each.name === chosen }, each.name)));
      void runs.load();
    }
    show(now.jobs);
  }

  return { title: "Jobs", update, close: () => dialog?.close() };
}

function line(answer, start) {
  let job = null;
  const name = h("a", {});
  const description = h("span", { class: "reason note" });
  const begins = h("td", { class: "words" });
  const next = h("td");
  const bars = svg("svg", { class: "run-bars", width: BARS * (BAR_WIDTH + 2), height: BAR_HEIGHT, "aria-hidden": "true" });
  const last = h("a", {});
  const [mark, showMark] = statusMark();
  const button = h("button", { type: "button", onclick: () => start(job) }, "Start…");
  const element = h("tr", {}, h("th", { scope: "row" }, name, description), h("td", {}, button), h("td", {}, bars), h("td", {}, mark, " ", last), next, begins);
  let drawn = "";
  return {
    element,
    show(found) {
      job = found;
      const { begins_here: isHere, now_us: nowUs } = answer();
      button.disabled = !mayWrite() || !isHere;
      button.setAttribute("aria-label", `Start ${job.name}`);
      const now = JSON.stringify(found);
      if (now === drawn) return;
      drawn = now;
      setText(name, job.name);
      name.href = `#/jobs?job=${encodeURIComponent(job.name)}`;
      setText(description, job.description);
      put(begins, job.schedules.length ? job.schedules.map(scheduleLine) : h("span", { class: "quiet" }, "by hand"));
      const times = job.schedules.map((each) => each.next_us).filter((each) => each !== null);
      setText(next, times.length ? moment(Math.min(...times)) : "–");
      drawBars(bars, job.last_runs, nowUs);
      const [newest] = job.last_runs;
      if (!newest) return setText(mark, "never ran");
      showMark(newest.status, runWord(newest));
      last.href = runHref(newest.id);
      setText(last, `run ${newest.id}, ${moment(newest.started_us)}`);
    },
  };
}

function scheduleLine(schedule) {
  return h(
    "div",
    {},
    schedule.when,
    schedule.waiting ? h("span", { class: "note" }, `, ${many(schedule.waiting, "run")} waiting`) : null,
    schedule.trouble ? h("div", { class: "bad" }, schedule.trouble) : null,
  );
}

/** The last runs, the newest to the right: the longer, the higher. */
function drawBars(plot, runs, nowUs) {
  const longest = Math.max(1, ...runs.map((run) => took(run, nowUs)));
  put(
    plot,
    [...runs].reverse().map((run, index) => {
      const height = 6 + (BAR_HEIGHT - 6) * (took(run, nowUs) / longest);
      const x = (BARS - runs.length + index) * (BAR_WIDTH + 2);
      const words = `run ${run.id}: ${runWord(run)}, ${brief(took(run, nowUs))}\n${parametersText(run.parameters)}`;
      return svg("rect", { class: "gantt-bar", "data-level": level(run.status), x, y: BAR_HEIGHT - height, width: BAR_WIDTH, height, rx: 1 }, svg("title", {}, words));
    }),
  );
}
