// All that there is, as a picture and as a table.

import { empty, figures, h, put, section, setText } from "../dom.js";
import { bytes, count, instant, many, rate, short } from "../format.js";
import { makeGraph } from "../graph.js";
import { live } from "../live.js";
import { graph } from "../nodes.js";

const COLUMNS = ["Name", "Kind", "How it is", "Records/s", "Lag", "Rows or records", "Watermark", "State", "On disk"];
const NUMBERS = new Set(COLUMNS.slice(3));
const KIND_WORDS = { source: "source", log: "log", view: "view", sink: "sink" };

export function open(root) {
  const [facts, showFacts] = figures("Records/s in", "Views that follow", "Behind by", "Remembered", "Dead letters");
  const picture = makeGraph();
  const body = h("tbody");
  const table = h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "All figures" },
    h(
      "table",
      { class: "all" },
      h("caption", { class: "visually-hidden" }, "Sources, logs, views and sinks"),
      h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col", class: NUMBERS.has(name) ? "number" : null }, name)))),
      body,
    ),
  );
  const content = [facts, h("section", { class: "wide", "aria-label": "Picture" }, picture.element), section("All figures", table)];
  const nothing = empty(
    "Nothing is declared yet.",
    h("p", {}, "Declare a log and a view in a file, and run it:"),
    h("pre", {}, 'import bourne\n\napp = bourne.App("shop")\napp.log("orders", schema={"user": "varchar", "amount": "double"})\napp.view("spend", "SELECT user, sum(amount) AS total FROM orders GROUP BY user")'),
    h("pre", {}, "bourne run app.py"),
    h("p", {}, "This page goes on by itself."),
  );
  const title = h("h1", { class: "visually-hidden" }, "Overview");
  let lines = new Map();

  function update() {
    const now = graph();
    const isEmpty = now.nodes.length === 0;
    const wanted = isEmpty ? nothing : facts;
    if (!wanted.isConnected) put(root, title, isEmpty ? nothing : content);
    if (isEmpty) return;
    picture.show(now);
    summarise(now.nodes);
    if (now.nodes.some((each) => !lines.has(each.id)) || lines.size !== now.nodes.length) {
      lines = new Map(now.nodes.map((each) => [each.id, line(each)]));
      put(body, [...lines.values()].map((each) => each.element));
    }
    for (const node of now.nodes) lines.get(node.id).show(node);
  }

  function summarise(nodes) {
    const { status } = live;
    const views = nodes.filter((each) => each.kind === "view");
    const failed = views.filter((each) => each.level === "bad").length;
    const rates = nodes.filter((each) => each.kind === "log" && each.rate !== null).map((each) => each.rate);
    const letters = [...status.sources, ...status.sinks].reduce((sum, each) => sum + each.dead_letters, 0);
    showFacts({
      "Records/s in": rates.length ? short(rates.reduce((sum, each) => sum + each, 0)) : "–",
      "Views that follow": failed ? h("span", { class: "bad" }, `${views.length - failed} of ${views.length}`) : `${views.length} of ${views.length}`,
      "Behind by": many(views.reduce((sum, each) => sum + each.lag, 0), "record"),
      Remembered: bytes(views.reduce((sum, each) => sum + each.state, 0)),
      "Dead letters": letters ? h("a", { href: "#/dead-letters" }, count(letters)) : "0",
    });
  }

  return { title: "", update };
}

function line(node) {
  const cells = COLUMNS.slice(1).map((name) => h("td", { class: NUMBERS.has(name) ? "number" : name === "How it is" ? "words" : null }));
  const element = h("tr", { "data-id": node.id }, h("th", { scope: "row" }, h("a", { href: node.href }, node.name)), cells);
  return {
    element,
    show(now) {
      element.dataset.level = now.level;
      const words = now.words || (now.kind === "log" ? "" : now.lag === 0 ? "up to date" : "running");
      const texts = [
        KIND_WORDS[now.kind],
        words,
        rate(now.rate).replace("/s", ""),
        count(now.lag),
        count(now.rows),
        now.isComplete ? "complete" : instant(now.watermark).replace(/\.\d+$/, ""),
        bytes(now.state),
        bytes(now.bytes),
      ];
      cells.forEach((cell, index) => setText(cell, texts[index]));
    },
  };
}
