// Output as lines on the page. It arrives in pieces of any size: lines are put together per rank, drawn in batches, and
// the oldest are let go, so that a program that prints without end cannot fill the browser's memory.

import { parse, plainStyle } from "./ansi.js";
import { h, say } from "./dom.js";
import { pieces, sign } from "./visible.js";

const KEPT = 5000; // lines
const LONGEST = 16_384; // characters of one line, before it is broken
const PAUSE = 80; // ms between two drawings

export class LogText {
  constructor() {
    this.lines = h("div.lines");
    this.wanted = ""; // what is looked for
    this.found = h("p.sub", { hidden: true, role: "status" });
    this.note = h("p.sub", { hidden: true }, "Earlier lines are not shown here. The whole log: clusterctl logs ID");
    this.element = h("div.output", { tabindex: "0", role: "log", "aria-label": "Output", "aria-live": "off" }, this.found, this.note, this.lines);
    this.element.addEventListener("scroll", () => this.scrolled());
    this.onFollow = () => {};
    this.following = true;
    this.clear({ ranks: false });
  }

  clear({ ranks }) {
    clearTimeout(this.timer);
    Object.assign(this, { ranks, writers: new Map(), pending: [], timer: 0 });
    this.lines.replaceChildren();
    this.note.hidden = true;
  }

  close() {
    clearTimeout(this.timer);
  }

  setFollow(on) {
    this.following = on;
    if (on) this.element.scrollTop = this.element.scrollHeight;
  }

  /** Scrolling up stops following; coming back to the end resumes it. */
  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const atEnd = scrollHeight - scrollTop - clientHeight < 24;
    if (atEnd === this.following || scrollTop === this.placed) return;
    this.following = atEnd;
    this.onFollow(atEnd);
  }

  add(rank, data) {
    const writer = this.writer(rank);
    const lines = (writer.rest + data).replaceAll("\r\n", "\n").split("\n");
    writer.rest = lines.pop();
    for (const line of lines) this.pending.push(...broken(line).map((text) => ({ rank, text })));
    while (writer.rest.length > LONGEST) {
      this.pending.push({ rank, text: writer.rest.slice(0, LONGEST) });
      writer.rest = writer.rest.slice(LONGEST);
    }
    if (this.pending.length > KEPT) {
      this.pending.splice(0, this.pending.length - KEPT);
      this.note.hidden = false;
    }
    this.timer ||= setTimeout(() => this.flush(), PAUSE);
  }

  /** Shows the lines in which this text is, whatever its case; all where it is "". */
  only(text) {
    this.wanted = text.trim().toLowerCase();
    let found = 0;
    for (const line of this.lines.children) if (!this.sift(line)) found += 1;
    this.found.hidden = !this.wanted;
    say(this.found, `${found} of ${this.lines.childElementCount} lines that are here`);
    if (this.following) this.setFollow(true);
  }

  /** Whether the line is hidden. */
  sift(line) {
    line.hidden = Boolean(this.wanted) && !line.textContent.toLowerCase().includes(this.wanted);
    return line.hidden;
  }

  writer(rank) {
    let writer = this.writers.get(rank);
    if (!writer) {
      writer = { rest: "", style: plainStyle(), open: null };
      this.writers.set(rank, writer);
    }
    return writer;
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    const fresh = document.createDocumentFragment();
    for (const writer of this.writers.values()) {
      writer.open?.remove();
      writer.open = null;
    }
    for (const { rank, text } of this.pending) fresh.append(this.line(rank, text, this.writer(rank).style));
    this.pending = [];
    for (const [rank, writer] of this.writers) {
      if (!writer.rest) continue;
      const { fg, bg, flags } = writer.style; // an unfinished line is drawn again later: its colours must not count twice
      writer.open = this.line(rank, writer.rest, { fg, bg, flags: new Set(flags) });
      fresh.append(writer.open);
    }
    this.lines.append(fresh);
    if (this.wanted) this.only(this.wanted);
    while (this.lines.childElementCount > KEPT) {
      this.lines.firstElementChild.remove();
      this.note.hidden = false;
    }
    if (this.following) {
      this.element.scrollTop = this.element.scrollHeight;
      this.placed = this.element.scrollTop;
    }
  }

  /** A carriage return begins the line anew, as progress bars want it; a sign says how often that happened. */
  line(rank, text, style) {
    const element = h(this.ranks ? "div.line.ranked" : "div.line");
    if (this.ranks) element.append(h(`span.rank.rank-${rank % 6}`, null, `${rank}`));
    const takes = text.split("\r");
    const last = takes.at(-1) === "" && takes.length > 1 ? takes.length - 2 : takes.length - 1;
    if (last > 0) {
      const title = `A carriage return began this line anew ${last} time${last === 1 ? "" : "s"}; before it said: ${takes[last - 1].slice(0, 200)}`;
      element.append(h("span.control", { title }, `${sign("\r")}×${last}`));
      for (const take of takes.slice(0, last)) parse(take, style);
    }
    for (const { text: part, classes } of parse(takes[last], style)) {
      const styled = h("span", { class: classes.join(" ") || null });
      for (const piece of pieces(part)) {
        if (piece.control) styled.append(h("span.control", null, piece.text));
        else styled.append(document.createTextNode(piece.text));
      }
      element.append(styled);
    }
    return element;
  }
}

function broken(line) {
  const parts = [];
  for (let at = 0; at < line.length; at += LONGEST) parts.push(line.slice(at, at + LONGEST));
  return parts.length ? parts : [""];
}
