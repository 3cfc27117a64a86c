/**
 * Bourne in a page: ask, append, and keep a copy of a view that follows the server, also across offline times.
 *
 * One module without dependencies, and without a build step: browsers load it as it is.
 *
 * Law: what a replica shows, and what it stores, is one whole state of the view under the `id` that the server gave it.
 * Memory moves from one to the next at once; the store does so in one transaction, id included. So after a cut, a crash,
 * a reload or a restart it goes on from its `id`, and the server answers with what happened since, or with a snapshot,
 * which replaces everything.
 *
 * @example
 * import { Bourne } from "./bourne.js";
 *
 * const bourne = new Bourne();
 * const spend = await bourne.replica("spend").open();
 * spend.watch(({ rows, state }) => {
 *   document.body.textContent = `${state}: ` + rows.map(({ user, total }) => `${user} ${total}`).join(", ");
 * });
 * const { position } = await bourne.append("orders", [{ user: "ann", amount: 7 }]);
 * await spend.reaches(position);
 * console.log(spend.rows.find(({ user }) => user === "ann").total);
 */

/**
 * @typedef {Record<string, any>} Row
 * @typedef {{ name: string, type: string }} Column
 * @typedef {{ columns: Column[], rows: Row[], position: string, more?: boolean }} Answer
 * @typedef {{ atLeast?: string, wait?: number, signal?: AbortSignal }} Asking
 * @typedef {{ filter?: Row, where?: string, columns?: string[] }} Part
 *
 * @typedef {{ key?: any, row: Row | null, before?: Row | null, weight?: number }} Change
 *   With keys: what the row is now and was before (null: not there). Without: how many times more it is there.
 * @typedef {"offline" | "catching up" | "live" | "closed"} State
 * @typedef {{ rows: Row[], changes: Change[], state: State, position: string }} Seen
 * @typedef {{ text: string, key?: any, row: Row, weight: number, turn: number }} Entry
 *   `text` tells it from the others: its key, or the row itself, as JSON. `turn` is its place in the order of arrival.
 * @typedef {{ stop: AbortController, stream?: AbortController, wake?: () => void, hurry: boolean, failures: number }} Run
 */

// ---- Asking ---------------------------------------------------------------------------------------------------------

/** A server. */
export class Bourne {
  /**
   * @param {string | URL} [url] the server's address; by default where this module came from
   * @param {{ token?: string | (() => string | Promise<string>), limits?: Partial<typeof LIMITS>, parse?: typeof exact }}
   *   [options] `parse` reads the JSON of answers: one of your own may keep what numbers cannot hold, such as decimals
   */
  constructor(url = import.meta.url.replace(/(static\/)?[^/]*$/, ""), { token, limits, parse = exact } = {}) {
    this.url = String(url).replace(/\/+$/, "");
    this.token = token;
    this.limits = { ...LIMITS, ...limits };
    this.parse = parse;
  }

  /**
   * One SELECT over views and logs, all at one position.
   * @param {string} sql @param {Asking & { parameters?: any[] | Row }} [options] @returns {Promise<Answer>}
   */
  query(sql, { parameters, atLeast, wait, signal } = {}) {
    return answer(this, "/query", { json: { sql, parameters, at_least: atLeast, wait }, signal });
  }

  /**
   * A view's rows.
   * @param {string} name
   * @param {Asking & Part & { order?: string | string[], limit?: number, page?: number }} [options]
   * @returns {Promise<Answer>}
   */
  view(name, { order, limit, page, atLeast, wait, signal, ...rest } = {}) {
    const asked = { ...part(rest), order: order?.toString(), limit, page, at_least: atLeast, wait };
    return answer(this, `/views/${encodeURIComponent(name)}`, { asked, signal });
  }

  /**
   * A log's records.
   * @param {string} name
   * @param {{ start?: number, last?: number, partition?: number, limit?: number, signal?: AbortSignal }} [options]
   * @returns {Promise<Answer>}
   */
  log(name, { start, last, partition, limit, signal } = {}) {
    return answer(this, `/logs/${encodeURIComponent(name)}`, { asked: { start, last, partition, limit }, signal });
  }

