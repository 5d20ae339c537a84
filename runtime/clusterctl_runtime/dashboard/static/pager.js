// Where one is in a list that the head gives in pages: each begins behind the last item of the one before it.

import { h, say } from "./dom.js";

export class Pager {
  /** `turned` is called when the person goes to another page. */
  constructor(label, turned) {
    this.turned = turned;
    this.starts = [""]; // the item behind which each page begins, up to this one
    this.behind = null; // the last item of this page, where there is another
    this.previous = h("button", { type: "button", onclick: () => this.back() }, "Previous");
    this.next = h("button", { type: "button", onclick: () => this.forth() }, "Next");
    this.note = h("p.sub", { "aria-live": "polite" });
    this.element = h("div.pager", { role: "group", "aria-label": label, hidden: true }, this.previous, this.note, this.next);
  }

  get start() {
    return this.starts.at(-1);
  }

  get number() {
    return this.starts.length;
  }

  get isFirst() {
    return this.starts.length === 1;
  }

  /** To the first page, of a list of others. */
  rewind() {
    this.starts = [""];
    this.behind = null;
  }

  back() {
    this.starts.pop();
    this.turn();
  }

  forth() {
    this.starts.push(this.behind);
    this.turn();
  }

  /** Where the next page begins is not known before this one is there. */
  turn() {
    this.previous.disabled = this.next.disabled = true;
    this.turned();
  }

  /** `note` says where this page is; `behind` is its last item where another page follows, else null. */
  show(behind, note) {
    this.behind = behind;
    this.element.hidden = this.isFirst && behind === null;
    say(this.note, note);
    this.previous.disabled = this.isFirst;
    this.next.disabled = behind === null;
  }
}
