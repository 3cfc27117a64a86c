// The HTTP interface, from its own description: what can be asked, and with what.

import { ask, errorBox } from "../api.js";
import { h, put } from "../dom.js";
import { plainTable } from "../table.js";

export function open(root) {
  const box = h("div", {}, h("p", { class: "loading" }, "Loading…"));
  put(root, h("div", { class: "title" }, h("h1", {}, "API")), h("p", { class: "note" }, "What programs ask. The same for machines: ", h("a", { href: "openapi.json" }, "openapi.json"), "."), box);
  ask("openapi.json").then(
    (found) => put(box, Object.entries(found.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, what]) => operation(found, path, method, what)))),
    (problem) => put(box, errorBox(problem)),
  );
  return { title: "API" };
}

function operation(found, path, method, what) {
  const name = h("code", {}, `${method.toUpperCase()} ${path}`);
  const isPlain = method === "get" && !path.includes("{");
  const rows = [...(what.parameters ?? []).map(parameter), ...members(found, what.requestBody)];
  const columns = ["Name", "In", "Type", "What it says"];
  return h(
    "section",
    {},
    h("h2", {}, isPlain ? h("a", { href: path.slice(1) }, name) : name),
    h("p", {}, what.description ?? what.summary ?? ""),
    rows.length ? plainTable(`What ${method} ${path} takes`, columns, rows) : null,
  );
}

function parameter({ name, in: place, schema = {}, description = "", required }) {
  return [h("code", {}, name), place, kind(schema), `${description}${required && place !== "path" ? " Required." : ""}`];
}

/** The members of a JSON body, or which bodies are taken. */
function members(found, body) {
  if (!body) return [];
  const json = body.content["application/json"]?.schema ?? {};
  const schema = json.$ref ? found.components.schemas[json.$ref.split("/").at(-1)] : json;
  if (!schema.properties) return [[h("code", {}, "body"), "body", Object.keys(body.content).join(", "), body.description ?? ""]];
  return Object.entries(schema.properties).map(([name, each]) => parameter({ name, in: "body", schema: each, description: each.description, required: schema.required?.includes(name) }));
}

function kind(schema) {
  const kinds = (schema.anyOf ?? [schema]).filter((each) => each.type !== "null");
  const words = kinds.map((each) => each.enum?.join(" | ") ?? each.type ?? "");
  const bounds = kinds.flatMap(({ minimum, maximum }) => [minimum !== undefined ? `≥ ${minimum}` : null, maximum !== undefined ? `≤ ${maximum}` : null]).filter(Boolean);
  const normal = schema.default !== undefined && schema.default !== null && schema.default !== "" ? `, by default ${schema.default}` : "";
  return `${words.join(" or ")}${bounds.length ? ` (${bounds.join(", ")})` : ""}${normal}`;
}
