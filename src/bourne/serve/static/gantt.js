// The steps of a run over time: a bar for each, and a thinner one under it for each of its parts.

import { h, put, setText, svg } from "./dom.js";
import { brief, many } from "./format.js";
import { keyedRows } from "./keyed.js";
import { level, statusWord, took } from "./runs.js";

const WIDTH = 1000; // the picture is stretched to its place
const BAR = 14;
const PART = 5;
const GAP = 2;
const PARTS_MAX = 60; // more are no picture any more; the table of steps has their sums

/** Make a chart; `show(run, steps, nowUs)` draws it. */
export function makeGantt() {
  const rows = h("div", { class: "gantt-rows" });
  const middle = h("span");
  const end = h("span");
  const axis = h("div", { class: "gantt-axis", "aria-hidden": "true" }, h("span", {}, "0"), middle, end);
  const element = h("div", { class: "gantt" }, rows, axis);
  const showRows = keyedRows(rows, (each) => each.step.step, makeRow);

  function show(run, steps, nowUs) {
    const begin = run.started_us;
    const length = Math.max(1, took(run, nowUs));
    setText(middle, brief(length / 2));
    setText(end, brief(length));
    showRows(steps.map((step) => ({ step, begin, length, nowUs })));
  }

  return { element, show };
}

function makeRow() {
  const name = h("span", { class: "gantt-name" });
  const note = h("span", { class: "note" });
  const plot = svg("svg", { preserveAspectRatio: "none", role: "img" });
  const element = h("div", { class: "gantt-row" }, h("div", { class: "gantt-label" }, name, note), plot);
  return {
    element,
    show({ step, begin, length, nowUs }) {
      const begun = step.parts.filter((part) => part.status !== "WAITING");
      const parts = begun.slice(0, PARTS_MAX);
      const height = BAR + parts.length * (PART + GAP);
      const words = `${statusWord(step.status)}, ${brief(took(step, nowUs))}`;
      setText(name, step.step);
      const left = step.parts.length - begun.length;
      setText(note, step.parts.length ? `${words}, ${many(step.parts.length, "part")}${left ? `, ${left} waiting` : ""}` : words);
      plot.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
      plot.setAttribute("height", String(height));
      plot.setAttribute("aria-label", `${step.step}: ${words}, began ${brief(Math.max(0, step.started_us - begin))} after the run`);
      const bar = (each, y, thickness) => {
        const x = clip(((each.started_us - begin) / length) * WIDTH);
        const width = Math.max(3, clip(((each.started_us + took(each, nowUs) - begin) / length) * WIDTH) - x);
        const title = `${each.label ?? each.step}: ${statusWord(each.status)}, ${brief(took(each, nowUs))}`;
        return svg("rect", { class: "gantt-bar", "data-level": level(each.status), x: Math.min(x, WIDTH - 3), y, width, height: thickness }, svg("title", {}, title));
      };
      put(plot, bar(step, 0, BAR), parts.map((part, index) => bar(part, BAR + GAP + index * (PART + GAP), PART)));
    },
  };
}

const clip = (x) => Math.min(WIDTH, Math.max(0, x));
