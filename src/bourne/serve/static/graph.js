// The picture of all that flows: nodes are links with live figures, edges move while records do.

import { h, put, setText, svg } from "./dom.js";
import { bytes, rate, short, shortInstant } from "./format.js";
import { layOut, NODE } from "./layout.js";

const SMALLEST = 0.84;
const MARGIN = 24; // as in style.css

/** Make the picture; `show({nodes, edges})` draws it, anew only if there are other nodes or edges. */
export function makeGraph() {
  const box = h("div", { class: "graph", role: "group", "aria-label": "Sources, logs, views and sinks; the table below says the same", tabindex: "-1" });
  let drawn = "";
  let cards = new Map();
  let lines = [];
  let size = { width: 0, element: null };
  new ResizeObserver(fit).observe(box);

  /** Make the picture small enough for its box, as long as it can be read. */
  function fit() {
    if (!size.element) return;
    size.element.style.zoom = Math.max(SMALLEST, Math.min(1, box.clientWidth / (size.width + 2 * MARGIN)));
  }

  function draw({ nodes, edges }) {
    const layout = layOut(nodes, edges);
    const byId = new Map(nodes.map((each) => [each.id, each]));
    lines = layout.edges.map((edge) => ({ ...edge, element: svg("path", { class: "edge", d: edge.path }) }));
    cards = new Map([...layout.nodes].map(([id, place]) => [id, card(byId.get(id), place)]));
    const canvas = h(
      "div",
      { class: "canvas" },
      svg("svg", { width: layout.width, height: layout.height, "aria-hidden": "true" }, lines.map((each) => each.element)),
      [...cards.values()].map((each) => each.element),
    );
    canvas.style.width = `${layout.width}px`;
    canvas.style.height = `${layout.height}px`;
    canvas.addEventListener("pointerover", (event) => light(event.target.closest("a")?.dataset.id));
    canvas.addEventListener("pointerleave", () => light());
    canvas.addEventListener("focusin", (event) => light(event.target.dataset.id));
    canvas.addEventListener("focusout", () => light());
    put(box, canvas);
    size = { width: layout.width, element: canvas };
    fit();
  }

  /** Show where a node's records come from and go to, by dimming all else. */
  function light(id) {
    const near = new Set(id ? [id] : []);
    const spread = (from, to) => {
      const found = [id];
      while (found.length) {
        const at = found.pop();
        for (const line of lines) {
          if (line[from] !== at) continue;
          line.isNear = true;
          if (!near.has(line[to])) found.push(line[to]);
          near.add(line[to]);
        }
      }
    };
    for (const line of lines) line.isNear = false;
    if (id) {
      spread("from", "to");
      spread("to", "from");
    }
    box.classList.toggle("is-lit", near.size > 0);
    for (const line of lines) line.element.classList.toggle("near", line.isNear);
    for (const [each, { element }] of cards) element.classList.toggle("near", near.has(each));
  }

  function show({ nodes, edges }) {
    const now = JSON.stringify([nodes.map((each) => each.id), edges]);
    if (now !== drawn) draw({ nodes, edges });
    drawn = now;
    const byId = new Map(nodes.map((each) => [each.id, each]));
    for (const node of nodes) cards.get(node.id).show(node);
    for (const { element, from, to } of lines) {
      const target = byId.get(to);
      // What comes out of a node goes into the next one; a failed one takes nothing.
      element.classList.toggle("flows", byId.get(from).rate > 0 && target.rate > 0);
      element.classList.toggle("fails", target.level === "bad");
    }
  }

  return { element: box, show };
}

function card(node, { x, y }) {
  const figure = h("span", { class: "node-figures" });
  const more = h("span", { class: "node-more" });
  const element = h(
    "a",
    { class: "node", href: node.href, "data-id": node.id, "data-kind": node.kind, title: node.name },
    h("span", { class: "node-name" }, h("span", { class: "kind" }), h("span", { class: "visually-hidden" }, `${node.kind} `), h("span", { class: "cut" }, node.name)),
    figure,
    more,
  );
  element.style.transform = `translate(${x}px, ${y}px)`;
  element.style.width = `${NODE.width}px`;
  element.style.height = `${NODE.height}px`;
  return {
    element,
    show(now) {
      element.dataset.level = now.level;
      const rows = now.kind === "log" ? `${short(now.rows)} records` : now.lag ? `lag ${short(now.lag)}` : now.lag === 0 ? "no lag" : "";
      setText(figure, [rate(now.rate), rows].filter(Boolean).join(" · "));
      setText(more, now.words && now.level !== "good" ? now.words : secondLine(now));
      more.title = now.words;
    },
  };
}

function secondLine(node) {
  if (node.kind === "log") return bytes(node.bytes);
  if (node.kind !== "view") return `${short(node.rows)} records`;
  const time = node.isComplete ? "complete" : node.watermark === null ? "" : `time ${shortInstant(node.watermark)}`;
  return [time, `state ${bytes(node.state)}`].filter(Boolean).join(" · ");
}
