// One line over the last ten minutes, with axes, and its values under the pointer or the arrow keys.

import { h, put, setText, svg } from "./dom.js";
import { clock } from "./format.js";
import { HISTORY_MS } from "./live.js";

const WIDTH = 360;
const HEIGHT = 150;
const LEFT = 48;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;
const STEP_MS = 5_000; // what an arrow key moves by

/** Make a chart of `pick(point)`; `show(points)` draws it. */
export function makeChart(title, pick, format) {
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  const now = h("span", { class: "chart-now" });
  const tip = h("output", { class: "chart-tip" });
  const frame = h("div", { class: "chart-frame", tabindex: "0", role: "group", "aria-label": `${title} over the last ten minutes; arrow keys read it`, onkeydown: onKey, onblur: () => point(null) }, plot);
  const element = h("figure", { class: "chart" }, h("figcaption", {}, title, now), frame, tip);
  frame.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    point(Math.min(HISTORY_MS, Math.max(0, HISTORY_MS * (1 - (x - LEFT) / (WIDTH - LEFT - RIGHT)))));
  });
  frame.addEventListener("pointerleave", () => point(null));
  let values = [];
  let age = null; // of what is pointed at, in milliseconds before the newest

  function onKey(event) {
    const moves = { ArrowLeft: STEP_MS, ArrowRight: -STEP_MS, Home: HISTORY_MS, End: -HISTORY_MS };
    if (event.key === "Escape") return point(null);
    if (!(event.key in moves) || !values.length) return;
    event.preventDefault();
    const oldest = values.at(-1).at - values[0].at;
    point(Math.min(oldest, Math.max(0, (age ?? 0) + moves[event.key])));
  }

  function point(to) {
    age = to;
    draw();
  }

  function show(points) {
    values = points.map((each) => ({ at: each.at, value: pick(each) })).filter((each) => each.value !== null);
    draw();
  }

  function draw() {
    const last = values.at(-1);
    setText(now, last ? format(last.value) : "–");
    const top = roundUp(Math.max(...values.map((each) => each.value), 0));
    const x = (at) => LEFT + (1 - (last.at - at) / HISTORY_MS) * (WIDTH - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const value of [0, top / 2, top]) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)));
    }
    for (const minutes of [10, 5, 0]) {
      const at = LEFT + (1 - minutes / 10) * (WIDTH - LEFT - RIGHT);
      const anchor = { 10: "start", 5: "middle", 0: "end" }[minutes];
      parts.push(svg("text", { class: "tick", x: at, y: HEIGHT - 5, "text-anchor": anchor }, minutes ? `−${minutes} min` : "now"));
    }
    if (values.length > 1) {
      const line = values.map((each, index) => `${index ? "L" : "M"}${x(each.at).toFixed(1)} ${y(each.value).toFixed(1)}`).join("");
      parts.push(svg("path", { class: "area", d: `${line}L${x(last.at).toFixed(1)} ${y(0)}L${x(values[0].at).toFixed(1)} ${y(0)}Z` }));
      parts.push(svg("path", { class: "line", d: line }));
    }
    const found = age === null || !last ? null : values.reduce((a, b) => (Math.abs(last.at - age - b.at) < Math.abs(last.at - age - a.at) ? b : a));
    if (found) {
      parts.push(svg("line", { class: "cursor", x1: x(found.at), x2: x(found.at), y1: TOP, y2: HEIGHT - BOTTOM }));
      parts.push(svg("circle", { class: "dot", cx: x(found.at), cy: y(found.value), r: 3.5 }));
    }
    put(plot, parts);
    setText(tip, found ? `${format(found.value)} at ${clock(Date.now() - (performance.now() - found.at))}` : "");
  }

  return { element, show };
}

/** The next of 1, 2, 5, 10, 20, … */
function roundUp(value) {
  if (value <= 2) return 2;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= value);
}