  /**
   * Append rows; they are durable when this returns. The key makes it at most once, however often it is tried.
   * @param {string} log @param {Row[]} rows @param {{ key?: string, signal?: AbortSignal }} [options]
   * @returns {Promise<{ position: string, [member: string]: any }>}
   */
  append(log, rows, { key = random(), signal } = {}) {
    const headers = { "Idempotency-Key": key };
    return answer(this, `/logs/${encodeURIComponent(log)}`, { json: rows, headers, signal });
  }

  /** How logs, views, sources and sinks are. @param {{ signal?: AbortSignal }} [options] @returns {Promise<any>} */
  status({ signal } = {}) {
    return answer(this, "/status", { signal });
  }

  /**
   * A copy of a view, or of a part of it.
   * @param {string} view @param {Part & { store?: "indexeddb" | "memory" }} [options]
   */
  replica(view, { store = "indexeddb", ...asked } = {}) {
    return new Replica(this, view, part(asked), store);
  }
}

/** The members of a request for a part of a view, always in one order: they are the name of what is stored, too. */
function part(/** @type {Part} */ { filter = {}, where, columns }) {
  /** @type {Record<string, string>} */ const asked = {};
  for (const [name, value] of Object.entries(filter).sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (value == null) throw new BourneError({ title: "nothing equals NULL", hint: `where: '"${name}" IS NULL'` });
    asked[`where.${name}`] = String(value);
  }
  return { ...asked, ...(where && { where }), ...(columns && { columns: columns.join(",") }) };
}

/** What went wrong: the members of the server's problem details; `status` 0 where there was no answer at all. */
export class BourneError extends Error {
  status = 0;
  /** Milliseconds. @type {number | undefined} */ retryAfter;

  /** @param {{ title?: string, status?: number, [member: string]: any }} problem @param {ErrorOptions} [options] */
  constructor(problem, options) {
    const { title = "the server refused it", detail, where, expected, found, hint } = problem;
    const parts = { detail, expected, found, hint };
    const rest = Object.entries(parts).map(([name, value]) => (value === undefined ? "" : `; ${name}: ${value}`));
    super((where === undefined ? "" : `${where}: `) + title + rest.join(""), options);
    Object.assign(this, { title }, problem, { name: "BourneError", message: this.message });
  }
}

/** Every bound, in milliseconds but for `attempts`. */
export const LIMITS = Object.freeze({
  answer: 60_000, // an answer that takes longer will not come: the server itself waits 30 s at most
  attempts: 4, // of one request
  retryFirst: 500, // the pause after the first failure; it doubles from then on
  retryMost: 30_000,
  retryAfterMost: 300_000, // a server may ask for a pause, but not for ever
  missing: 30_000, // a view that is not there may be declared later
  silence: 45_000, // three signs of life that did not come
  lease: 40_000, // for how long a tab that writes nothing keeps the others from writing; longer than two signs of life
  frame: 200, // a page that is not to be seen has no animation frames
});

/**
 * Whether a state at one position has all that another position has; logs that it does not depend on do not matter.
 * A position says for each log the offset after the last record that is in a state, partition by partition.
 */
export function covers(/** @type {string} */ have, /** @type {string} */ want) {
  const reached = offsets(have);
  return [...offsets(want)].every(([log, ends]) => {
    const mine = reached.get(log);
    return !mine || ends.every((end, partition) => (mine[partition] ?? 0) >= end);
  });
}

/** @returns {Map<string, number[]>} */
function offsets(/** @type {string} */ position) {
  const logs = position.split(",").filter((log) => log);
  const parts = logs.map((log) => log.split(":")); // a colon of a name is written as %3A
  return new Map(parts.map(([name, ends]) => [decodeURIComponent(name), ends.split(".").map(Number)]));
}

// ---- Following ------------------------------------------------------------------------------------------------------

/** A copy of a view that follows the server. */
export class Replica {
  /** @type {State} */ state = "offline";
  /** Why it is not live; null if it is, or if nothing failed. @type {BourneError | null} */ error = null;
  /** What the copy reflects. */ position = "";
  /** Whether the copy outlives the page. */ stored = false;
  /** @type {Column[]} */ columns = [];
  keyed = false;
  version = 0;

