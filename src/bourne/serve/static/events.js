/** Server-Sent Events, read from a fetch: unlike an EventSource, it can carry a token, and go on from an id of ours. */

/** The events of a stream as they come; one without its end does not count. `alive` is called for whatever comes. */
export async function* serverSentEvents(/** @type {ReadableStream<any>} */ body, /** @type {() => void} */ alive) {
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
