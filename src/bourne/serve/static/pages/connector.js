// One source or sink: where it comes from or goes to, how it is, and since when.

import { figures, h, put, section, setText } from "../dom.js";
import { bytes, clock, count, many, rate } from "../format.js";
import { live, rateOf } from "../live.js";
import { charts, heading, lineage, missing } from "./parts.js";

export function open(root, { kind, name }) {
  const find = () => live.status[`${kind}s`].find((each) => each.name === name);
  if (!find()) {
    put(root, missing(kind, name));
    return { title: name };
  }
  const id = `${kind}/${name}`;
  const trouble = h("p", { class: "error trouble", role: "alert", hidden: true });
  const note = h("p", { class: "note" });
  const url = h("code", { class: "long" });
  const [from, showFrom] = lineage(id);
  const [facts, showFacts] = figures("How it is", "Records/s", "Records", "Lag", "Dead letters", "Promises", "Last heard of");
  const [graphs, showGraphs] = charts(id, "Records");
  put(root, heading(kind, name), from, trouble, facts, section("Address", url, note), graphs);

  function update() {
    const found = find();
    if (!found) return put(root, missing(kind, name));
    showFrom();
    showGraphs();
    trouble.hidden = !found.error;
    setText(trouble, found.error ?? "");
    setText(url, found.url);
    setText(note, found.note ?? "");
    const behind = [found.lag_records == null ? null : many(found.lag_records, "record"), found.lag_bytes == null ? null : bytes(found.lag_bytes)];
    showFacts({
      "How it is": found.state,
      "Records/s": rate(rateOf(id)).replace("/s", ""),
      Records: count(found.records),
      Lag: behind.filter(Boolean).join(", ") || "–",
      "Dead letters": found.dead_letters ? h("a", { href: "#/dead-letters" }, count(found.dead_letters)) : "0",
      Promises: found.delivery,
      "Last heard of": found.at_us ? clock(found.at_us / 1000) : "–",
    });
  }

  return { title: name, update };
}
