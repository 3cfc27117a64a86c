/**
 * A copy of a view that follows the server, also across offline times.
 *
 * Law: what a replica shows, and what it stores, is one whole state of the view under the `id` that the server gave it.
 * Memory moves from one to the next at once; the store does so in one transaction, id included. So after a cut, a crash,
 * a reload or a restart it goes on from its `id`, and the server answers with what happened since, or with a snapshot,
 * which replaces everything.
 */

import { BourneError, delay, isFinal, parse, send, textOf } from "./asking.js";
import { serverSentEvents } from "./events.js";
import { covers } from "./position.js";
import { Store } from "./store.js";

/**
 * @typedef {Record<string, any>} Row
 * @typedef {{ key?: any, row: Row | null, before?: Row | null, weight?: number }} Change
 *   With keys: what the row is now and was before (null: not there). Without: how many times more it is there.
 * @typedef {{ rows: Row[], changes: Change[], state: State, position: string }} Seen
 * @typedef {"offline" | "catching up" | "live" | "closed"} State
 * @typedef {{ text: string, key?: any, row: Row, weight: number, turn: number }} Entry
 *   `text` tells it from the others: its key, or the row itself, as JSON. `turn` is its place in the order of arrival.
 * @typedef {{ stop: AbortController, stream?: AbortController, wake?: () => void, hurry: boolean }} Run
 */

/** A copy of a view that follows the server. */
export class Replica {
  /** @type {State} */ state = "offline";
  /** Why it is offline, and null while it is not. @type {BourneError | null} */ error = null;
  /** What the copy reflects. */ position = "";
  /** Whether the copy outlives the page. */ stored = false;
  /** @type {{ name: string, type: string }[]} */ columns = [];
  keyed = false;
  version = 0;

  /** @type {Map<string, Entry>} */ #entries = new Map();
  #id = ""; // of the whole state in #entries; none: there is no state yet
  #turn = 0;
  /** @type {Row[] | null} */ #rows = null;
  /** @type {Set<(seen: Seen) => void>} */ #watchers = new Set();
  /** What the watchers saw of each entry that is another one now. @type {Map<string, Entry | null>} */ #seen =
    new Map();
  #due = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {Set<{ position: string, done: (error?: BourneError) => void }>} */ #waiting = new Set();
  /** What is not stored yet; all: all of it. @type {Map<string, Entry | null> | "all" | null} */ #unsaved = null;
  /** @type {Store | null} */ #store = null;
  /** @type {Promise<void> | null} */ #saving = null;
  /** @type {Run | null} */ #run = null;
  /** @type {Promise<this> | null} */ #opened = null;
  /** @type {Promise<void> | null} */ #closing = null;
  #server;
  #path;
  #asked;
  #kind;

  /**
   * @param {import("./asking.js").Server} server @param {string} view
   * @param {Record<string, string>} asked @param {string} kind
   */
  constructor(server, view, asked, kind) {
    this.#server = server;
    this.#path = `/views/${encodeURIComponent(view)}/changes`;
    this.#asked = asked;
    this.#kind = kind;
  }

