// One run of a job: its steps over time, how far it is, what its chunks did, what it said, and the other runs of its instance.

import { Problem, ask, errorBox } from "../api.js";
import { empty, figures, h, put, section, setText } from "../dom.js";
import { brief, count, moment, valueText } from "../format.js";
import { makeGantt } from "../gantt.js";
import { keyedRows, keyedTable } from "../keyed.js";
import { level, runHref, runWord, runsList, statusMark, statusWord, took } from "../runs.js";
import { mayWrite } from "../session.js";

const CHUNKS = 20;
const MESSAGES = 50;
const MESSAGES_MAX = 1_000;
const COUNTS = ["Chunks", "Read", "Filtered", "Written", "Skipped"];

export function open(root, { name: number }) {
  if (!/^\d{1,15}$/.test(number)) {
    put(root, empty(`There is no run ${number}.`, h("p", {}, h("a", { href: "#/jobs" }, "Go to the jobs"))));
    return { title: "Run" };
  }
  const path = `jobs/runs/${number}`;
  const job = h("h1", {}, `run ${number}`);
  const [mark, showMark] = statusMark();
  const said = h("p", { class: "note", role: "status" });
  const problem = h("div");
  const trouble = h("p", { class: "error trouble", role: "alert", hidden: true });
  const stop = h("button", { type: "button", hidden: true, onclick: () => void act("stop") }, "Stop");
  const restart = h("button", { type: "button", hidden: true, onclick: () => void act("restart") }, "Restart");
  const [facts, showFacts] = figures("Began", "Took", "Left", "Read", "Filtered", "Written", "Skipped", "Because of");
  const parameters = h("p", { class: "parameters" });
  const progress = progressPart();
  const gantt = makeGantt();
  const stepRows = stepsTable();
  const children = h("p", { class: "lineage", hidden: true });
  const chunks = chunksPart(path);
  const messages = messagesPart(path);
  const others = runsList("Runs of this instance", () => `jobs/runs?same_as=${number}&`, { withJob: false });
  const content = [
    h("div", { class: "title" }, h("p", { class: "kind-word" }, `run ${number}`), job, mark, h("span", { class: "buttons" }, stop, restart)),
    said, problem, parameters, trouble, facts, progress.element,
    section("Steps over time", gantt.element), section("Steps", h("div", { class: "tall" }, stepRows.element), children),
    h("div", { class: "columns" }, chunks.element, messages.element),
    section("Runs of this instance", others.element),
  ];
  put(root, h("p", { class: "loading" }, "Loading…"));
  let isShown = false;
  let prefix = ""; // what the labels of all parts begin with: the folder of files
  let isOver = false; // it has ended, and all of it is shown
  let isAsking = false;
  let isClosed = false;

  async function update() {
    if (isShown) void others.load();
    if (isAsking || isOver || isClosed) return;
    isAsking = true;
    try {
      const answer = await ask(path, { exact: true });
      prefix = commonFolder(answer.steps.flatMap((step) => step.parts.map((part) => part.part)));
      await Promise.all([chunks.load((part) => part.slice(prefix.length)), messages.load()]);
      if (!isClosed) show(answer);
    } catch (error) {
      if (!isClosed && error instanceof Problem) put(isShown ? problem : root, errorBox(error));
    }
    isAsking = false;
  }

  function show({ run, steps, children: begun, left_us: left, now_us: nowUs }) {
    if (!isShown) {
      put(root, content);
      void others.load();
    }
    isShown = true;
    const found = steps.map((step) => settled({ ...step, parts: step.parts.map((part) => settled({ ...part, label: part.part.slice(prefix.length) }, run)) }, run));
    isOver = run.status !== "STARTED";
    setText(job, run.job);
    showMark(run.status, runWord(run));
    const isRunning = run.status === "STARTED";
    stop.hidden = !isRunning;
    restart.hidden = isRunning || run.status === "COMPLETED";
    stop.disabled = !mayWrite() || run.stop_asked;
    restart.disabled = !mayWrite();
    if (!mayWrite() && run.status !== "COMPLETED") setText(said, "To stop or restart runs you need the role writer.");
    setText(trouble, run.error ?? "");
    trouble.hidden = !run.error;
    put(parameters, Object.entries(run.parameters).map(([key, value]) => h("span", { class: "parameter" }, h("span", { class: "note" }, `${key} `), h("code", {}, valueText(value)))));
    const sum = (name) => count(found.reduce((total, each) => total + each[name], 0));
    showFacts({
      Began: moment(run.started_us),
      Took: brief(took(run, nowUs)),
      Left: isRunning ? (left === null ? "not known" : brief(left)) : "–",
      Read: sum("read"),
      Filtered: sum("filtered"),
      Written: sum("written"),
      Skipped: sum("skipped"),
      "Because of": run.trigger,
    });
    progress.show(isRunning ? found.filter((each) => each.ended_us === null) : []);
    gantt.show(run, found, nowUs);
    stepRows.show(found, nowUs);
    children.hidden = begun.length === 0;
    put(children, "Runs that its steps began: ", begun.flatMap((each, index) => [index ? ", " : "", h("a", { href: runHref(each.id) }, `${each.job} (run ${each.id}, ${runWord(each)})`)]));
  }

  async function act(what) {
    put(problem);
    const button = what === "stop" ? stop : restart;
    button.disabled = true;
    try {
      const { run } = await ask(`${path}/${what}`, { method: "POST" });
      if (what === "restart") return void (location.hash = runHref(run.id));
      setText(said, "It ends after the chunks at hand.");
    } catch (error) {
      put(problem, errorBox(error));
      button.disabled = false;
    }
    isOver = false;
    await update();
  }

  return { title: `Run ${number}`, update, close: () => (isClosed = true) };
}

