/**
 * A replica's copy in IndexedDB: its entries, and what they are the state of; each transaction leaves a whole state.
 *
 * Several tabs: each follows the server itself (a tab that did it for the others might be asleep, and locks are to be
 * had over https only), and one of them writes the store: the one that opened it last, until it lets go or is silent for
 * a lease. Who writes is checked in the transaction that writes, so a slow tab cannot spoil what another one has stored.
 */

import { random } from "./asking.js";

/** @typedef {import("./replica.js").Entry} Entry */

/** One replica's. */
export class Store {
  #database;
  #lease;
  #writer = random();

  /** @param {IDBDatabase} database @param {number} lease */
  constructor(database, lease) {
    this.#database = database;
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
      about.put({ ...found, writer: this.#writer, at: Date.now() }, 0);
      return { about: found, entries: all.sort((one, other) => one.turn - other.turn) };
    });
  }

  /**
   * Go to the state that `batch` tells of, if no other tab is writing.
   * @param {() => { about: any, changed: Map<string, Entry | null> | "all", entries: Map<string, Entry> }} batch
   */
  async write(batch) {
    await this.#transact(async (stored, entries) => {
      const found = await result(stored.get(0));
      const { about, changed, entries: all } = batch();
      const mine = found?.writer === this.#writer;
      // Not only "before": a clock may have been set back.
      if (!mine && found?.writer && Math.abs(Date.now() - found.at) < this.#lease) return;
      // What this one stored last is what is there: otherwise another writer's name would be.
      if (mine && changed !== "all")
        for (const [text, entry] of changed) entry ? entries.put(entry) : entries.delete(text);
      else {
        entries.clear();
        for (const entry of all.values()) entries.put(entry);
      }
      stored.put({ ...about, writer: this.#writer, at: Date.now() }, 0);
    });
  }

  /** Another tab may write. */
  async release() {
    await this.#transact(async (about) => {
      const found = await result(about.get(0));
      if (found?.writer === this.#writer) about.put({ ...found, writer: "" }, 0);
    }).catch(() => {}); // it may do so after the lease anyhow
  }

  async close() {
    await this.release();
    this.end();
  }

  end() {
    this.#database.close();
  }

  /** @template T @param {(about: IDBObjectStore, entries: IDBObjectStore) => Promise<T>} work @returns {Promise<T>} */
  async #transact(work) {
    const transaction = this.#database.transaction(["about", "entries"], "readwrite", { durability: "relaxed" });
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
