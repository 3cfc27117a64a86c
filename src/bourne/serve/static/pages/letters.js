// Dead letters: what sources could not take in, and sinks refused, to be tried again or given up.

import { ask, errorBox } from "../api.js";
import { empty, h, put, setText } from "../dom.js";
import { many } from "../format.js";
import { live } from "../live.js";
import { isAdmin } from "../session.js";
import { plainTable } from "../table.js";

const SURE_MS = 4_000;

export function open(root) {
  const said = h("p", { class: "note", role: "status" });
  const problem = h("div");
  const box = h("div", {}, h("p", { class: "loading" }, "Loading…"));
  put(root, h("div", { class: "title" }, h("h1", {}, "Dead letters")), h("p", { class: "note" }, "What sources could not take in, and sinks refused. Retry a letter once its reason is mended: it comes in once, however often it is tried."), problem, said, box);
  let shown = "";
  let heard = "";

  async function load() {
    try {
      const answer = await ask("dead-letters");
      const now = JSON.stringify(answer);
      if (now === shown) return;
      shown = now;
      show(answer);
    } catch (error) {
      if (shown === "") put(box, errorBox(error));
    }
  }

  function show({ letters, more }) {
    if (letters.length === 0) return put(box, empty("No dead letters.", h("p", {}, "All that came could be taken in and delivered.")));
    const columns = ["When", "From", "Reason", "Payload", ...(isAdmin() ? ["Do"] : [])];
    const rows = letters.map((letter) => [
      h("span", { class: "nowrap" }, String(letter.at)),
      h("span", { class: "reason" }, letter.origin, letter.place ? h("span", { class: "note" }, ` ${letter.place}`) : null),
      h("span", { class: "reason" }, letter.reason),
      payload(String(letter.payload)),
      ...(isAdmin() ? [buttons(letter)] : []),
    ]);
    put(box, plainTable("Dead letters", columns, rows), more ? h("p", { class: "foot note" }, "There are more; these are the first.") : null);
  }

  function buttons(letter) {
    const retry = h("button", { type: "button", "aria-label": `Retry letter from ${letter.origin}`, onclick: () => act("retry", letter) }, "Retry");
    let isSure = false;
    const discard = h("button", { type: "button", class: "danger", "aria-label": `Discard letter from ${letter.origin}` }, "Discard");
    discard.addEventListener("click", () => {
      if (isSure) return void act("discard", letter);
      isSure = true;
      setText(discard, "Sure?");
      discard.setAttribute("aria-label", `Really discard letter from ${letter.origin}?`);
      setTimeout(() => {
        isSure = false;
        setText(discard, "Discard");
      }, SURE_MS);
    });
    return h("span", { class: "buttons" }, retry, discard);
  }

  async function act(what, letter) {
    put(problem);
    try {
      await ask(`dead-letters/${what}`, { method: "POST", body: { ids: [letter.id] } });
      setText(said, `The letter from ${letter.origin} was ${what === "retry" ? "tried again" : "discarded"}.`);
    } catch (error) {
      put(problem, errorBox(error));
    }
    await load();
    root.focus({ preventScroll: true }); // the button that had the focus may be gone
  }

  function update() {
    const counts = [...live.status.sources, ...live.status.sinks].map((each) => each.dead_letters);
    const dead = live.status.logs.filter((each) => each.name.startsWith("dead_letters")).map((each) => each.end);
    const now = JSON.stringify([counts, dead]);
    if (now !== heard) void load();
    heard = now;
  }

  return { title: "Dead letters", update };
}

/** A payload on one line, whole on demand. */
function payload(text) {
  if (text.length <= 80 && !text.includes("\n")) return h("code", {}, text);
  return h("details", { class: "payload" }, h("summary", {}, h("code", {}, `${text.slice(0, 80).replaceAll("\n", " ")}…`), h("span", { class: "note" }, ` ${many(text.length, "character")}`)), h("pre", {}, text));
}
