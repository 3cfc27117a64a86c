// How all is, asked about once a second, and how it was in the last ten minutes. Pages subscribe; nothing is kept on disk.

import { Problem, ask } from "./api.js";

const INTERVAL_MS = 1_000;
const HIDDEN_INTERVAL_MS = 15_000;
const RETRY_MS_MAX = 5_000;
export const HISTORY_MS = 600_000;
const RATE_OVER_MS = 3_000; // long enough that figures do not flicker, short enough that they move

/** What is known of the server. `status` is its last answer, also while it is gone: `goneSince` says since when. */
export const live = {
  status: null,
  views: new Map(),
  logs: new Map(),
  goneSince: null,
  problem: null,
};

const histories = new Map();
const listeners = new Set();
let declared = "";
let timer = 0;
let failures = 0;

/** Call `listener` after each answer, and when the server is gone. Returns how to stop that. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The points {at, total, rate, lag, rows} of the last minutes, of "log/orders" for example; the newest is last. */
export const history = (id) => histories.get(id) ?? [];

/** The last known rate of records per second; null as long as there is but one answer. */
export const rateOf = (id) => history(id).at(-1)?.rate ?? null;

/** Ask now, and from now on. */
export function refresh() {
  clearTimeout(timer);
  void poll();
}

let asking = false;
async function poll() {
  if (asking) return;
  asking = true;
  try {
    const status = await ask("status");
    await learnDeclarations(status);
    remember(status, performance.now());
    Object.assign(live, { status, goneSince: null, problem: null });
    failures = 0;
  } catch (error) {
    failures += 1;
    if (error instanceof Problem) live.problem = error;
    else live.goneSince ??= Date.now();
  }
  asking = false;
  listeners.forEach((each) => each());
  const wait = failures ? Math.min(INTERVAL_MS * 2 ** (failures - 1), RETRY_MS_MAX) : INTERVAL_MS;
  timer = setTimeout(poll, document.hidden ? HIDDEN_INTERVAL_MS : wait);
}

/** What there is changes seldom: it is asked for only when the names or versions in the status are others. */
async function learnDeclarations(status) {
  const now = JSON.stringify([status.app, status.logs.map((each) => each.name), status.views.map((each) => [each.name, each.version])]);
  if (now === declared) return;
  const [views, logs] = await Promise.all([ask("views"), ask("logs")]);
  live.views = new Map(views.views.map((each) => [each.name, each]));
  live.logs = new Map(logs.logs.map((each) => [each.name, each]));
  declared = now;
}

function remember(status, at) {
  for (const log of status.logs) point(`log/${log.name}`, at, log.end, null, log.records);
  for (const view of status.views) point(`view/${view.name}`, at, view.position, view.lag_records, view.rows);
  for (const source of status.sources) point(`source/${source.name}`, at, source.records, source.lag_records, source.records);
  for (const sink of status.sinks) point(`sink/${sink.name}`, at, sink.records, sink.lag_records, sink.records);
}

function point(id, at, total, lag, rows) {
  if (!histories.has(id)) histories.set(id, []);
  const points = histories.get(id);
  // Who counts from the start again was started again: what was before says nothing about now.
  if (points.length && total < points.at(-1).total) points.length = 0;
  while (points.length && points[0].at < at - HISTORY_MS) points.shift();
  const base = points.findLast((each) => each.at <= at - RATE_OVER_MS) ?? points[0];
  const rate = base && at > base.at ? ((total - base.total) * 1000) / (at - base.at) : null;
  points.push({ at, total, rate, lag, rows });
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
