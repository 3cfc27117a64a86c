// The status as a graph: sources -> logs -> views -> sinks, each with its figures in one shape.

import { many } from "./format.js";
import { live, rateOf } from "./live.js";

export const href = (kind, name) => `#/${kind}/${encodeURIComponent(name)}`;

/** Return {nodes, edges}. Logs that Bourne keeps for itself are nodes only if something reads them. */
export function graph() {
  const { status } = live;
  const views = new Set(status.views.map((each) => each.name));
  const logs = new Set(status.logs.map((each) => each.name));
  const edges = [];
  const idOf = (name) => (views.has(name) ? `view/${name}` : `log/${name}`);
  for (const source of status.sources) edges.push({ from: `source/${source.name}`, to: `log/${source.log}` });
  for (const view of status.views) for (const input of view.inputs) edges.push({ from: idOf(input), to: `view/${view.name}` });
  for (const sink of status.sinks) edges.push({ from: idOf(sink.view), to: `sink/${sink.name}` });

  const joined = new Set(edges.flatMap((each) => [each.from, each.to]));
  const nodes = [
    ...status.sources.map(sourceNode),
    ...status.logs.filter((each) => joined.has(`log/${each.name}`) || !isOwn(each.name, views)).map(logNode),
    ...status.views.map(viewNode),
    ...status.sinks.map(sinkNode),
  ];
  const known = new Set(nodes.map((each) => each.id));
  // A table or a log that the status does not know is a node all the same, without figures.
  for (const id of joined) {
    const name = id.slice(id.indexOf("/") + 1);
    if (!known.has(id) && !logs.has(name)) nodes.push(logNode({ name, end: null, records: null, bytes: null }));
  }
  return { nodes, edges };
}

function isOwn(name, views) {
  if (name === "dead_letters" || name === "dead_letters_done") return true;
  return /_(late|errors)$/.test(name) && views.has(name.replace(/_(late|errors)$/, ""));
}

function node(kind, name, figures) {
  const id = `${kind}/${name}`;
  return { id, kind, name, href: href(kind, name), rate: rateOf(id), lag: null, watermark: null, state: null, rows: null, bytes: null, level: "good", words: "", ...figures };
}

const logNode = (log) => node("log", log.name, { rows: log.records, bytes: log.bytes, words: "" });

function viewNode(view) {
  const { level, words } = viewTrouble(view);
  return node("view", view.name, {
    lag: view.lag_records,
    watermark: view.watermark_us,
    isComplete: view.is_complete,
    state: view.state_bytes,
    rows: view.rows,
    bytes: view.output_bytes,
    level,
    words: words.split("\n")[0], // the rest is on its page
  });
}

/** How a view is, in words: its `failure` if it stands still, else what it goes on without. */
export function viewTrouble(view) {
  if (view.failure) return { level: "bad", words: view.failure };
  const parts = [];
  if (view.failed_records) parts.push(`${view.failed_records} failed`);
  if (view.late_records) parts.push(`${view.late_records} late`);
  return { level: view.failed_records ? "warn" : "good", words: parts.join(", ") };
}

const LEVELS = { failed: "bad", waiting: "warn", stopped: "off", ended: "off" };

function connectorTrouble({ state, error, note, dead_letters: letters }) {
  const words = [state === "running" ? "" : state, error ?? note ?? "", letters ? many(letters, "dead letter") : ""];
  return { level: LEVELS[state] ?? (letters || note ? "warn" : "good"), words: words.filter(Boolean).join(": ") };
}

const sourceNode = (source) => node("source", source.name, { lag: source.lag_records, rows: source.records, ...connectorTrouble(source) });

const sinkNode = (sink) => node("sink", sink.name, { lag: sink.lag_records, rows: sink.records, ...connectorTrouble(sink) });

/** What a node reads and what reads it, as nodes. */
export function neighbours(id) {
  const { nodes, edges } = graph();
  const byId = new Map(nodes.map((each) => [each.id, each]));
  return {
    before: edges.filter((each) => each.to === id).map((each) => byId.get(each.from)),
    after: edges.filter((each) => each.from === id).map((each) => byId.get(each.to)),
  };
}
