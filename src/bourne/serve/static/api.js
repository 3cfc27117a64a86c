// Asking the server: errors in its own words, and streams of events. Nothing here knows what is shown.

import { h } from "./dom.js";
import { parseExact } from "./format.js";

const PATIENCE_MS = 15_000;
const SILENCE_MS = 45_000; // three times as long as a stream may say nothing

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

/** Follow a stream of Server-Sent Events: calls `onEvent({event, id, data})` until it ends or `signal` stops it. */
export async function follow(path, { signal, onEvent }) {
  const response = await request(path, { accept: "text/event-stream", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    // A connection that died without a word is ended here, and looks like the end of the stream.
    const silence = setTimeout(() => void reader.cancel(), SILENCE_MS);
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Unreachable("The stream was cut.", { cause: error });
    } finally {
      clearTimeout(silence);
    }
    if (piece.done) return;
    text += piece.value.replaceAll("\r", "");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = parseEvent(text.slice(0, end));
      text = text.slice(end + 2);
      if (event.data !== undefined) onEvent({ ...event, data: parseExact(event.data) });
    }
  }
}

function parseEvent(text) {
  const event = { event: "message" };
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue; // a comment: a sign of life
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    event[name] = name === "data" && event.data !== undefined ? `${event.data}\n${value}` : value;
  }
  return event;
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
