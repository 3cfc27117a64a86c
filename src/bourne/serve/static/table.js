// Tables of records: cells by type, headings that sort, rows that are reused so that a change can flash.

import { flash, h, put } from "./dom.js";
import { isNumeric, valueText } from "./format.js";

const CUT_AT = 2_000; // characters of a value: more makes a page slow, and nobody reads it in a cell

function fillCell(td, value) {
  const isNull = value === null || value === undefined;
  const text = isNull ? "NULL" : valueText(value);
  if (td.textContent === text && td.firstChild?.className === (isNull ? "null" : "value")) return;
  put(td, h("span", { class: isNull ? "null" : "value", title: text.length > 40 ? text.slice(0, CUT_AT) : null }, text.length > CUT_AT ? `${text.slice(0, CUT_AT)}…` : text));
}

/**
 * Make a table of records. `show(rows)` takes [{id, row, isNew}] in the order to be shown.
 * With `onSort`, a heading calls it with {column, descending}, or null for the order as it comes.
 */
export function recordTable(columns, { caption, onSort } = {}) {
  let sort = null;
  const headings = columns.map((column) => heading(column));
  const body = h("tbody");
  const table = h("table", { class: "records" }, h("caption", { class: "visually-hidden" }, caption ?? "Records"), h("thead", {}, h("tr", {}, headings)), body);
  const element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption ?? "Records" }, table);
  let known = new Map();

  function heading({ name, type }) {
    const label = [h("span", {}, name), h("span", { class: "type" }, (type ?? "").toLowerCase())];
    const attributes = { scope: "col", class: isNumeric(type ?? "") ? "number" : null };
    if (!onSort) return h("th", attributes, h("span", { class: "heading" }, label));
    return h("th", attributes, h("button", { type: "button", class: "heading", onclick: () => turn(name) }, label));
  }

  function turn(name) {
    if (sort?.column !== name) sort = { column: name, descending: false };
    else sort = sort.descending ? null : { column: name, descending: true };
    headings.forEach((each, index) => {
      if (columns[index].name !== sort?.column) each.removeAttribute("aria-sort");
      else each.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
    });
    onSort(sort);
  }

  function show(rows) {
    const next = new Map();
    for (const { id, row, isNew } of rows) {
      const tr = known.get(id) ?? h("tr", {}, columns.map(({ type }) => h("td", { class: isNumeric(type ?? "") ? "number" : null })));
      columns.forEach(({ name }, index) => fillCell(tr.children[index], row[name]));
      if (isNew) flash(tr);
      next.set(id, tr);
    }
    for (const [id, tr] of known) if (!next.has(id)) tr.remove();
    let at = body.firstChild;
    for (const tr of next.values()) {
      if (tr === at) at = at.nextSibling;
      else body.insertBefore(tr, at);
    }
    known = next;
  }

  return { element, show };
}

/** A table of texts and elements, `rows` a list of lists; columns named in `numbers` are set to the right. */
export function plainTable(caption, columns, rows, { numbers = [] } = {}) {
  const align = columns.map((name) => (numbers.includes(name) ? "number" : null));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map((name, index) => h("th", { scope: "col", class: align[index] }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, index) => h("td", { class: align[index] }, value))))),
    ),
  );
}
