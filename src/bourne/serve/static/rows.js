// The rows of a view as they are now. Small views are followed change by change; of large ones only the rows that are
// looked at are asked for, again whenever the view has moved on.

import { Problem, ask } from "./api.js";
import { Bourne } from "./bourne.js";
import { compareValues, parseExact } from "./format.js";
import { live, subscribe } from "./live.js";

export const SHOWN_MAX = 200;
const FOLLOWED_ROWS_MAX = 5_000; // more would cost the browser more than it shows
const SHOW_EVERY_MS = 150;
const IS_GONE = [0, 502, 503, 504]; // no answer, or a proxy's before a server that is gone

const bourne = new Bourne(undefined, { parse: parseExact, limits: { retryMost: 1_000 } });

/**
 * Follow a view. `onRows({columns, rows: [{id, row, isNew}], total, position})` is called at most a few times a second,
 * `onState(text)` says how it goes, `onProblem(error)` why it does not. Returns {sort(order), close()}.
 */
export function liveRows(name, { where, onRows, onState, onProblem }) {
  const stopping = new AbortController();
  const path = `views/${encodeURIComponent(name)}`;
  const filter = where ? `where=${encodeURIComponent(where)}` : "";
  let order = null;
  let again = () => {};
  const known = live.status?.views.find((each) => each.name === name)?.rows ?? 0;
  if (known > FOLLOWED_ROWS_MAX) paged();
  else followed();
  return {
    sort(to) {
      order = to;
      again();
    },
    close: () => stopping.abort(),
  };

  function followed() {
    const replica = bourne.replica(name, { store: "memory", where });
    const changed = new Set(); // since the rows were shown
    let isKnown = false;
    let timer = 0;
    const show = () => {
      timer = 0;
      if (stopping.signal.aborted || !isKnown) return;
      const { columns, rows, position } = replica;
      onRows({ columns, rows: first(replica.entries, columns, order, changed), total: rows.length, position });
      changed.clear();
      say();
    };
    const say = () => {
      if (replica.state === "live") onState("live");
      else if (replica.error) failed(replica.error);
      else if (!isKnown) onState("loading");
    };
    again = show;
    stopping.signal.addEventListener("abort", () => void replica.close());
    replica.watch(({ rows, changes, state }) => {
      if (state === "closed") return;
      if (rows.length > FOLLOWED_ROWS_MAX * 4) {
        void replica.close();
        return paged();
      }
      if (isKnown) for (const { key, row } of changes) changed.add(JSON.stringify(key === undefined ? row : key));
      isKnown ||= state === "live";
      say();
      if (isKnown) timer ||= setTimeout(show, SHOW_EVERY_MS);
    });
    void replica.open();
  }

  function failed(error) {
    if (IS_GONE.includes(error.status)) return onState("waiting for the server");
    if (error.status === 401) document.dispatchEvent(new Event("bourne:sign-in"));
    onProblem(new Problem(error.status, error));
  }

  function paged() {
    let shown = new Set();
    let epoch = null;
    let isAsking = false;
    const load = async () => {
      if (isAsking || stopping.signal.aborted) return;
      isAsking = true;
      const by = order && `order=${encodeURIComponent(order.column)}${order.descending ? ".desc" : ""}`;
      try {
        const answer = await ask(`${path}?${[filter, by, `limit=${SHOWN_MAX}`].filter(Boolean).join("&")}`, { exact: true });
        const seen = new Map();
        const rows = answer.rows.map((row) => {
          const id = numbered(JSON.stringify(row), seen);
          return { id, row, isNew: shown.size > 0 && !shown.has(id) };
        });
        shown = new Set(rows.map((each) => each.id));
        const total = filter ? null : (live.status?.views.find((each) => each.name === name)?.rows ?? null);
        onState("live");
        onRows({ columns: answer.columns, rows, total, position: answer.position });
      } catch (error) {
        if (error instanceof Problem) onProblem(error);
        else onState("waiting for the server");
        epoch = null;
      }
      isAsking = false;
    };
    again = load;
    const stop = subscribe(() => {
      const now = live.status?.views.find((each) => each.name === name)?.position;
      if (now !== epoch) void load();
      epoch = now;
    });
    stopping.signal.addEventListener("abort", stop);
    void load();
  }
}

function numbered(text, seen) {
  const number = (seen.get(text) ?? 0) + 1;
  seen.set(text, number);
  return number === 1 ? text : `${text}#${number}`;
}

/** The first of the rows in the order asked for, NULL last. */
function first(entries, columns, order, changed) {
  if (order) {
    const type = columns.find((each) => each.name === order.column)?.type ?? "";
    const isNull = (value) => value === null || value === undefined;
    entries.sort((a, b) => {
      const [left, right] = [a.row[order.column], b.row[order.column]];
      const result = compareValues(left, right, type);
      return order.descending && !isNull(left) && !isNull(right) ? -result : result;
    });
  }
  const shown = [];
  for (const { text, row, weight } of entries) {
    for (let time = 0; time < weight && shown.length < SHOWN_MAX; time += 1) shown.push({ id: `${text}#${time}`, row, isNew: changed.has(text) });
    if (shown.length >= SHOWN_MAX) break;
  }
  return shown;
}
