// A table that follows a list: rows are kept by key and made anew only when their item changed, so that focus and
// selection survive. On a narrow screen each row becomes a card (style.css), which is why the roles are spelled out.

import { fill, h } from "./dom.js";

const FIRST = 200; // rows shown before the person asks for all: 2,000 nodes must not make the page slow

/** `unseen` names fields that no column shows: their changes alone redraw nothing.
    columns: [{title, cell(item) -> children, sort?(item) -> value, kind?: "num" | "wide"}] */
export class Table {
  constructor({ label, columns, key, empty, unseen = [] }) {
    Object.assign(this, { columns, key, empty, unseen, items: [], rows: new Map(), all: false, sortBy: null, reverse: false, sortable: true });
    this.head = h("tr", { role: "row" });
    this.body = h("tbody", { role: "rowgroup" });
    this.table = h("table", { role: "table", "aria-label": label }, h("thead", { role: "rowgroup" }, this.head), this.body);
    this.note = h("p.empty", { hidden: true });
    this.more = h("button.more", { type: "button", hidden: true, onclick: () => this.showAll() });
    this.element = h("div.table", null, this.table, this.note, this.more);
    this.drawHead();
  }

  drawHead() {
    const cells = this.columns.map((column) => {
      const sorted = this.sortBy === column ? (this.reverse ? "descending" : "ascending") : null;
      const title = column.sort && this.sortable
        ? h("button.sort", { type: "button", onclick: () => this.sort(column) }, column.title)
        : column.title;
      return h(`th${column.kind ? `.${column.kind}` : ""}`, { scope: "col", role: "columnheader", "aria-sort": sorted }, title);
    });
    fill(this.head, cells);
  }

  sort(column) {
    this.reverse = this.sortBy === column ? !this.reverse : false;
    this.sortBy = column;
    const at = this.columns.indexOf(column);
    this.drawHead();
    this.head.children[at].querySelector("button").focus();
    this.draw();
  }

  showAll() {
    this.all = true;
    this.draw();
  }

  /** A part of a list is not `sortable`: what comes first in it is not what comes first of all. */
  update(items, empty = this.empty, sortable = true) {
    if (sortable !== this.sortable) {
      this.sortable = sortable;
      this.sortBy = null;
      this.drawHead();
    }
    this.items = items;
    this.empty = empty;
    this.draw();
  }

  /** Its element, with these items; for a table that is made anew each time. */
  showing(items) {
    this.update(items);
    return this.element;
  }

  ordered() {
    if (!this.sortBy) return this.items;
    const value = this.sortBy.sort;
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    return [...this.items].sort((a, b) => (this.reverse ? -1 : 1) * compare(value(a), value(b)));
  }

  draw() {
    const ordered = this.ordered();
    const shown = this.all ? ordered : ordered.slice(0, FIRST);
    const keys = new Set(shown.map(this.key));
    for (const [key, { element }] of this.rows) if (!keys.has(key)) element.remove();
    const before = this.rows;
    this.rows = new Map();
    let place = this.body.firstElementChild;
    for (const item of shown) {
      const row = this.row(before.get(this.key(item)), item);
      this.rows.set(this.key(item), row);
      if (row.element === place) place = place.nextElementSibling;
      else this.body.insertBefore(row.element, place);
    }
    this.table.hidden = this.items.length === 0;
    this.note.hidden = this.items.length !== 0;
    fill(this.note, this.empty);
    this.more.hidden = shown.length === ordered.length;
    fill(this.more, `Show all ${ordered.length}`);
  }

  row(old, item) {
    const signature = JSON.stringify(item, (name, value) => (this.unseen.includes(name) ? undefined : value));
    if (old?.signature === signature) return old;
    const element = old?.element ?? h("tr", { role: "row" });
    const cells = this.columns.map((column) =>
      h(`td${column.kind ? `.${column.kind}` : ""}`, { role: "cell", "data-label": column.title }, cell(column.cell(item))),
    );
    const focused = element.contains(document.activeElement) ? [...element.querySelectorAll("a, button")].indexOf(document.activeElement) : -1;
    fill(element, cells);
    if (focused >= 0) element.querySelectorAll("a, button")[focused]?.focus();
    return { element, signature };
  }
}

/** A cell without content is marked, so that a card on a phone can leave it out. */
function cell(content) {
  const element = h("div", null, content);
  if (element.textContent === "–") element.className = "blank";
  return element;
}
