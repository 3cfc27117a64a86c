// One log: its newest records, how much it holds and why, and whether every byte is as it was written.

import { ask, errorBox } from "../api.js";
import { figures, h, put, section, setText } from "../dom.js";
import { bytes, count, many, rate, span } from "../format.js";
import { live, rateOf } from "../live.js";
import { isAdmin } from "../session.js";
import { plainTable, recordTable } from "../table.js";
import { charts, heading, lineage, missing } from "./parts.js";

const LAST = 50;

export function open(root, { name }) {
  const find = () => live.status.logs.find((each) => each.name === name);
  if (!find()) {
    put(root, missing("log", name));
    return { title: name };
  }
  const id = `log/${name}`;
  const declared = live.logs.get(name) ?? { columns: [], retention: {} };
  const [from, showFrom] = lineage(id);
  const [facts, showFacts] = figures("Records/s", "Records kept", "Ever appended", "Size", "Partitions");
  const [graphs, showGraphs] = charts(id, "Records kept", { withLag: false });
  const pins = h("div");
  const newest = tail(name);
  put(
    root,
    heading("log", name, h("span", { class: "note" }, facets(declared))),
    from,
    facts,
    newest.element,
    graphs,
    h("div", { class: "columns" }, section("Columns", columnsTable(declared)), section("Ends and retention", h("p", {}, retention(declared.retention ?? {})), pins, verifyPart(name))),
  );
  let shownPins = "";

  function update() {
    const log = find();
    if (!log) return put(root, missing("log", name));
    showFrom();
    showGraphs();
    showFacts({
      "Records/s": rate(rateOf(id)).replace("/s", ""),
      "Records kept": count(log.records),
      "Ever appended": count(log.end),
      Size: bytes(log.bytes),
      Partitions: count(log.ends.length),
    });
    const now = JSON.stringify([log.ends, log.pins]);
    if (now === shownPins) return;
    shownPins = now;
    const lines = log.ends.map((end, partition) => [
      String(partition),
      count(end),
      log.pins.filter((pin) => pin.partition === partition).map((pin) => `${pin.holder} from ${count(pin.offset)}`).join("; ") || "nothing",
    ]);
    put(pins, plainTable("Partitions", ["Partition", "End", "Kept for"], lines, { numbers: ["End"] }));
    newest.update();
  }

  return { title: name, update, close: newest.close };
}

const facets = ({ key, time, changes }) => [changes, key && `key ${key}`, time && `time ${time}`].filter(Boolean).join(" · ");

const columnsTable = ({ columns }) => plainTable("Columns", ["Column", "Type"], columns.map((each) => [each.name, h("code", {}, each.type)]));

function retention(kept) {
  const parts = [
    kept.keep_us && `deletes records older than ${span(kept.keep_us)}`,
    kept.keep_bytes && `keeps the newest ${bytes(kept.keep_bytes)} of a partition`,
    kept.cold_after_us && `makes Parquet of what is older than ${span(kept.cold_after_us)}`,
    kept.is_compacted && "keeps the newest record of each key",
  ].filter(Boolean);
  return parts.length ? `It ${parts.join(", ")}.` : "It keeps all records for ever.";
}

/** The newest records, asked for again when the log has grown. */
function tail(name) {
  const state = h("span", { class: "note" });
  const box = h("div", {}, h("p", { class: "loading" }, "Loading…"));
  let table = null;
  let drawn = "";
  let seen = new Set();
  let isAsking = false;
  let isClosed = false;

  async function load() {
    if (isAsking || isClosed) return;
    isAsking = true;
    try {
      const answer = await ask(`logs/${encodeURIComponent(name)}?last=${LAST}`, { exact: true });
      if (!isClosed) show(answer);
    } catch (error) {
      if (!table && !isClosed) put(box, errorBox(error));
    }
    isAsking = false;
  }

  function show({ columns, rows }) {
    const now = JSON.stringify(columns);
    if (now !== drawn) {
      drawn = now;
      table = recordTable(columns, { caption: `Newest records of ${name}` });
    }
    const records = rows.map((row) => ({ id: `${row.__partition ?? 0}.${row.__offset}`, row })).reverse();
    const fresh = records.filter((each) => !seen.has(each.id));
    const isCalm = fresh.length <= records.length / 2; // where nearly all is new, nothing stands out
    table.show(records.map((each) => ({ ...each, isNew: isCalm && seen.size > 0 && !seen.has(each.id) })));
    seen = new Set(records.map((each) => each.id));
    if (rows.length === 0) put(box, h("p", { class: "quiet" }, "No records yet."));
    else if (table.element.parentNode !== box) put(box, table.element);
    setText(state, rows.length === LAST ? `the newest ${LAST} records` : many(rows.length, "record"));
  }

  return { element: section("Newest records", box, h("p", { class: "foot" }, state)), update: load, close: () => (isClosed = true) };
}

/** Reading every byte again, on demand. */
function verifyPart(name) {
  const answer = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", onclick: verify }, "Verify");
  async function verify() {
    button.disabled = true;
    put(answer, h("p", { class: "loading" }, "Reading every frame…"));
    try {
      // It takes as long as the log is large: no end to the patience here.
      const found = await ask(`logs/${encodeURIComponent(name)}/verify`, { method: "POST", exact: true, signal: null });
      const heads = (found.heads ?? []).map((each) => [String(each.partition), count(each.offset), h("code", { class: "hash" }, each.hash)]);
      put(answer, h("p", { class: "good" }, "Every byte is as it was written."), heads.length ? plainTable("Heads", ["Partition", "End", "Head hash"], heads, { numbers: ["End"] }) : null);
    } catch (error) {
      put(answer, errorBox(error));
    }
    button.disabled = false;
    button.focus();
  }
  const note = isAdmin() ? "Reads every frame and compares its hash." : "Reads every frame and compares its hash; this needs the role admin.";
  return h("div", { class: "verify" }, h("p", {}, button, " ", h("span", { class: "note" }, note)), answer);
}
