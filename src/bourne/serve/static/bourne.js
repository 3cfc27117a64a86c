/**
 * Bourne in a page: ask, append, and keep a copy of a view that follows the server (`replica.js`).
 *
 * Modules without dependencies, and without a build step: browsers load them as they are.
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

import { answer, BourneError, LIMITS, random } from "./asking.js";
import { Replica } from "./replica.js";

export { BourneError, LIMITS, Replica };
export { covers } from "./position.js";

/**
 * @typedef {Record<string, any>} Row
 * @typedef {{ name: string, type: string }} Column
 * @typedef {{ columns: Column[], rows: Row[], position: string, more?: boolean }} Answer
 * @typedef {{ atLeast?: string, wait?: number, signal?: AbortSignal }} Asking
 * @typedef {{ filter?: Row, where?: string, columns?: string[] }} Part
 */

/** A server. */
export class Bourne {
  /**
   * @param {string | URL} [url] the server's address; by default where this module came from
   * @param {{ token?: string | (() => string | Promise<string>), limits?: Partial<typeof LIMITS> }} [options]
   */
  constructor(url = import.meta.url.replace(/(static\/)?[^/]*$/, ""), { token, limits } = {}) {
    this.url = String(url).replace(/\/+$/, "");
    this.token = token;
    this.limits = { ...LIMITS, ...limits };
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
  view(name, { filter, where, columns, order, limit, page, atLeast, wait, signal } = {}) {
    const asked = {
      ...part({ filter, where, columns }),
      order: order?.toString(),
      limit,
      page,
      at_least: atLeast,
      wait,
    };
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
