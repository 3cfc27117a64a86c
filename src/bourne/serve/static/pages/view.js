// One view: its rows as they change, how it keeps up, what it says and what that costs.

import { ask, errorBox } from "../api.js";
import { figures, h, put, section, setText } from "../dom.js";
import { bytes, count, instant, many, rate } from "../format.js";
import { live, rateOf } from "../live.js";
import { viewTrouble } from "../nodes.js";
import { liveRows, SHOWN_MAX } from "../rows.js";
import { highlight } from "../sql_text.js";
import { plainTable, recordTable } from "../table.js";
import { charts, heading, lineage, link, missing } from "./parts.js";

export function open(root, { name }) {
  const find = () => live.status.views.find((each) => each.name === name);
  if (!find()) {
    put(root, missing("view", name));
    return { title: name };
  }
  const id = `view/${name}`;
  const version = h("span", { class: "note" });
  const trouble = h("p", { class: "error trouble", role: "alert", hidden: true });
  const [from, showFrom] = lineage(id);
  const [facts, showFacts] = figures("Records/s", "Lag", "Rows", "Watermark", "State", "Output", "Position", "Late", "Failed");
  const [graphs, showGraphs] = charts(id, "Rows");
  const sql = h("pre", { class: "sql", tabindex: "0", "aria-label": "SQL" });
  const plan = h("div", {}, h("p", { class: "loading" }, "Loading…"));
  const times = h("div");
  const rows = rowsPart(name);
  put(
    root,
    heading("view", name, version),
    from,
    trouble,
    facts,
    rows.element,
    graphs,
    h("div", { class: "columns" }, section("Definition", sql, times), section("Plan", plan)),
  );
  let shownVersion = null;

  function update() {
    const view = find();
    if (!view) return put(root, missing("view", name));
    showFrom();
    showGraphs();
    const { level, words } = viewTrouble(view);
    trouble.hidden = level !== "bad";
    setText(trouble, level === "bad" ? `It stands still: ${words}` : "");
    showFacts({
      "Records/s": rate(rateOf(id)).replace("/s", ""),
      Lag: many(view.lag_records, "record"),
      Rows: count(view.rows),
      Watermark: view.is_complete ? "complete" : instant(view.watermark_us),
      State: `${bytes(view.state_bytes)}, ${many(view.state_rows, "row")}`,
      Output: bytes(view.output_bytes),
      Position: count(view.position),
      Late: view.late_records ? link("log", `${name}_late`, count(view.late_records)) : "0",
      Failed: view.failed_records ? link("log", `${name}_errors`, count(view.failed_records)) : "0",
    });
    showTimes(view);
    const next = view.building;
    const built = next ? `, version ${next.version} is being built: ${many(next.lag_records, "record")} to go` : "";
    setText(version, `version ${view.version}${built}`);
    if (view.version === shownVersion) return;
    shownVersion = view.version;
    put(sql, highlight(live.views.get(name)?.sql ?? ""));
    void explain();
  }

  async function explain() {
    try {
      const found = await ask(`views/${encodeURIComponent(name)}/explain`);
      const lines = found.operators.map((each) => [String(each.number), each.operator, count(each.rows), bytes(each.bytes), each.note ?? each.detail ?? ""]);
      put(
        plan,
        found.warning ? h("p", { class: "warning" }, found.warning) : null,
        plainTable("Operators", ["No.", "Operator", "Rows", "Memory", "What"], lines, { numbers: ["Rows", "Memory"] }),
        h("details", {}, h("summary", {}, "As text"), h("pre", { class: "scroll", tabindex: "0" }, found.text)),
      );
    } catch (error) {
      put(plan, errorBox(error));
    }
  }

  let shownTimes = "";
  function showTimes(view) {
    const lines = view.watermarks.map((each) => [each.input, instant(each.watermark_us), each.partitions.map((at) => instant(at)).join(", ")]);
    const now = JSON.stringify(lines);
    if (now === shownTimes) return;
    shownTimes = now;
    put(times, lines.length ? [h("h3", {}, "How far time has come"), plainTable("Watermarks", ["Input", "Watermark", "By partition"], lines)] : null);
  }

  return { title: name, update, close: rows.close };
}

/** The rows, live, with a filter. */
function rowsPart(name) {
  const state = h("span", { class: "note" });
  const problem = h("div");
  const box = h("div", {}, h("p", { class: "loading" }, "Loading…"));
  const filter = h("input", { id: "where", name: "where", type: "search", placeholder: "amount > 10 AND user LIKE 'a%'", autocomplete: "off", spellcheck: "false" });
  const form = h("form", { class: "filter", role: "search" }, h("label", { for: "where" }, "Where"), filter, h("button", { type: "submit" }, "Filter"));
  let following = null;
  let table = null;
  let drawn = "";
  let order = null;

  function start() {
    following?.close();
    put(problem);
    following = liveRows(name, {
      where: filter.value.trim(),
      onState: (text) => setText(state, text === "live" ? state.textContent : `${text}…`),
      onProblem: (error) => {
        setText(state, "");
        put(problem, errorBox(error));
      },
      onRows: show,
    });
    following.sort(order);
  }

  function show({ columns, rows, total, position }) {
    put(problem);
    const now = JSON.stringify(columns);
    if (now !== drawn) {
      drawn = now;
      table = recordTable(columns, { caption: `Rows of ${name}`, onSort: (to) => following.sort((order = to)) });
    }
    table.show(rows);
    if (rows.length === 0) put(box, h("p", { class: "quiet" }, filter.value.trim() ? "No row is like that." : "No rows yet."));
    else if (table.element.parentNode !== box) put(box, table.element);
    const number = rows.length < SHOWN_MAX ? many(rows.length, "row") : `the first ${SHOWN_MAX}${total === null ? "" : ` of ${count(total)}`} rows`;
    setText(state, `${number}, at ${position}`);
    state.title = position;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  filter.addEventListener("search", () => filter.value === "" && start()); // its cross was pressed
  start();
  const element = section("Rows", form, problem, box, h("p", { class: "foot" }, state));
  return { element, close: () => following.close() };
}
