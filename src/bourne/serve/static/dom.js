// Making and changing elements. Data becomes text here and nowhere else: never HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** Make an HTML element; `on…` attributes are listeners, `true` is an attribute without value. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Change a text only if it is another one, so that selections and screen readers are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Replace what is in an element. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
}

/** A part of a page with a title. */
export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

/** A list of named figures. Returns its element, and a function that takes {name: text}, or {name: element}. */
export function figures(...names) {
  const cells = Object.fromEntries(names.map((name) => [name, h("dd", {}, "–")]));
  const element = h("dl", { class: "figures" }, names.map((name) => h("div", {}, h("dt", {}, name), cells[name])));
  const show = (values) => {
    for (const [name, value] of Object.entries(values)) {
      if (value instanceof Node) put(cells[name], value);
      else setText(cells[name], value);
    }
  };
  return [element, show];
}

/** What to read where there is nothing. */
export function empty(title, ...children) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), ...children);
}

/** Start an element's flash anew. */
export function flash(element) {
  element.classList.remove("changed");
  void element.offsetWidth; // so that the animation starts again
  element.classList.add("changed");
}