  /** @type {Map<string, Entry>} */ #entries = new Map();
  #id = ""; // of the whole state in #entries; none: there is no state yet
  #turn = 0;
  /** @type {Row[] | null} */ #rows = null;
  /** @type {Set<(seen: Seen) => void>} */ #watchers = new Set();
  /** What the watchers saw of entries that changed since. @type {Map<string, Entry | null>} */ #seen = new Map();
  /** Until they are told. @type {ReturnType<typeof setTimeout> | null} */ #timer = null;
  /** @type {Set<PromiseWithResolvers<void> & { position: string }>} */ #waiting = new Set();
  /** What is not stored yet; all: all of it. @type {Map<string, Entry | null> | "all" | null} */ #unsaved = null;
  /** @type {Store | null} */ #store = null;
  /** @type {Promise<void> | null} */ #saving = null;
  /** @type {Run | null} */ #run = null;
  /** @type {Promise<this> | null} */ #opened = null;
  /** @type {Promise<void> | null} */ #closing = null;
  #server;
  #path;
  #asked;
  #name; // of what is stored, if anything is

  /**
   * @param {Bourne} server @param {string} view
   * @param {Record<string, string>} asked what part of it @param {"indexeddb" | "memory"} kind
   */
  constructor(server, view, asked, kind) {
    this.#server = server;
    this.#path = `/views/${encodeURIComponent(view)}/changes`;
    this.#asked = asked;
    this.#name = kind === "indexeddb" ? `bourne ${server.url}${this.#path}?${new URLSearchParams(asked)}` : "";
  }

