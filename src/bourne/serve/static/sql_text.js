// SQL as people look at it: coloured by kind of word, and what a word that is begun could become. It parses nothing.

import { h } from "./dom.js";

export const KEYWORDS = (
  "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET JOIN LEFT RIGHT FULL INNER OUTER CROSS ON USING AS AND OR NOT IN " +
  "BETWEEN LIKE ILIKE IS NULL TRUE FALSE CASE WHEN THEN ELSE END DISTINCT UNION ALL EXCEPT INTERSECT WITH EXISTS CAST ASC " +
  "DESC INTERVAL OVER PARTITION ROWS RANGE UNBOUNDED PRECEDING FOLLOWING CURRENT ROW FILTER QUALIFY VALUES LATERAL ASOF " +
  "TUMBLE HOP CUMULATE SESSION COUNT SUM AVG MIN MAX COALESCE ROUND LOWER UPPER SUBSTRING DATE_TRUNC"
).split(" ");

const KNOWN = new Set(KEYWORDS);
const TOKEN = /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*(?:'|$))|("(?:[^"]|"")*(?:"|$))|(\b\d[\d_.]*(?:e[+-]?\d+)?\b)|([\p{L}_][\p{L}\p{N}_$]*)/giu;

/** Return SQL as texts and coloured elements. */
export function highlight(sql) {
  const parts = [];
  let end = 0;
  for (const found of sql.matchAll(TOKEN)) {
    const [text, comment, string, , number, word] = found;
    const kind = comment ? "comment" : string ? "string" : number ? "digit" : word && KNOWN.has(word.toUpperCase()) ? "keyword" : null;
    if (!kind) continue;
    parts.push(sql.slice(end, found.index), h("span", { class: `sql-${kind}` }, text));
    end = found.index + text.length;
  }
  parts.push(sql.slice(end));
  return parts;
}

const quoted = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) && !KNOWN.has(name.toUpperCase()) ? name : `"${name.replaceAll('"', '""')}"`);

/**
 * What the word before `at` could become: {start, found: [{text, kind, note}]}; `start` is where the word begins.
 * `relations` are {name, kind, columns: [{name, type}]}. After `x.` only columns of x; columns of what is named in the text first.
 */
export function complete(sql, at, relations, isAsked = false) {
  const before = sql.slice(0, at);
  const [, owner, word] = /(?:([\p{L}\p{N}_$]+|"(?:[^"]|"")*")\.)?("?[\p{L}\p{N}_$]*)$/u.exec(before);
  const start = at - word.length;
  const isRelation = /\b(FROM|JOIN)\s+$/i.test(sql.slice(0, start));
  if (!isAsked && !owner && !isRelation && word.length === 0) return { start, found: [] };
  if (insideText(before)) return { start, found: [] };
  const begun = word.replace(/^"/, "").toLowerCase();
  const plain = (name) => name.replace(/^"|"$/g, "").toLowerCase();
  const named = aliases(sql, relations);
  const column = (relation) => relation.columns.map((each) => ({ text: quoted(each.name), label: each.name, kind: "column", note: `${relation.name} · ${each.type.toLowerCase()}` }));
  let all;
  if (owner) {
    const relation = named.get(plain(owner)) ?? relations.find((each) => each.name.toLowerCase() === plain(owner));
    all = relation ? column(relation) : [];
  } else {
    const used = new Set(named.values());
    all = [
      ...(isRelation ? [] : [...used].flatMap(column)),
      ...relations.map((each) => ({ text: quoted(each.name), label: each.name, kind: each.kind, note: each.kind })),
      ...(isRelation ? [] : KEYWORDS).map((each) => ({ text: each, label: each, kind: "keyword", note: "" })),
    ];
  }
  const seen = new Set();
  const found = all.filter(({ text, label }) => label.toLowerCase().startsWith(begun) && !seen.has(text) && seen.add(text));
  // A word that is complete needs no list that takes the Enter key away.
  if (!isAsked && found.some((each) => each.label.toLowerCase() === begun)) return { start, found: [] };
  return { start, found: found.slice(0, 12) };
}

/** The relations that are named after FROM and JOIN, by alias and by name. */
function aliases(sql, relations) {
  const named = new Map();
  const byName = new Map(relations.map((each) => [each.name.toLowerCase(), each]));
  for (const [, raw, alias] of sql.matchAll(/(?:\bFROM|\bJOIN|,)\s+([\p{L}\p{N}_$]+|"[^"]*")(?:\s+(?:AS\s+)?([\p{L}_][\p{L}\p{N}_$]*))?/giu)) {
    const relation = byName.get(raw.replace(/"/g, "").toLowerCase());
    if (!relation) continue;
    named.set(relation.name.toLowerCase(), relation);
    if (alias && !KNOWN.has(alias.toUpperCase())) named.set(alias.toLowerCase(), relation);
  }
  return named;
}

/** Say whether a text ends inside a string or a comment. */
function insideText(before) {
  const last = [...before.matchAll(TOKEN)].at(-1);
  if (!last || last.index + last[0].length !== before.length) return false;
  if (last[1]) return last[1].startsWith("--") || !last[1].endsWith("*/");
  return Boolean(last[2]) && !/^'(?:[^']|'')*'$/.test(last[2]);
}
