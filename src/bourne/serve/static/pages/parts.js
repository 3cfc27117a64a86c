// Parts that several pages share.

import { makeChart } from "../chart.js";
import { empty, h, put, section } from "../dom.js";
import { short } from "../format.js";
import { history } from "../live.js";
import { href, neighbours } from "../nodes.js";

/** The head of a page about one thing: its kind and name. */
export const heading = (kind, name, ...more) => h("div", { class: "title" }, h("p", { class: "kind-word", "data-kind": kind }, kind), h("h1", {}, name), ...more);

/** A link to a log, view, source or sink. */
export const link = (kind, name, text = name) => h("a", { href: href(kind, name), class: "thing", "data-kind": kind }, text);

/** What is not there, or not any more. */
export const missing = (kind, name) => empty(`There is no ${kind} ${name}.`, h("p", {}, h("a", { href: "#/" }, "Go to the overview")));

/** Where records come from, and where they go. */
export function lineage(id) {
  const element = h("p", { class: "lineage" });
  let drawn = "";
  function show() {
    const { before, after } = neighbours(id);
    const now = JSON.stringify([before, after].map((list) => list.map((each) => each?.id)));
    if (now === drawn) return;
    drawn = now;
    const links = (list) => list.filter(Boolean).flatMap((each, index) => [index ? ", " : "", link(each.kind, each.name)]);
    put(
      element,
      before.length ? [h("span", {}, "from "), ...links(before)] : null,
      before.length && after.length ? h("span", { "aria-hidden": "true" }, "  →  ") : null,
      after.length ? [h("span", {}, "to "), ...links(after)] : null,
    );
  }
  return [element, show];
}

/** Charts of the last ten minutes. */
export function charts(id, rowsTitle, { withLag = true } = {}) {
  const all = [
    makeChart("Records per second", (point) => point.rate, (value) => (Number.isInteger(value) || value >= 10 ? short(value) : value.toFixed(1))),
    withLag ? makeChart("Lag in records", (point) => point.lag, (value) => short(value)) : null,
    makeChart(rowsTitle, (point) => point.rows, (value) => short(value)),
  ].filter(Boolean);
  const element = section("The last ten minutes", h("div", { class: "charts" }, all.map((each) => each.element)));
  return [element, () => all.forEach((each) => each.show(history(id)))];
}