  /** The rows, in the order in which they came; the array stays the same until they change. */
  get rows() {
    const times = (/** @type {Entry} */ { row, weight }) => (weight === 1 ? row : Array(weight).fill(row));
    return (this.#rows ??= this.entries.flatMap(times));
  }

  /** Each row once, with how often it is there, and the text that tells it from the others. */
  get entries() {
    return [...this.#entries.values()];
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
    /** @type {Run} */ const run = { stop, hurry: false, failures: 0 };
    this.#run = run;
    this.#become("offline");
    await this.#closing;
    if (this.#name && !this.#store) await this.#load(run);
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
    const changes = this.entries.flatMap((entry) => difference(null, entry));
    this.#watchers.add(watcher);
    this.#tell(watcher, changes);
    return () => void this.#watchers.delete(watcher);
  }

  /**
   * Wait until the copy reflects the position: what you appended is in it. "": until there is any state.
   * @param {string} position @param {{ timeout?: number }} [options] in milliseconds @returns {Promise<void>}
   */
  reaches(position, { timeout = 30_000 } = {}) {
    /** @type {PromiseWithResolvers<void>} */ const { promise, resolve, reject } = Promise.withResolvers();
    const title = "not reached in time";
    const late = () => reject(new BourneError({ title, expected: position, found: this.position }));
    const timer = setTimeout(late, timeout);
    const waiting = { position, promise, resolve, reject };
    this.#waiting.add(waiting);
    this.#reached();
    return promise.finally(() => (clearTimeout(timer), this.#waiting.delete(waiting)));
  }

  /** Stop following. The copy stays as it is; what is not stored yet is stored when the promise is kept. */
  close() {
    this.#become("closed");
    this.#end(new BourneError({ title: "the replica was closed" }));
    return (this.#closing = this.#leave(this.#closing));
  }

  #end(/** @type {BourneError} */ error) {
    this.#run?.stop.abort();
    [this.#run, this.#opened] = [null, null];
    for (const { reject } of this.#waiting) reject(error);
  }

  async #leave(/** @type {Promise<void> | null} */ before) {
    await before;
    await this.#saving;
    const store = this.#store;
    [this.#store, this.stored] = [null, false];
    store?.close();
  }

  /** Close it, and delete the copy, here and where it is stored, for all tabs. */
  async forget() {
    await this.close();
    for (const [text, entry] of this.#entries) if (!this.#seen.has(text)) this.#seen.set(text, entry);
    this.#entries = new Map();
    [this.#rows, this.#id, this.position] = [null, "", ""];
    this.#later();
    if (this.#name) await Store.forget(this.#name);
  }

  async #follow(/** @type {Run} */ run) {
    const { limits } = this.#server;
    while (!run.stop.signal.aborted) {
      run.hurry = false;
      const reason = await this.#stream(run).catch((reason) => reason);
      if (run.stop.signal.aborted) return;
      const broke = () => new BourneError({ title: "the stream broke" }, { cause: reason });
      const error = reason instanceof BourneError ? reason : broke();
      this.#become("offline", error);
      if (isFinal(error.status)) return this.#end(error);
      const pause = error.status === 404 ? limits.missing : delay(limits, run.failures++, error.retryAfter);
      if (!run.hurry) await new Promise((wake) => ((run.wake = () => wake(null)), setTimeout(wake, pause)));
    }
  }

  /** One connection, until it ends: always with an error. */
  async #stream(/** @type {Run} */ run) {
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
      this.#become("catching up", this.error);
      /** @type {any} */ let gathered = null;
      for await (const { event, id, data } of serverSentEvents(response.body, alive)) {
        const said = this.#server.parse(data);
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
        run.failures = 0;
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
    // At least the position, and that this tab is alive; but what nobody stores must not pile up.
    this.#unsaved = this.#store && (this.#unsaved ?? new Map());
    this.#become("live");
    this.#later();
    this.#reached();
    this.#saving ??= this.#save().finally(() => (this.#saving = null));
  }

  #reached() {
    if (!this.#id) return;
    for (const { position, resolve } of this.#waiting) if (covers(this.position, position)) resolve();
  }

  /** @param {State} state @param {BourneError | null} [error] */
  #become(state, error = null) {
    if (this.state !== state || this.error?.message !== error?.message) this.#later();
    [this.state, this.error] = [state, error];
  }

  /** Tell the watchers with the next frame, or soon where there are none. */
  #later() {
    if (this.#timer) return;
    const show = () => this.#show();
    globalThis.requestAnimationFrame?.(show);
    this.#timer = setTimeout(show, this.#server.limits.frame);
  }

  #show() {
    if (!this.#timer) return;
    const seen = this.#watchers.size ? [...this.#seen] : [];
    const changes = seen.flatMap(([text, before]) => difference(before, this.#entries.get(text) ?? null));
    clearTimeout(this.#timer);
    [this.#timer, this.#seen] = [null, new Map()];
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
      if (run.stop.signal.aborted) return store.close();
      [this.#store, this.stored] = [store, true];
      this.#unsaved = "all";
      if (this.#id || !about?.id) return; // opened again: what is here is newer
      this.#unsaved = null;
      const { id, position, keyed, columns, version } = about;
      [this.#id, this.position, this.keyed, this.columns, this.version] = [id, position, keyed, columns, version];
      this.#entries = new Map(entries.map((entry) => [entry.text, entry]));
      for (const { text } of entries) this.#seen.set(text, null);
      [this.#rows, this.#turn] = [null, (entries.at(-1)?.turn ?? -1) + 1];
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
    this.#store?.database.close();
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

// ---- Storing --------------------------------------------------------------------------------------------------------
//
// Several tabs: each follows the server itself (a tab that did it for the others might be asleep, and locks are to be
// had over https only), and one of them writes the store: the one that opened it last, until it lets go or is silent for
// a lease. Who writes is checked in the transaction that writes, so a slow tab cannot spoil what another one has stored.

/** One replica's. */
class Store {
  #lease;
  #writer = random();
  #writes = false; // as far as it knows

  /** @param {IDBDatabase} database @param {number} lease */
  constructor(database, lease) {
    this.database = database;
    this.#lease = lease;
  }

  /** @param {string} name @param {number} lease @param {() => void} lost called when it is taken away later */
  static async open(name, lease, lost) {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore("about");
      opening.result.createObjectStore("entries", { keyPath: "text" });
    };
    const database = await result(opening);
    database.onversionchange = database.onclose = () => {
      database.close();
      lost();
    };
    return new Store(database, lease);
  }

  /** @param {string} name */
  static async forget(name) {
    if (globalThis.indexedDB) await result(indexedDB.deleteDatabase(name));
  }

  /** What is there; from now on this one writes. */
  async take() {
    return this.#transact(async (about, entries) => {
      const [found, all] = await Promise.all([result(about.get(0)), result(entries.getAll())]);
      this.#sign(about);
      return { about: found, entries: all.sort((one, other) => one.turn - other.turn) };
    });
  }

  /**
   * Go to the state that `batch` tells of, if no other tab is writing.
   * @param {() => { about: any, changed: Map<string, Entry | null> | "all", entries: Map<string, Entry> }} batch
   */
  async write(batch) {
    await this.#transact(async (stored, entries) => {
      const found = await result(stored.get(1));
      const { about, changed, entries: all } = batch();
      const mine = found?.writer === this.#writer;
      // Not only "before": a clock may have been set back.
      this.#writes = mine || !found?.writer || Math.abs(Date.now() - found.at) >= this.#lease;
      if (!this.#writes) return;
      // What this one stored last is what is there: otherwise another writer's name would be.
      if (mine && changed !== "all")
        for (const [text, entry] of changed) entry ? entries.put(entry) : entries.delete(text);
      else {
        entries.clear();
        for (const entry of all.values()) entries.put(entry);
      }
      stored.put(about, 0);
      this.#sign(stored);
    });
  }

  #sign(/** @type {IDBObjectStore} */ about) {
    about.put({ writer: this.#writer, at: Date.now() }, 1);
    this.#writes = true;
  }

  /**
   * Another tab may write. Nothing is asked first, for a page that is left hears no answers: if another tab has begun to
   * write meanwhile, it writes everything once more.
   */
  release() {
    if (!this.#writes) return;
    try {
      const transaction = this.database.transaction("about", "readwrite");
      transaction.objectStore("about").put({ writer: "" }, 1);
      transaction.commit();
    } catch {} // it may do so after the lease anyhow
  }

  close() {
    this.release();
    this.database.close();
  }

  /** @template T @param {(about: IDBObjectStore, entries: IDBObjectStore) => Promise<T>} work @returns {Promise<T>} */
  async #transact(work) {
    const transaction = this.database.transaction(["about", "entries"], "readwrite", { durability: "relaxed" });
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const [worked] = await Promise.all([
      work(transaction.objectStore("about"), transaction.objectStore("entries")).catch((error) => {
        try {
          transaction.abort();
        } catch {} // it has ended already
        throw error;
      }),
      ended,
    ]);
    return worked;
  }
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// ---- One request and its answer -------------------------------------------------------------------------------------
//
// Only what does no harm twice is asked twice: questions, and appends with their key.

/**
 * Ask, bounded in time and attempts, and return what the JSON of the answer says.
 * @param {Bourne} server @param {string} path @param {any} options
 */
async function answer(server, path, options) {
  for (let failures = 0; ; failures++) {
    const late = AbortSignal.timeout(server.limits.answer);
    const signal = options.signal ? AbortSignal.any([late, options.signal]) : late;
    try {
      const text = await received(await send(server, path, { ...options, signal }));
      try {
        return server.parse(text);
      } catch (cause) {
        const found = text.slice(0, 100);
        throw new BourneError({ title: "the answer is not JSON", status: 200, found }, { cause });
      }
    } catch (error) {
      if (late.aborted && !options.signal?.aborted)
        throw new BourneError({ title: "no answer in time" }, { cause: error });
      // 503 without a Retry-After is an answer: the server has waited long enough for the position.
      const { status = 0, retryAfter } = /** @type {any} */ (error);
      const again = [0, 429, 502, 504].includes(status) || (status === 503 && retryAfter !== undefined);
      if (!(error instanceof BourneError) || !again || failures + 1 >= server.limits.attempts) throw error;
      await new Promise((done) => setTimeout(done, delay(server.limits, failures, retryAfter)));
      options.signal?.throwIfAborted();
    }
  }
}

/**
 * One request. Everything but a good answer is a BourneError, and an abort what it was aborted with.
 * @param {Bourne} server @param {string} path @param {any} options
 */
async function send(server, path, { asked = {}, json, headers, signal }) {
  const given = Object.entries(asked).filter(([, value]) => value !== undefined);
  const search = given.length ? `?${new URLSearchParams(/** @type {any} */ (given))}` : "";
  const token = typeof server.token === "function" ? await server.token() : server.token;
  const body = json === undefined ? undefined : write(json);
  const type = body && { "Content-Type": "application/json" };
  const bearer = token && { Authorization: `Bearer ${token}` };
  /** @type {RequestInit} */ const request = { method: body ? "POST" : "GET", body, signal, cache: "no-store" };
  request.headers = { ...headers, ...type, ...bearer };
  const response = await fetch(server.url + path + search, request).catch((error) => {
    signal.throwIfAborted();
    throw new BourneError({ title: "the server cannot be reached", where: server.url }, { cause: error });
  });
  if (response.ok) return response;
  const text = await received(response);
  let problem = null;
  try {
    problem = exact(text);
  } catch {} // a proxy's, say
  if (typeof problem !== "object") problem = null;
  problem ??= { title: text.slice(0, 500) || response.statusText };
  const after = response.headers.get("Retry-After");
  const seconds = after === null ? NaN : /^\d+$/.test(after) ? +after : (Date.parse(after) - Date.now()) / 1000;
  throw new BourneError({ ...problem, status: response.status, ...(seconds >= 0 && { retryAfter: seconds * 1000 }) });
}

/** An answer's text, also where it is cut: as one that did not come. */
async function received(/** @type {Response} */ response) {
  return response.text().catch((error) => {
    if (error instanceof DOMException) throw error; // aborted
    throw new BourneError({ title: "the answer was cut" }, { cause: error });
  });
}

/** Who is refused now will be refused again, unless it is for being early, or for asking for what may come to be. */
const isFinal = (/** @type {number} */ status) =>
  status >= 400 && status < 500 && ![404, 408, 425, 429].includes(status);

/**
 * How long to wait after so many failures, in milliseconds: at random, so that not all come back at the same time.
 * @param {typeof LIMITS} limits @param {number} failures @param {number} [asked] what the server asked for
 */
function delay(limits, failures, asked) {
  const grown = Math.min(limits.retryMost, limits.retryFirst * 2 ** failures) * (0.5 + Math.random() / 2);
  return asked === undefined ? grown : Math.min(limits.retryAfterMost, asked + grown / 2);
}

// ---- Server-Sent Events ---------------------------------------------------------------------------------------------
//
// Read from a fetch: unlike an EventSource, it can carry a token, and go on from an id of ours.

/** The events of a stream as they come; one without its end does not count. `alive` is called for whatever comes. */
async function* serverSentEvents(/** @type {ReadableStream<any>} */ body, /** @type {() => void} */ alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [unfinished, ended] = ["", false];
  /** @type {Record<string, string>} */ let event = { event: "message", id: "", data: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    // A line's end may be cut, too: what begins with \n after a \r has ended already.
    const lines = (ended && value.startsWith("\n") ? value.slice(1) : value).split(/\r\n|\n|\r/);
    ended = value.endsWith("\r");
    lines[0] = unfinished + lines[0];
    unfinished = lines.pop() ?? "";
    for (const line of lines) {
      const [, field, said] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (line === "") {
        if (event.data) yield event;
        event = { event: "message", id: "", data: "" };
      } else if (field === "data") event.data += (event.data && "\n") + said;
      else if (field === "event" || field === "id") event[field] = said;
    }
  }
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

/** JSON, where integers that a number cannot hold are BigInts (rounded, where a browser keeps the source to itself). */
function exact(/** @type {string} */ text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  /** @type {(key: string, value: any, context?: { source: string }) => any} */
  const reviver = (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(/** @type {any} */ (context).source)
      : value;
  return JSON.parse(text, reviver);
}

/** JSON, where BigInts are numbers. */
function write(/** @type {any} */ value) {
  const raw = /** @type {any} */ (JSON).rawJSON ?? String;
  return JSON.stringify(value, (_, member) => (typeof member === "bigint" ? raw(String(member)) : member));
}

/** JSON that tells a value from others of its type. */
function textOf(/** @type {any} */ value) {
  try {
    return JSON.stringify(value); // several times as fast as with a function, and there are seldom BigInts
  } catch {
    return JSON.stringify(value, (_, member) => (typeof member === "bigint" ? { bigint: String(member) } : member));
  }
}

/** A name that nobody else has. `crypto.randomUUID` is to be had over https only. */
function random() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}
