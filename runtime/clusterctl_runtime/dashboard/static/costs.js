// What the cluster has cost: by pool and day, by user, by job. Asked for when somebody looks, and again on request: the head adds
// it up anew each time.

import { ApiError, get } from "./api.js";
import { fill, h } from "./dom.js";
import { clock, jobLink, money, text } from "./format.js";
import { Table } from "./table.js";

const hours = { title: "Node hours", kind: "num", cell: (row) => row.hours.toFixed(2), sort: (row) => row.hours };
const dollars = { title: "Cost", kind: "num", cell: (row) => money(row.dollars), sort: (row) => row.dollars };

const WAYS = {
  pool: {
    label: "by pool and day",
    columns: [
      { title: "Day (UTC)", cell: (row) => row.day, sort: (row) => row.day },
      { title: "Pool", cell: (row) => row.pool, sort: (row) => row.pool },
      hours,
      dollars,
    ],
    key: (row) => `${row.day} ${row.pool}`,
  },
  user: {
    label: "by user",
    columns: [{ title: "User", cell: (row) => (row.user === "-" ? "none named" : row.user), sort: (row) => row.user }, hours, dollars],
    key: (row) => row.user,
  },
  job: {
    label: "by job",
    columns: [
      { title: "Job", cell: (row) => (row.job.startsWith("j-") ? jobLink(row.job) : text(row.job)) },
      { title: "Name", cell: (row) => text(row.name) },
      hours,
      dollars,
    ],
    key: (row) => row.job,
  },
};

export class CostsView {
  constructor(_id, query) {
    this.way = Object.hasOwn(WAYS, query.get("by") ?? "") ? query.get("by") : "pool";
    this.buttons = Object.entries(WAYS).map(([way, { label }]) => h("button", { type: "button", "data-way": way, onclick: () => this.choose(way) }, label));
    this.sum = h("p", { role: "status" });
    this.place = h("div");
    this.element = h(
      "section.card.spacious",
      { "aria-labelledby": "costs-title" },
      h("div.bar-of-tools", null,
        h("h1", { id: "costs-title" }, "Costs"),
        h("div.choice", { role: "group", "aria-label": "Added up" }, this.buttons),
        h("button", { type: "button", onclick: () => this.load() }, "Add up again")),
      this.sum,
      this.place,
    );
    this.stop = new AbortController();
    this.choose(this.way);
  }

  choose(way) {
    this.way = way;
    history.replaceState(null, "", way === "pool" ? "#/costs" : `#/costs?by=${way}`);
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.way === way));
    this.load();
  }

  async load() {
    const { way } = this;
    fill(this.sum, "Adding up …");
    try {
      const document = await get(`cost?by=${way}`, this.stop.signal);
      if (way === this.way) this.show(document, WAYS[way]);
    } catch (error) {
      if (this.stop.signal.aborted || way !== this.way) return;
      if (!(error instanceof ApiError) && error.name !== "TimeoutError") throw error;
      fill(this.sum, `${error.message} “Add up again” asks once more.`);
    }
  }

  show({ rows, total, unused }, { label, columns, key }) {
    const sum = total ?? rows.reduce((all, row) => all + row.dollars, 0);
    const idle = unused ? `; ${money(unused)} of it for time in which no job held the nodes` : "";
    fill(this.sum, `${money(sum)} up to `, clock(Date.now() / 1000), idle, ".");
    fill(this.place, new Table({ label: `Costs ${label}`, columns, key, empty: "Nothing has cost anything yet." }).showing(rows));
  }

  update() {}

  close() {
    this.stop.abort();
  }
}
