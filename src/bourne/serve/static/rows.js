// The rows of a view as they are now. Small views are followed change by change; of large ones only the rows that are
// looked at are asked for, again whenever the view has moved on.

import { Problem, ask, follow } from "./api.js";
import { compareValues } from "./format.js";
import { live, subscribe } from "./live.js";

export const SHOWN_MAX = 200;
const FOLLOWED_ROWS_MAX = 5_000; // more would cost the browser more than it shows
const RETRY_MS = 1_000;
const SHOW_EVERY_MS = 150;

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
  else void followed();
  return {
    sort(to) {
      order = to;
      again();
    },
    close: () => stopping.abort(),
  };

  async function followed() {
    const state = makeState();
    let timer = 0;
    const show = () => {
      timer = 0;
      if (!stopping.signal.aborted && state.columns) onRows(state.take(order));
    };
    const soon = () => (timer ||= setTimeout(show, SHOW_EVERY_MS));
    again = show;
    for (;;) {
      try {
        const after = state.id ? `after=${encodeURIComponent(state.id)}` : "";
        const query = [filter, after].filter(Boolean).join("&");
        onState(state.id ? "live" : "loading");
        await follow(`${path}/changes${query && `?${query}`}`, {
          signal: stopping.signal,
          onEvent: (event) => {
            state.apply(event);
            onState("live");
            soon();
          },
        });
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (error instanceof Problem && error.status !== 503) {
          onProblem(error);
          if (error.status !== 401) return;
        }
      }
      if (stopping.signal.aborted) return;
      if (state.size() > FOLLOWED_ROWS_MAX * 4) return void paged();
      onState("waiting for the server");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
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

/** What the events of a stream add up to: `snapshot` starts anew, `more` counts only with the event that ends it. */
export function makeState() {
  let rows = new Map(); // by key, or by content if there are no keys: {row, weight}
  let changed = new Set();
  let open = null;
  const state = { id: null, columns: null, position: "", isKeyed: false, apply, take, size: () => rows.size };
  return state;

  function apply({ event, id, data }) {
    if (event === "snapshot") {
      open ??= { isSnapshot: true, first: data, list: [] };
      open.list.push(...data.rows);
    } else if (event === "change") {
      open ??= { isSnapshot: false, list: [] };
      open.list.push(...(data.changes ?? []));
    }
    if (data.more) return;
    if (open?.isSnapshot) {
      rows = new Map();
      changed = new Set();
      Object.assign(state, { columns: open.first.columns, isKeyed: open.first.keyed });
    }
    for (const change of open?.list ?? []) one(change, !open.isSnapshot);
    open = null;
    state.position = data.position ?? state.position;
    state.id = id ?? state.id;
  }

  function one({ key, row, weight = 1 }, isChange) {
    const at = state.isKeyed ? JSON.stringify(key) : JSON.stringify(row);
    if (state.isKeyed) {
      if (row === null) rows.delete(at);
      else rows.set(at, { row, weight: 1 });
    } else {
      const now = (rows.get(at)?.weight ?? 0) + weight;
      if (now > 0) rows.set(at, { row, weight: now });
      else rows.delete(at);
    }
    if (isChange) changed.add(at);
  }

  /** Return what to show, and forget what has changed. */
  function take(order) {
    let entries = [...rows];
    if (order) {
      const type = state.columns.find((each) => each.name === order.column)?.type ?? "";
      const isNull = (value) => value === null || value === undefined;
      entries.sort(([, a], [, b]) => {
        const [left, right] = [a.row[order.column], b.row[order.column]];
        const result = compareValues(left, right, type);
        return order.descending && !isNull(left) && !isNull(right) ? -result : result; // NULL stays last
      });
    }
    const total = state.isKeyed ? rows.size : entries.reduce((sum, [, each]) => sum + each.weight, 0);
    const shown = [];
    for (const [id, { row, weight }] of entries) {
      for (let time = 0; time < weight && shown.length < SHOWN_MAX; time += 1) shown.push({ id: `${id}#${time}`, row, isNew: changed.has(id) });
      if (shown.length >= SHOWN_MAX) break;
    }
    changed = new Set();
    return { columns: state.columns, rows: shown, total, position: state.position };
  }
}
