// Rows that keep their elements while what they show changes, so that the focus and the place of reading stay.

import { h } from "./dom.js";

/** Fill a parent with a child for each item. `make(item)` returns {element, show(item)}; `idOf(item)` says which is which. */
export function keyedRows(parent, idOf, make) {
  let known = new Map();
  return (items) => {
    const next = new Map();
    for (const item of items) {
      const id = idOf(item);
      const row = known.get(id) ?? make(item);
      row.show(item);
      next.set(id, row);
    }
    for (const [id, row] of known) if (!next.has(id)) row.element.remove();
    let at = parent.firstChild;
    for (const { element } of next.values()) {
      if (element === at) at = at.nextSibling;
      else parent.insertBefore(element, at);
    }
    known = next;
  };
}

/** A table whose rows are kept; `columns` are names, those in `numbers` are set to the right. Returns {element, body}. */
export function keyedTable(caption, columns, { numbers = [] } = {}) {
  const body = h("tbody");
  const headings = columns.map((name) => h("th", { scope: "col", class: numbers.includes(name) ? "number" : null }, name));
  const table = h("table", { class: "all" }, h("caption", { class: "visually-hidden" }, caption), h("thead", {}, h("tr", {}, headings)), body);
  const element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
  return { element, body };
}
