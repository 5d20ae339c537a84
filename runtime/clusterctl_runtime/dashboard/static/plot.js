// One plot of figures over time, as SVG: axes with units, a gap where nothing is known, the figures of the moment that is pointed at.

import { fill, h, say, vector } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 132;
const MARGIN = { left: 58, right: 8, top: 8, bottom: 20 };
const ROUND = [1, 2, 2.5, 5, 10];
const MINUTE = 60;
const DAY = 86_400;
const APART = [1, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 10_080].map((minutes) => minutes * MINUTE); // between two times on the axis

export class Plot {
  /** `series`: [{name, field, kind}], `kind` is a class of style.css; `show(value)` is a figure with its unit; `whole`: there are no
      parts of one, `per`: what the axis counts in. */
  constructor({ title, series, show, whole = false, per = 1 }) {
    Object.assign(this, { title, series, show, whole, per, rows: [], at: null });
    this.when = h("span.sub");
    this.keys = series.map(({ name, kind }) => {
      const value = h("strong");
      return { value, element: h(`span.key.is-${kind}`, null, `${name} `, value) };
    });
    this.svg = vector("svg", { class: "plot", height: HEIGHT, role: "img", tabindex: "0" });
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.look(null));
    this.svg.addEventListener("keydown", (event) => this.step({ ArrowLeft: -1, ArrowRight: 1 }[event.key], event));
    this.svg.addEventListener("blur", () => this.look(null));
    this.element = h("figure", null, h("figcaption", null, h("h3", null, title), this.when, h("div.keys", null, this.keys.map(({ element }) => element))), this.svg);
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.svg);
  }

  close() {
    this.sized.disconnect();
  }

  /** `history` is the API's document. */
  update({ fields, rows, step, length }) {
    const columns = this.series.map(({ field }) => fields.indexOf(field));
    const known = this.at === null ? null : this.rows[this.at]?.time;
    this.rows = rows.map((row) => ({ time: row[0], values: columns.map((column) => row[column] ?? null) }));
    this.gap = step * 1.5;
    this.to = Date.now() / 1000;
    const most = step * length;
    this.from = Math.max(this.to - most, Math.min(rows[0]?.[0] ?? this.to, this.to - most / 6));
    this.rows = this.rows.filter(({ time }) => time >= this.from);
    const at = this.rows.findIndex(({ time }) => time === known);
    this.at = at < 0 ? null : at;
    this.draw();
  }

  x(time) {
    return MARGIN.left + ((time - this.from) / (this.to - this.from)) * (this.width - MARGIN.left - MARGIN.right);
  }

  y(value) {
    return HEIGHT - MARGIN.bottom - (value / this.top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  draw() {
    this.width = this.svg.clientWidth;
    if (!this.width || this.to === undefined) return;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const largest = Math.max(0, ...this.rows.flatMap(({ values }) => values)) / this.per;
    const part = rounded((largest || 1) / 2, this.whole);
    this.top = Math.max(2, Math.ceil(largest / part)) * part * this.per;
    this.mark = vector("line", { class: "mark", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
    this.svg.replaceChildren(...this.axes(part * this.per), ...this.lines(), this.mark);
    this.look(this.at);
  }

  axes(part) {
    const drawn = [];
    for (let value = 0; value <= this.top + part / 2; value += part) {
      const y = this.y(value);
      drawn.push(vector("line", { class: "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }), label(this.show(value).replace(".00", ""), MARGIN.left - 6, y + 4, "end"));
    }
    const most = Math.max(2, Math.floor(this.width / 95));
    const apart = APART.find((seconds) => (this.to - this.from) / seconds <= most) ?? APART.at(-1);
    const zone = new Date(this.to * 1000).getTimezoneOffset() * MINUTE;
    for (let time = Math.ceil((this.from - zone) / apart) * apart + zone; time <= this.to; time += apart) {
      const x = this.x(time);
      drawn.push(vector("line", { class: "grid", x1: x, x2: x, y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom + 4 }));
      if (x > MARGIN.left + 14 && x < this.width - 18) drawn.push(label(timeText(time, apart), x, HEIGHT - 4, "middle"));
    }
    return drawn;
  }

  lines() {
    return this.series.map(({ kind }, at) => {
      let path = "";
      let before = Number.NEGATIVE_INFINITY;
      for (const { time, values } of this.rows) {
        if (values[at] === null) continue;
        path += `${time - before > this.gap ? "M" : "L"}${this.x(time).toFixed(1)} ${this.y(values[at]).toFixed(1)}`;
        if (time - before > this.gap) path += "h0"; // a figure that stands alone is a dot
        before = time;
      }
      return vector("path", { class: `line is-${kind}`, d: path });
    });
  }

  point(x) {
    let nearest = null;
    for (const [at, { time }] of this.rows.entries()) if (nearest === null || Math.abs(this.x(time) - x) < Math.abs(this.x(this.rows[nearest].time) - x)) nearest = at;
    this.look(nearest);
  }

  step(by, event) {
    if (!by || !this.rows.length) return;
    event.preventDefault();
    this.look(Math.min(this.rows.length - 1, Math.max(0, (this.at ?? this.rows.length) + by)));
  }

  /** Shows the figures of one moment; null is the latest. */
  look(at) {
    this.at = at;
    const row = this.rows[at ?? this.rows.length - 1];
    const values = this.series.map((_, n) => (row && row.values[n] !== null ? this.show(row.values[n]) : "–"));
    for (const [n, { value }] of this.keys.entries()) say(value, values[n]);
    fill(this.when, at === null || !row ? "now" : clock(row.time));
    this.svg.setAttribute("aria-label", `${this.title}: ${this.series.map(({ name }, n) => `${name} ${values[n]}`).join(", ")}`);
    this.mark.setAttribute("class", at === null ? "mark off" : "mark");
    if (row) for (const end of ["x1", "x2"]) this.mark.setAttribute(end, this.x(row.time));
  }
}

function label(text, x, y, anchor) {
  const element = vector("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

/** The least round number that is not below. */
function rounded(value, whole) {
  const power = 10 ** Math.floor(Math.log10(value));
  const found = power * ROUND.find((factor) => factor * power >= value * 0.999);
  return whole ? Math.max(1, Math.ceil(found)) : found;
}

function timeText(time, apart) {
  const date = new Date(time * 1000);
  if (apart >= DAY) return date.toLocaleDateString([], { day: "numeric", month: "short" });
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}
