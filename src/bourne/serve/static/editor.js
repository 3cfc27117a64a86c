// A text area for SQL: coloured by a copy that lies below it, with a list of names to choose from by keyboard.

import { h, put } from "./dom.js";
import { complete, highlight } from "./sql_text.js";

/** Make an editor. `relations()` says what there is to name; `onRun` is called on Ctrl+Enter. */
export function makeEditor({ text, relations, onRun }) {
  const area = h("textarea", {
    id: "sql", rows: "6", spellcheck: "false", autocomplete: "off", autocapitalize: "off", "aria-label": "SQL",
    "aria-describedby": "sql-keys", "aria-autocomplete": "list", "aria-controls": "sql-names", "aria-haspopup": "listbox",
  });
  area.value = text;
  const copy = h("pre", { class: "editor-copy", "aria-hidden": "true" });
  const list = h("ul", { id: "sql-names", class: "completions", role: "listbox", "aria-label": "Names", hidden: true });
  const element = h("div", { class: "editor" }, copy, area, list);
  let offered = { start: 0, found: [] };
  let chosen = 0;

  function paint() {
    put(copy, highlight(area.value), "\n");
    copy.scrollTop = area.scrollTop;
  }

  function offer(isAsked) {
    offered = area.selectionStart === area.selectionEnd ? complete(area.value, area.selectionStart, relations(), isAsked) : { start: 0, found: [] };
    chosen = 0;
    list.hidden = offered.found.length === 0;
    if (!list.hidden) place();
    choose(0);
  }

  /** Put the list below the word: where the copy shows it. */
  function place() {
    const mark = h("span");
    put(copy, area.value.slice(0, offered.start), mark, area.value.slice(offered.start), "\n");
    const [at, box] = [mark.getBoundingClientRect(), element.getBoundingClientRect()];
    paint();
    list.style.left = `${Math.max(0, Math.min(at.left - box.left, box.width - Math.min(320, box.width)))}px`;
    list.style.top = `${Math.min(at.bottom - box.top + 4, box.height)}px`;
  }

  function choose(move) {
    const { found } = offered;
    if (!found.length) {
      put(list);
      area.removeAttribute("aria-activedescendant");
      return;
    }
    chosen = (chosen + move + found.length) % found.length;
    put(
      list,
      found.map((each, index) =>
        h(
          "li",
          { id: `sql-name-${index}`, role: "option", "aria-selected": String(index === chosen), onpointerdown: (event) => { event.preventDefault(); take(index); } },
          h("span", { class: "cut" }, each.label),
          h("span", { class: "note cut" }, each.note),
        ),
      ),
    );
    area.setAttribute("aria-activedescendant", `sql-name-${chosen}`);
    list.children[chosen].scrollIntoView({ block: "nearest" });
  }

  function close() {
    offered = { start: 0, found: [] };
    list.hidden = true;
    choose(0);
  }

  function take(index) {
    // A quote that was begun, or is already closed behind the caret, belongs to the name.
    const end = area.selectionStart;
    area.setRangeText(offered.found[index].text, offered.start, end, "end");
    close();
    paint();
  }

  area.addEventListener("input", () => {
    paint();
    offer(false);
  });
  area.addEventListener("scroll", () => (copy.scrollTop = area.scrollTop));
  area.addEventListener("blur", close);
  area.addEventListener("click", close);
  area.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // Enter ends a syllable here
    const isOpen = !list.hidden;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      close();
      onRun();
    } else if (event.key === " " && event.ctrlKey) offer(true);
    else if (isOpen && event.key === "ArrowDown") choose(1);
    else if (isOpen && event.key === "ArrowUp") choose(-1);
    else if (isOpen && (event.key === "Enter" || (event.key === "Tab" && !event.shiftKey))) take(chosen);
    else if (isOpen && event.key === "Escape") close();
    else {
      if (isOpen && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) close();
      return; // the browser's own
    }
    event.preventDefault();
  });
  paint();
  return {
    element,
    area,
    set(value) {
      area.value = value;
      close();
      paint();
    },
  };
}
