// The form that starts a run: a field for each parameter of the job, of its type. What is written in it is checked by the server.

import { ask, errorBox } from "./api.js";
import { h, put } from "./dom.js";
import { valueText } from "./format.js";
import { runHref } from "./runs.js";

let number = 0;

/** Open the form for a job; it leads to the run's page. */
export function openStartForm(job) {
  const problem = h("div");
  const fields = job.parameters.map(field);
  const again = h("input", { type: "checkbox", id: "start-again" });
  const start = h("button", { type: "submit", class: "primary" }, "Start");
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = h(
    "form",
    { onsubmit: submit },
    h("h2", { id: "start-title" }, `Start ${job.name}`),
    job.description ? h("p", { class: "note" }, job.description) : null,
    problem,
    fields.map((each) => each.element),
    h("p", { class: "check" }, again, h("label", { for: "start-again" }, "Do all of it once more, even if it has completed")),
    h("div", { class: "buttons" }, start, cancel),
  );
  const dialog = h("dialog", { class: "start", "aria-labelledby": "start-title", onclose: () => dialog.remove() }, form);

  async function submit(event) {
    event.preventDefault();
    start.disabled = true;
    try {
      const parameters = Object.fromEntries(fields.map((each) => [each.name, each.value()]).filter(([, value]) => value !== undefined));
      const path = `jobs/${encodeURIComponent(job.name)}/runs${again.checked ? "?again=true" : ""}`;
      const { run } = await ask(path, { method: "POST", body: parameters });
      dialog.close();
      location.hash = runHref(run.id);
    } catch (error) {
      put(problem, errorBox(error));
      start.disabled = false;
      start.focus();
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** One parameter: its label, its control, and what it says: undefined if nothing, so that the default holds. */
function field({ name, text, required, schema }) {
  const id = `start-field-${(number += 1)}`;
  const kinds = schema.anyOf ?? [schema];
  const kind = kinds.find((each) => each.type !== "null") ?? {};
  const standard = "default" in schema && schema.default !== null ? valueText(schema.default) : "";
  const choices = kind.enum ?? ("const" in kind ? [kind.const] : null);
  const wrap = (control, value) => ({
    name,
    value,
    element: h("p", { class: "field" }, h("label", { for: id }, name, h("span", { class: "type" }, ` ${text.slice(name.length + 2)}`)), control),
  });
  if (choices) {
    const options = choices.map((each, index) => h("option", { value: String(index) }, valueText(each)));
    const none = h("option", { value: "" }, required ? "choose one" : standard ? `default: ${standard}` : "default");
    const control = h("select", { id, required }, none, options);
    return wrap(control, () => (control.value === "" ? undefined : plain(choices[Number(control.value)])));
  }
  if (kind.type === "boolean" && kinds.length === 1) {
    const control = h("input", { id, type: "checkbox", checked: schema.default === true });
    const made = wrap(control, () => control.checked);
    made.element = h("p", { class: "check" }, control, h("label", { for: id }, name, h("span", { class: "type" }, ` ${text.slice(name.length + 2)}`)));
    return made;
  }
  if (kind.type === "array" || kind.type === "object") {
    const control = h("textarea", { id, required, rows: "3", placeholder: standard || (kind.type === "array" ? "[…]" : "{…}"), spellcheck: "false" });
    return wrap(control, () => (control.value.trim() === "" ? undefined : json(control.value)));
  }
  // Numbers go as texts: the server reads them with all their digits.
  const isNumber = kinds.some((each) => ["integer", "number"].includes(each.type));
  const control = h("input", {
    id,
    type: kind.format === "date" ? "date" : "text",
    inputmode: isNumber ? (kind.type === "integer" ? "numeric" : "decimal") : null,
    placeholder: standard || (kind.format === "date-time" ? "2026-01-31 09:00:00" : null),
    required,
    autocomplete: "off",
    spellcheck: "false",
  });
  return wrap(control, () => (control.value === "" ? undefined : control.value));
}

const plain = (value) => (typeof value === "string" ? valueText(value) : value);

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text; // the server says what is wrong with it
  }
}
