// Asking the server; errors in its own words. Nothing here knows what is shown.

import { h } from "./dom.js";
import { parseExact } from "./format.js";

const PATIENCE_MS = 15_000;

/** What the server refused, and why (RFC 9457). */
export class Problem extends Error {
  constructor(status, members) {
    super(members.title ?? `The server answered ${status}`);
    this.status = status;
    this.members = members;
  }
}

/** The server could not be asked. */
export class Unreachable extends Error {}

/** Ask, and return the Response; its body is still to be read. */
export async function request(path, { method = "GET", body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw error;
    throw new Unreachable("The server does not answer.", { cause: error });
  }
  if (response.ok) return response;
  const text = await response.text();
  let members = {};
  try {
    members = JSON.parse(text);
  } catch {
    // A proxy before a server that is gone says so in its own way.
    if (response.status >= 502 && response.status <= 504) throw new Unreachable("The server does not answer.");
  }
  if (response.status === 401) document.dispatchEvent(new Event("bourne:sign-in"));
  throw new Problem(response.status, members);
}

/** Ask for JSON; `exact` keeps the digits of all numbers. */
export async function ask(path, { exact = false, ...options } = {}) {
  const response = await request(path, { signal: AbortSignal.timeout(PATIENCE_MS), ...options });
  const text = await response.text();
  if (!text) return {};
  return exact ? parseExact(text) : JSON.parse(text);
}

/** An error in words: what is wrong, where, what was expected and found, what to do. */
export function errorBox(error) {
  const members = error instanceof Problem ? error.members : {};
  const line = (label, value) =>
    value === null || value === undefined
      ? null
      : h("div", {}, h("dt", {}, label), h("dd", {}, h("pre", {}, typeof value === "string" ? value : JSON.stringify(value))));
  return h(
    "div",
    { class: "error", role: "alert" },
    h("p", { class: "error-title" }, error.message),
    members.detail && members.detail !== members.title ? h("p", {}, members.detail) : null,
    h("dl", {}, line("Where", members.where), line("Expected", members.expected), line("Found", members.found), line("To do", members.hint)),
  );
}
