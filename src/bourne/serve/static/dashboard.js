// The frame of the dashboard: which page the address names, the navigation, and whether the server is there.

import { errorBox } from "./api.js";
import { empty, h, put, setText } from "./dom.js";
import { clock, count } from "./format.js";
import { live, refresh, subscribe } from "./live.js";
import { href } from "./nodes.js";
import { prepareSession } from "./session.js";
import * as api from "./pages/api.js";
import * as connector from "./pages/connector.js";
import * as jobs from "./pages/jobs.js";
import * as letters from "./pages/letters.js";
import * as log from "./pages/log.js";
import * as overview from "./pages/overview.js";
import * as run from "./pages/run.js";
import * as sql from "./pages/sql.js";
import * as view from "./pages/view.js";

const PAGES = { "": overview, view, log, source: connector, sink: connector, sql, "dead-letters": letters, jobs, run, api };
const OF = { run: "jobs" }; // pages that belong to one of the navigation

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const pulse = document.getElementById("pulse");
const jump = document.getElementById("jump");
let current = null; // the open page: {title, update(), close()}
let names = "";

/** Take "#/view/spend?x=1" apart. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...rest] = path.split("/");
  let name = rest.join("/");
  try {
    name = decodeURIComponent(name);
  } catch {
    // a stray % in an address: the name as it stands there
  }
  return { page, name, query: new URLSearchParams(query) };
}

function open() {
  current?.close?.();
  current = null;
  const { page, name, query } = route();
  for (const link of document.querySelectorAll("nav a[data-page]")) {
    if (link.dataset.page === (OF[page] ?? page)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!live.status) {
    put(main, live.problem && live.problem.status !== 401 ? errorBox(live.problem) : h("p", { class: "loading" }, "Loading…"));
    return;
  }
  const found = PAGES[page];
  put(main);
  if (found) current = found.open(main, { kind: page, name, query });
  else put(main, empty("There is no such page.", h("p", {}, h("a", { href: "#/" }, "Go to the overview"))));
  setText(document.querySelector("title"), [current?.title ?? "", live.status.app ?? "", "Bourne"].filter(Boolean).join(" · "));
  current?.update?.();
}

function update() {
  const { status, goneSince, problem } = live;
  pulse.dataset.state = goneSince ? "gone" : problem ? "problem" : status ? "live" : "loading";
  setText(pulse, goneSince ? "not reachable" : problem ? (problem.status === 401 ? "signed out" : "refused") : status ? "live" : "connecting");
  const words = goneSince
    ? `Not reachable since ${clock(goneSince)}. ${status ? "The figures are the last ones known. " : ""}Trying again…`
    : problem && problem.status !== 401
      ? problem.message
      : "";
  setText(banner, words);
  banner.hidden = !words;
  if (!status) return current || open();
  document.body.classList.toggle("is-gone", Boolean(goneSince));
  setText(document.getElementById("app-name"), status.app ? `Bourne · ${status.app}` : "Bourne");
  countLetters(status);
  learnNames(status);
  if (current) current.update?.();
  else open();
}

function countLetters(status) {
  const number = [...status.sources, ...status.sinks].reduce((sum, each) => sum + each.dead_letters, 0);
  const badge = document.getElementById("letter-count");
  badge.hidden = number === 0;
  setText(badge, count(number));
}

function learnNames(status) {
  const all = [
    ...status.views.map((each) => ["view", each.name]),
    ...status.logs.map((each) => ["log", each.name]),
    ...status.sources.map((each) => ["source", each.name]),
    ...status.sinks.map((each) => ["sink", each.name]),
  ];
  const now = JSON.stringify(all);
  if (now === names) return;
  names = now;
  put(document.getElementById("names"), all.map(([kind, name]) => h("option", { value: name, label: kind })));
}

function go() {
  const wanted = jump.value.trim().toLowerCase();
  const all = names ? JSON.parse(names) : [];
  // The shortest name that has it is the nearest to what was typed.
  const [found] = all.filter(([, name]) => wanted && name.toLowerCase().includes(wanted)).sort((a, b) => a[1].length - b[1].length);
  jump.value = "";
  if (found) location.hash = href(...found);
}

jump.addEventListener("keydown", (event) => event.key === "Enter" && go());
jump.addEventListener("input", (event) => event.inputType === "insertReplacementText" && go()); // chosen from the list

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
  event.preventDefault();
  jump.focus();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the page, not the place in it
  main.focus();
});

addEventListener("hashchange", () => {
  open();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});

subscribe(update);
await prepareSession(() => {
  open();
  refresh();
});
refresh();
