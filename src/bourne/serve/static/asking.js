/**
 * One request and its answer: bounded in time and attempts, with all digits of numbers, and an error that says why.
 *
 * Only what does no harm twice is asked twice: questions, and appends with their key.
 */

/** @typedef {{ url: string, token?: string | (() => string | Promise<string>), limits: typeof LIMITS }} Server */

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

/** Ask, bounded in time and attempts, and return what the JSON of the answer says. */
export async function answer(/** @type {Server} */ server, /** @type {string} */ path, /** @type {any} */ options) {
  for (let failures = 0; ; failures++) {
    const late = AbortSignal.timeout(server.limits.answer);
    const signal = options.signal ? AbortSignal.any([late, options.signal]) : late;
    try {
      return read(await received(await send(server, path, { ...options, signal })));
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

/** One request. Everything but a good answer is a BourneError, and an abort what it was aborted with. */
export async function send(
  /** @type {Server} */ server,
  /** @type {string} */ path,
  /** @type {any} */ { asked = {}, json, headers, signal },
) {
  const given = Object.entries(asked).filter(([, value]) => value !== undefined);
  const search = given.length ? `?${new URLSearchParams(/** @type {any} */ (given))}` : "";
  const token = typeof server.token === "function" ? await server.token() : server.token;
  const body = json === undefined ? undefined : write(json);
  const all = {
    ...headers,
    ...(body && { "Content-Type": "application/json" }),
    ...(token && { Authorization: `Bearer ${token}` }),
  };
  const request = {
    method: body ? "POST" : "GET",
    headers: all,
    body,
    signal,
    cache: /** @type {const} */ ("no-store"),
  };
  const response = await fetch(server.url + path + search, request).catch((error) => {
    signal.throwIfAborted();
    throw new BourneError({ title: "the server cannot be reached", where: server.url }, { cause: error });
  });
  if (response.ok) return response;
  const text = await received(response);
  let problem;
  try {
    problem = parse(text);
  } catch {
    problem = null;
  }
  if (typeof problem !== "object") problem = null; // a proxy's, say
  problem ??= { title: text.slice(0, 500) || response.statusText };
  const after = response.headers.get("Retry-After");
  const seconds = after === null ? NaN : /^\d+$/.test(after) ? +after : (Date.parse(after) - Date.now()) / 1000;
  throw new BourneError({ ...problem, status: response.status, ...(seconds >= 0 && { retryAfter: seconds * 1000 }) });
}

/** JSON, or an error. */
function read(/** @type {string} */ text) {
  try {
    return parse(text);
  } catch (error) {
    throw new BourneError(
      { title: "the answer is not JSON", status: 200, found: text.slice(0, 100) },
      { cause: error },
    );
  }
}

/** An answer's text, also where it is cut: as one that did not come. */
async function received(/** @type {Response} */ response) {
  return response.text().catch((error) => {
    if (error instanceof DOMException) throw error; // aborted
    throw new BourneError({ title: "the answer was cut" }, { cause: error });
  });
}

/** Who is refused now will be refused again, unless it is for being early, or for asking for what may come to be. */
export const isFinal = (/** @type {number} */ status) =>
  status >= 400 && status < 500 && ![404, 408, 425, 429].includes(status);

/** How long to wait after so many failures, in milliseconds: at random, so that not all come back at the same time. */
export function delay(
  /** @type {typeof LIMITS} */ limits,
  /** @type {number} */ failures,
  /** @type {number | undefined} */ asked,
) {
  const grown = Math.min(limits.retryMost, limits.retryFirst * 2 ** failures) * (0.5 + Math.random() / 2);
  return asked === undefined ? grown : Math.min(limits.retryAfterMost, asked + grown / 2);
}

/** JSON, where integers that a number cannot hold are BigInts (rounded, where a browser keeps the source to itself). */
export function parse(/** @type {string} */ text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  /** @type {(key: string, value: any, context?: { source: string }) => any} */
  const exact = (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(/** @type {any} */ (context).source)
      : value;
  return JSON.parse(text, exact);
}

/** JSON, where BigInts are numbers. */
function write(/** @type {any} */ value) {
  const raw = /** @type {any} */ (JSON).rawJSON ?? String;
  return JSON.stringify(value, (_, member) => (typeof member === "bigint" ? raw(String(member)) : member));
}

/** JSON that tells a value from others of its type. */
export function textOf(/** @type {any} */ value) {
  try {
    return JSON.stringify(value); // several times as fast as with a function, and there are seldom BigInts
  } catch {
    return JSON.stringify(value, (_, member) => (typeof member === "bigint" ? { bigint: String(member) } : member));
  }
}

/** A name that nobody else has. `crypto.randomUUID` is to be had over https only. */
export function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