  get #name() {
    return `bourne ${this.#server.url}${this.#path}?${new URLSearchParams(this.#asked)}`;
  }

  /** The rows, in the order in which they came; the array stays the same until they change. */
  get rows() {
    this.#rows ??= [...this.#entries.values()].flatMap(({ row, weight }) =>
      weight === 1 ? row : Array(weight).fill(row),
    );
    return this.#rows;
  }

  /** A key's row. @param {any} key @returns {Row | undefined} */
  get(key) {
    return this.keyed ? this.#entries.get(textOf(key))?.row : undefined;
  }

  /** Show what is stored, and follow the server from then on, until `close`. After a refusal: try again. */
  open() {
    return (this.#opened ??= this.#open());
  }

  async #open() {
    const stop = new AbortController();
    /** @type {Run} */ const run = { stop, hurry: false };
    this.#run = run;
    this.#become("offline");
    await this.#closing;
    if (this.#kind === "indexeddb" && !this.#store) await this.#load(run);
    if (stop.signal.aborted) return this;
    const again = () => {
      run.hurry = true;
      run.wake?.();
      run.stream?.abort();
    };
    // The connection of before may hang after both; and a server on this machine is there without any network.
    globalThis.addEventListener?.("online", again, stop);
    globalThis.addEventListener?.("offline", again, stop);
    globalThis.addEventListener?.("pagehide", () => this.#store?.release(), stop);
    globalThis.document?.addEventListener("visibilitychange", () => run.wake?.(), stop);
    this.#follow(run);
    return this;
  }

  /** Be told of the state now (all rows are changes), and of each later one. @param {(seen: Seen) => void} watcher */
  watch(watcher) {
    this.#show();
    const changes = [...this.#entries.values()].flatMap((entry) => difference(null, entry));
    this.#watchers.add(watcher);
    this.#tell(watcher, changes);
    return () => void this.#watchers.delete(watcher);
  }

  /**
   * Wait until the copy reflects the position: what you appended is in it. "": until there is any state.
   * @param {string} position @param {{ timeout?: number }} [options] in milliseconds @returns {Promise<void>}
   */
  reaches(position, { timeout = 30_000 } = {}) {
    return new Promise((resolve, reject) => {
      const done = (/** @type {BourneError | undefined} */ error) => {
        clearTimeout(timer);
        this.#waiting.delete(waiting);
        error ? reject(error) : resolve();
      };
      const late = () =>
        done(new BourneError({ title: "not reached in time", expected: position, found: this.position }));
      const timer = setTimeout(late, timeout);
      const waiting = { position, done };
      this.#waiting.add(waiting);
      this.#reached();
    });
  }

  /** Stop following. The copy stays as it is; what is not stored yet is stored when the promise is kept. */
  close() {
    this.#run?.stop.abort();
    [this.#run, this.#opened] = [null, null];
    this.#become("closed");
    for (const { done } of this.#waiting) done(new BourneError({ title: "the replica was closed" }));
    return (this.#closing = this.#leave(this.#closing));
  }

  async #leave(/** @type {Promise<void> | null} */ before) {
    await before;
    await this.#saving;
    const store = this.#store;
    [this.#store, this.stored] = [null, false];
    await store?.close();
  }

  /** Close it, and delete the copy, here and where it is stored, for all tabs. */
  async forget() {
    await this.close();
    for (const [text, entry] of this.#entries) if (!this.#seen.has(text)) this.#seen.set(text, entry);
    this.#entries = new Map();
    [this.#rows, this.#id, this.position] = [null, "", ""];
    this.#later();
    if (this.#kind === "indexeddb") await Store.forget(this.#name);
  }

  async #follow(/** @type {Run} */ run) {
    const { signal } = run.stop;
    for (let failures = 0; !signal.aborted;) {
      run.hurry = false;
      const whole = () => (failures = 0);
      const error = await this.#stream(run, whole).catch((reason) => reason);
      if (signal.aborted) return;
      this.error =
        error instanceof BourneError ? error : new BourneError({ title: "the stream broke" }, { cause: error });
      this.#become("offline");
      if (isFinal(this.error.status)) {
        run.stop.abort();
        [this.#run, this.#opened] = [null, null];
        for (const { done } of this.#waiting) done(this.error);
        return;
      }
      const { missing } = this.#server.limits;
      const pause = this.error.status === 404 ? missing : delay(this.#server.limits, failures++, this.error.retryAfter);
      if (!run.hurry) await new Promise((wake) => ((run.wake = () => wake(null)), setTimeout(wake, pause)));
    }
  }

  /** One connection, until it ends: always with an error. */
  async #stream(/** @type {Run} */ run, /** @type {() => void} */ whole) {
    const stream = (run.stream = new AbortController());
    const signal = AbortSignal.any([stream.signal, run.stop.signal]);
    /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
    const alive = () => {
      clearTimeout(timer);
      const silent = () => stream.abort(new BourneError({ title: "the server was silent for too long" }));
      timer = setTimeout(silent, this.#server.limits.silence);
    };
    try {
      alive();
      const headers = { Accept: "text/event-stream" };
      const asked = { ...this.#asked, ...(this.#id && { after: this.#id }) };
      const response = await send(this.#server, this.#path, { asked, headers, signal });
      if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || !response.body)
        throw new BourneError({ title: "somebody else answered: this is not a stream of events" });
      this.#become("catching up");
      /** @type {any} */ let gathered = null;
      for await (const { event, id, data } of serverSentEvents(response.body, alive)) {
        const said = parse(data);
        if (event === "position") {
          if (gathered || !this.#id) continue; // it is not about what is here
          [this.#id, this.position] = [id || this.#id, said.position];
        } else if (event === "snapshot" || event === "change") {
          // A part that follows one with more goes on with it, whatever it is called.
          gathered ??= { snapshot: event === "snapshot", about: said, changes: [] };
          for (const change of said.rows ?? said.changes) gathered.changes.push(change);
          if (said.more) continue;
          this.#commit(gathered, id, said.position ?? gathered.about.position);
          gathered = null;
        } else continue; // of a newer server
        whole();
        this.#after();
      }
      throw new BourneError({ title: "the server ended the stream" });
    } finally {
      clearTimeout(timer);
      stream.abort();
    }
  }

  /** Go to the next whole state; what cannot be one leaves all as it was. */
  #commit(/** @type {any} */ { snapshot, about, changes }, /** @type {string} */ id, /** @type {string} */ position) {
    const keyed = snapshot ? about.keyed : this.keyed;
    const entries = snapshot ? new Map() : this.#entries;
    /** @type {Map<string, Entry | null>} */ const next = new Map();
    for (const { key, row, weight = 1 } of changes) {
      const text = textOf(keyed ? key : row);
      const now = next.has(text) ? next.get(text) : entries.get(text);
      const turn = now?.turn ?? this.#turn++;
      if (!keyed) next.set(text, { text, row: now?.row ?? row, weight: (now?.weight ?? 0) + weight, turn });
      else next.set(text, row && { text, key, row, weight: 1, turn });
    }
    for (const [text, entry] of next) {
      if (entry?.weight === 0) next.set(text, null);
      else if (entry && entry.weight < 0) {
        this.#id = ""; // this copy is not to be relied on: the next connection brings a snapshot
        throw new BourneError({ title: "a row would be there fewer than no times", found: text });
      }
    }
    if (snapshot) for (const text of this.#entries.keys()) if (!next.has(text)) next.set(text, null);
    const unsaved = (this.#unsaved ??= new Map());
    for (const [text, entry] of next) {
      const before = this.#entries.get(text);
      if (!this.#seen.has(text)) this.#seen.set(text, before ?? null);
      if (unsaved !== "all") unsaved.set(text, entry);
      if (before && before.turn !== entry?.turn) this.#entries.delete(text);
      if (entry) this.#entries.set(text, entry);
    }
    if (snapshot) {
      [this.keyed, this.columns, this.version] = [keyed, about.columns, about.version];
      this.#unsaved = "all";
    }
    [this.#rows, this.#id, this.position] = [null, id, position];
  }

  /** After each whole event: all who wait for it. */
  #after() {
    this.error = null;
    // At least the position, and that this tab is alive; but what nobody stores must not pile up.
    this.#unsaved = this.#store && (this.#unsaved ?? new Map());
    this.#become("live");
    this.#later();
    this.#reached();
    this.#saving ??= this.#save().finally(() => (this.#saving = null));
  }

  #reached() {
    if (!this.#id) return;
    for (const { position, done } of this.#waiting) if (covers(this.position, position)) done();
  }

  #become(/** @type {State} */ state) {
    if (this.state !== state) this.#later();
    this.state = state;
  }

  /** Tell the watchers with the next frame, or soon where there are none. */
  #later() {
    if (this.#due) return;
    this.#due = true;
    const show = () => this.#due && this.#show();
    globalThis.requestAnimationFrame?.(show);
    this.#timer = setTimeout(show, this.#server.limits.frame);
  }

  #show() {
    if (!this.#due) return;
    const seen = this.#watchers.size ? [...this.#seen] : [];
    const changes = seen.flatMap(([text, before]) => difference(before, this.#entries.get(text) ?? null));
    clearTimeout(this.#timer);
    [this.#due, this.#seen] = [false, new Map()];
    for (const watcher of [...this.#watchers]) this.#tell(watcher, changes); // a watcher may add others
  }

  #tell(/** @type {(seen: Seen) => void} */ watcher, /** @type {Change[]} */ changes) {
    try {
      watcher({ rows: this.rows, changes, state: this.state, position: this.position });
    } catch (error) {
      reportError(error); // what one watcher cannot do is no reason to stop the others, or the stream
    }
  }

  async #load(/** @type {Run} */ run) {
    try {
      const store = await Store.open(this.#name, this.#server.limits.lease, () => this.#unstored());
      const { about, entries } = await store.take();
      if (run.stop.signal.aborted) return void (await store.close());
      [this.#store, this.stored] = [store, true];
      this.#unsaved = "all";
      if (this.#id || !about?.id) return; // opened again: what is here is newer
      this.#unsaved = null;
      const { id, position, keyed, columns, version } = about;
      [this.#id, this.position, this.keyed, this.columns, this.version] = [id, position, keyed, columns, version];
      this.#entries = new Map(entries.map((entry) => [entry.text, entry]));
      for (const { text, turn } of entries) {
        this.#seen.set(text, null);
        this.#turn = turn + 1;
      }
      this.#rows = null;
      this.#later();
      this.#reached();
    } catch {
      this.#unstored();
    }
  }

  async #save() {
    while (this.#store && this.#unsaved) {
      try {
        await this.#store.write(() => {
          // Of one moment, while nothing else runs: the id is that of exactly these entries.
          const { keyed, columns, version, position } = this;
          const about = { id: this.#id, position, keyed, columns, version };
          const batch = { about, changed: this.#unsaved ?? new Map(), entries: this.#entries };
          this.#unsaved = null;
          return batch;
        });
      } catch {
        this.#unstored();
      }
    }
  }

  /** No room, not allowed, or forgotten by another tab: what is stored stays whole, and this goes on in memory. */
  #unstored() {
    this.#store?.end();
    [this.#store, this.stored] = [null, false];
    this.#later();
  }
}

/** @returns {Change[]} */
function difference(/** @type {Entry | null} */ before, /** @type {Entry | null} */ now) {
  const either = now ?? before;
  if (!either) return [];
  const { key, row } = either;
  if (key === undefined) {
    const weight = (now?.weight ?? 0) - (before?.weight ?? 0);
    return weight ? [{ row, weight }] : [];
  }
  if (before && now && textOf(before.row) === textOf(now.row)) return [];
  return [{ key, row: now?.row ?? null, before: before?.row ?? null }];
}
