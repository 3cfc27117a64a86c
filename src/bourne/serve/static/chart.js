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
const SPANS_MIN = [1, 2, 5, 10]; // the shortest that holds all that is known
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
    point(Math.min(spanMs(), Math.max(0, spanMs() * (1 - (x - LEFT) / (WIDTH - LEFT - RIGHT)))));
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

  /** How long the axis is. */
  function spanMs() {
    const known = values.length ? values.at(-1).at - values[0].at : 0;
    return SPANS_MIN.map((each) => each * 60_000).find((each) => each >= known) ?? HISTORY_MS;
  }

  function show(points) {
    values = points.map((each) => ({ at: each.at, value: pick(each) })).filter((each) => each.value !== null);
    draw();
  }

  function draw() {
    const last = values.at(-1);
    setText(now, last ? format(last.value) : "–");
    const top = roundUp(Math.max(...values.map((each) => each.value), 0));
    const x = (at) => LEFT + (1 - (last.at - at) / spanMs()) * (WIDTH - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const value of [0, top / 2, top]) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)));
    }
    const minutes = spanMs() / 60_000;
    for (const [share, anchor] of [[1, "start"], [0.5, "middle"], [0, "end"]]) {
      const at = LEFT + (1 - share) * (WIDTH - LEFT - RIGHT);
      const text = share === 0 ? "now" : minutes * share < 1 ? `−${minutes * share * 60} s` : `−${minutes * share} min`;
      parts.push(svg("text", { class: "tick", x: at, y: HEIGHT - 5, "text-anchor": anchor }, text));
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

/** The next of 2, 4, 10, 20, 40, …: the half of each is a round number, too. */
function roundUp(value) {
  if (value <= 2) return 2;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 10].map((each) => each * power).find((each) => each >= value);
}
