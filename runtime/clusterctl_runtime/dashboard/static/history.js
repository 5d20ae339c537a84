// What the cluster had, did and cost over time: one plot per kind of figure, of an hour, a day or a month.

import { get } from "./api.js";
import { h } from "./dom.js";
import { bytes, count, money } from "./format.js";
import { paced } from "./live.js";
import { Plot } from "./plot.js";

const SPANS = ["hour", "day", "month"];
const PAUSE = 10_000; // ms; the head looks as often
const GIB = 2 ** 30;

const amounts = (name) => [
  { name: "in use", field: `${name}_used`, kind: "used" },
  { name: "held by jobs", field: `${name}_held`, kind: "held" },
  { name: "there are", field: `${name}_total`, kind: "total" },
];
const number = (value) => count(Number(value.toFixed(value < 10 ? 2 : 0)));

const PLOTS = [
  {
    title: "Nodes", whole: true, show: number,
    series: [
      { name: "ready", field: "nodes_ready", kind: "good" },
      { name: "on their way", field: "nodes_coming", kind: "wait" },
      { name: "failed", field: "nodes_failed", kind: "bad" },
    ],
  },
  {
    title: "Jobs", whole: true, show: number,
    series: [
      { name: "running", field: "jobs_running", kind: "used" },
      { name: "queued", field: "jobs_queued", kind: "wait" },
    ],
  },
  { title: "Cost", show: (value) => `${money(value)}/h`, series: [{ name: "all nodes", field: "per_hour", kind: "used" }] },
  { title: "Budget left", unless: "budget_left", show: money, series: [{ name: "to spend", field: "budget_left", kind: "good" }] },
  { title: "CPUs", show: number, series: amounts("cpu") },
  { title: "GPUs", unless: "gpu_total", show: number, series: amounts("gpu") },
  { title: "Memory", per: GIB, show: (value) => (value ? bytes(value) : "0"), series: amounts("memory") },
];

export class History {
  /** `span`: which one to begin with; `chosen(span)` is told of another. */
  constructor(span, chosen) {
    this.span = SPANS.includes(span) ? span : SPANS[0];
    this.plots = PLOTS.map((kind) => ({ kind, plot: new Plot(kind) }));
    this.buttons = SPANS.map((name) => h("button", { type: "button", onclick: () => this.choose(name, chosen) }, name));
    const tools = h("div.choice", { role: "group", "aria-label": "How far back" }, this.buttons);
    this.element = h("section.card", { id: "history", "aria-labelledby": "history-title" },
      h("div.title", null, h("h2", { id: "history-title" }, "Over time"), h("span.push"), tools),
      h("div.plots", null, this.plots.map(({ plot }) => plot.element)));
    this.reload = paced(() => this.load(), PAUSE);
    this.press();
    this.reload();
  }

  press() {
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.textContent === this.span));
  }

  choose(span, chosen) {
    this.span = span;
    this.press();
    chosen(span);
    this.load();
  }

  async load() {
    const { span } = this;
    let history = null;
    try {
      history = await get(`history?span=${span}`);
    } catch {
      return; // the banner says what is wrong with the head
    }
    if (span !== this.span) return;
    for (const { kind, plot } of this.plots) {
      const column = history.fields.indexOf(kind.unless);
      plot.element.hidden = column >= 0 && !history.rows.some((row) => row[column]);
      plot.update(history);
    }
  }

  close() {
    this.reload.stop();
    for (const { plot } of this.plots) plot.close();
  }
}
