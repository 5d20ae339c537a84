// Where one is in a list that the head gives in pages: each begins behind the last item of the one before it.

import { h, say } from "./dom.js";
import { count } from "./format.js";

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

  get after() {
    return this.starts.at(-1);
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
    this.turned();
  }

  forth() {
    this.starts.push(this.behind);
    this.turned();
  }

  /** What the head says of this page, which has `shown` items. */
  show({ before, total, next }, shown) {
    this.behind = next;
    this.element.hidden = total <= shown;
    say(this.note, shown ? `${count(before + 1)}–${count(before + shown)} of ${count(total)}` : `none of ${count(total)}`);
    this.previous.disabled = this.isFirst;
    this.next.disabled = next === null;
  }
}
