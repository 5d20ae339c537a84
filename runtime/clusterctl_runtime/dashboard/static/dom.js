// Elements from data. Every string becomes a text node with control characters made visible; there is no other way in.

import { visible } from "./visible.js";

/** h("td.num", {title: "x"}, "text", node, [more]) -> element. `on…` attributes are listeners, null and false are left out. */
export function h(selector, attributes, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : visible(value));
  }
  append(element, children);
  return element;
}

/** Replaces all children of `element`. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Sets the text only where it changed, so that a selection and a screen reader are left in peace. */
export function say(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
}

/** A bar of parts out of `whole`, drawn as SVG: [{value, kind}], `kind` is a class. `label` is read aloud. */
export function bar(parts, whole, label) {
  const svg = vector("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", visible(label));
  svg.append(vector("rect", { class: "rest", x: 0, y: 0, width: 100, height: 8 }));
  let x = 0;
  for (const { value, kind } of parts) {
    const width = whole > 0 ? Math.min(100 - x, (100 * value) / whole) : 0;
    if (width > 0) svg.append(vector("rect", { class: kind, x, y: 0, width, height: 8 }));
    x += width;
  }
  return svg;
}

/** A bar with what it shows in words: `value` of `whole`. */
export function gauge(name, parts, whole, words) {
  return h("div.gauge", null, h("dt", null, name), h("dd", null, bar(parts, whole, `${name}: ${words}`), h("span.sub", null, words)));
}

/** An element of SVG. */
export function vector(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}
