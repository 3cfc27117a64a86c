// Asking in SQL: an editor, its answer as a table, and what was asked before.

import { errorBox, request } from "../api.js";
import { h, put, section, setText } from "../dom.js";
import { makeEditor } from "../editor.js";
import { count, many, parseExact } from "../format.js";
import { live } from "../live.js";
import { highlight } from "../sql_text.js";
import { recordTable } from "../table.js";

const ROWS_MAX = 1_000;
const HISTORY_MAX = 50;
const KEPT_AS = "bourne.queries";

function pastQueries() {
  try {
    return JSON.parse(localStorage.getItem(KEPT_AS) ?? "[]").filter((each) => typeof each === "string");
  } catch {
    return []; // no storage here, or not ours
  }
}

function keepQuery(sql) {
  try {
    localStorage.setItem(KEPT_AS, JSON.stringify([sql, ...pastQueries().filter((each) => each !== sql)].slice(0, HISTORY_MAX)));
  } catch {
    // nothing is kept where there is no storage
  }
}

const relations = () => [
  ...[...live.views.values()].map((each) => ({ name: each.name, kind: "view", columns: each.columns })),
  ...[...live.logs.values()].map((each) => ({ name: each.name, kind: "log", columns: each.columns })),
];

export function open(root, { query }) {
  const first = live.status.views[0]?.name ?? live.status.logs[0]?.name;
  const asked = query.get("q");
  const editor = makeEditor({ text: asked ?? pastQueries()[0] ?? (first ? `SELECT * FROM "${first}" LIMIT 100` : "SELECT 1"), relations, onRun: run });
  const said = h("span", { class: "note", role: "status" });
  const runButton = h("button", { type: "button", class: "primary", onclick: run }, "Run");
  const stopButton = h("button", { type: "button", hidden: true, onclick: () => asking?.abort() }, "Stop");
  const csvButton = h("button", { type: "button", onclick: download }, "Download CSV");
  const copyButton = h("button", { type: "button", onclick: copy }, "Copy link");
  const result = h("div", { id: "result" });
  const past = h("ol", { class: "past" });
  put(
    root,
    h("div", { class: "title" }, h("h1", {}, "SQL")),
    editor.element,
    h("div", { class: "buttons" }, runButton, stopButton, csvButton, copyButton, said),
    h("p", { id: "sql-keys", class: "note" }, "Ctrl+Enter runs it. Names are offered while you write: arrows choose, Tab or Enter takes, Esc closes; Ctrl+Space asks for them."),
    result,
    section("Asked before", past),
  );
  let asking = null;
  showPast();
  if (asked) void run();

  async function run() {
    const sql = editor.area.value.trim();
    if (!sql) return setText(said, "There is nothing to run.");
    asking?.abort();
    const mine = (asking = new AbortController());
    history.replaceState(null, "", `#/sql?q=${encodeURIComponent(sql)}`);
    keepQuery(sql);
    showPast();
    setText(said, "Running…");
    stopButton.hidden = false;
    const began = performance.now();
    try {
      const response = await request("query", { method: "POST", body: { sql }, signal: mine.signal });
      const answer = parseExact(await response.text());
      show(answer, performance.now() - began);
    } catch (error) {
      if (mine.signal.aborted) {
        if (asking === mine) setText(said, "Stopped.");
      } else {
        setText(said, "");
        put(result, errorBox(error));
      }
    }
    if (asking === mine) stopButton.hidden = true;
  }

  function show({ columns, rows, position, more }, ms) {
    const shown = rows.slice(0, ROWS_MAX);
    const isCut = more || rows.length > shown.length;
    const number = isCut ? `the first ${count(shown.length)}${more ? "" : ` of ${count(rows.length)}`} rows` : many(rows.length, "row");
    setText(said, `${number} in ${count(Math.round(ms))} ms${position ? `, at ${position}` : ""}`);
    const table = recordTable(columns, { caption: "Result" });
    table.show(shown.map((row, index) => ({ id: index, row })));
    put(result, table.element);
  }

  async function download() {
    const sql = editor.area.value.trim();
    try {
      const response = await request("query", { method: "POST", body: { sql }, accept: "text/csv" });
      const address = URL.createObjectURL(await response.blob());
      const link = h("a", { href: address, download: "result.csv" });
      link.click();
      URL.revokeObjectURL(address);
      setText(said, response.headers.get("Bourne-More") === "true" ? "Downloaded what one answer may hold; there are more rows." : "Downloaded.");
    } catch (error) {
      put(result, errorBox(error));
    }
  }

  async function copy() {
    const address = new URL(`#/sql?q=${encodeURIComponent(editor.area.value.trim())}`, location.href).href;
    try {
      await navigator.clipboard.writeText(address);
      setText(said, "Copied.");
    } catch {
      history.replaceState(null, "", address);
      setText(said, "The browser does not let pages copy: the address bar has the link.");
    }
  }

  function showPast() {
    const queries = pastQueries();
    const take = (sql) => {
      editor.set(sql);
      editor.area.focus();
    };
    put(past, queries.length ? queries.map((sql) => h("li", {}, h("button", { type: "button", class: "sql", onclick: () => take(sql), title: sql.slice(0, 1000) }, highlight(sql.slice(0, 300))))) : h("li", { class: "quiet" }, "Nothing yet."));
  }

  return { title: "SQL", close: () => asking?.abort() };
}