/** A step of a run that has ended has ended, too, also where its process could not say so. */
function settled(step, run) {
  if (run.ended_us === null || step.ended_us !== null) return step;
  return { ...step, ended_us: Math.max(step.started_us, run.ended_us), status: step.status === "STARTED" ? "STOPPED" : step.status };
}

/** Parts as they began; those that wait are last. */
const inOrder = (parts) => [...parts].sort((a, b) => Number(a.status === "WAITING") - Number(b.status === "WAITING"));

/** What all texts begin with, up to a slash. */
function commonFolder(texts) {
  if (texts.length === 0) return "";
  let common = texts[0];
  for (const text of texts) while (!text.startsWith(common)) common = common.slice(0, -1);
  return common.slice(0, common.lastIndexOf("/") + 1);
}

/** How far the steps at work are, and how long they may still take. */
function progressPart() {
  const list = h("div", { class: "progress-list", hidden: true });
  const show = keyedRows(list, (step) => step.step, ({ step }) => {
    const bar = h("progress", { max: "1", "aria-label": `How far step ${step} is` });
    const words = h("span", { class: "note" });
    return {
      element: h("div", { class: "progress" }, h("span", { class: "progress-name" }, step), bar, words),
      show({ share, left_us: left }) {
        const done = share === null ? null : Number(valueText(share));
        if (done === null) bar.removeAttribute("value");
        else bar.value = done;
        setText(words, done === null ? "at work" : `${Math.floor(done * 100)}%${left === null ? "" : `, ${brief(left)} left`}`);
      },
    };
  });
  return {
    element: list,
    show(steps) {
      list.hidden = steps.length === 0;
      show(steps);
    },
  };
}

function stepsTable() {
  const table = keyedTable("Steps", ["Step", "How it is", "Took", "Tries", ...COUNTS, "Error"], { numbers: ["Tries", ...COUNTS] });
  const rows = keyedRows(table.body, (each) => each.id, () => {
    const name = h("th", { scope: "row" });
    const [mark, showMark] = statusMark();
    const length = h("td");
    const numbers = Array.from({ length: 1 + COUNTS.length }, () => h("td", { class: "number" }));
    const error = h("td", { class: "words" });
    const element = h("tr", {}, name, h("td", {}, mark), length, numbers, error);
    return {
      element,
      show({ step, nowUs }) {
        element.dataset.level = level(step.status);
        name.className = step.part ? "part-name" : "";
        setText(name, step.label ?? step.step);
        name.title = step.part || step.step;
        showMark(step.status, statusWord(step.status));
        setText(length, step.status === "WAITING" ? "–" : brief(took(step, nowUs)));
        [step.attempts, step.chunks, step.read, step.filtered, step.written, step.skipped].forEach((value, index) => setText(numbers[index], count(value)));
        setText(error, step.error ?? "");
      },
    };
  });
  const show = (steps, nowUs) => rows(steps.flatMap((each) => [each, ...inOrder(each.parts)]).map((step) => ({ id: JSON.stringify([step.step, step.part]), step, nowUs })));
  return { element: table.element, show };
}

function chunksPart(path) {
  const table = keyedTable("Last chunks", ["Step", "Chunk", "Ended", "Took", "Read", "Filtered", "Written", "Skipped", "Error"], { numbers: ["Chunk", "Read", "Filtered", "Written", "Skipped"] });
  const note = h("p", { class: "foot note" });
  let labelOf = (part) => part;
  const show = keyedRows(table.body, (chunk) => JSON.stringify([chunk.step, chunk.part, chunk.number, chunk.attempt]), (chunk) => {
    const texts = [chunk.part ? `${chunk.step} / ${labelOf(chunk.part)}` : chunk.step, count(chunk.number), moment(chunk.ended_us), brief(took(chunk, 0)), count(chunk.read), count(chunk.filtered), count(chunk.written), count(chunk.skipped), chunk.error ?? ""];
    const isNumber = [1, 4, 5, 6, 7];
    const cells = texts.map((text, index) => h("td", { class: isNumber.includes(index) ? "number" : index === 8 ? "words" : null }, text));
    return { element: h("tr", { "data-level": chunk.error ? "bad" : "good" }, cells), show() {} };
  });
  async function load(label) {
    labelOf = label;
    const { chunks, more } = await ask(`${path}/chunks?limit=${CHUNKS}`, { exact: true });
    show(chunks);
    table.element.hidden = chunks.length === 0;
    setText(note, chunks.length === 0 ? "No chunks." : more ? `The last ${CHUNKS}.` : "");
  }
  return { element: section("Last chunks", h("div", { class: "short" }, table.element), note), load };
}

function messagesPart(path) {
  const list = h("ol", { class: "messages", tabindex: "0", "aria-label": "What it said" });
  const more = h("button", { type: "button", hidden: true, onclick: earlier }, "Earlier messages");
  let most = MESSAGES;
  const show = keyedRows(list, (message) => message.id, (message) => ({
    element: h("li", { "data-level": message.level }, h("span", { class: "note nowrap" }, `${moment(message.at_us)} ${message.step} `), h("span", { class: "message-text" }, message.text)),
    show() {},
  }));
  async function load() {
    const answer = await ask(`${path}/messages?limit=${most}`);
    const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
    show(answer.messages);
    if (isAtEnd) list.scrollTop = list.scrollHeight;
    more.hidden = !answer.more || most >= MESSAGES_MAX;
    list.hidden = answer.messages.length === 0;
  }
  async function earlier() {
    most = Math.min(MESSAGES_MAX, most * 4);
    await load().catch(() => {}); // it is there to be pressed again
  }
  return { element: section("What it said", h("p", { class: "foot" }, more), list), load };
}
