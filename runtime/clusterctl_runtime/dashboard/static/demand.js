// Demand: what is wanted and not served yet, why it waits, and what would fix it.

import { h } from "./dom.js";
import { jobLink, reason, resources } from "./format.js";
import { Table } from "./table.js";

const SOURCES = { job: "queued job", task: "Ray tasks and actors", placement_group: "Ray placement group", request: "request_resources", reservation: "reservation" };

export function demandTable() {
  return new Table({
    label: "Demand",
    key: (demand) => demand.id ?? JSON.stringify([demand.shape, demand.gang, demand.source]),
    empty: "Nothing waits: all that was asked for runs.",
    columns: [
      { title: "Wanted", cell: wanted },
      { title: "Source", cell: (demand) => SOURCES[demand.source] ?? demand.source },
      { title: "Why it waits", kind: "wide", cell: (demand) => why({ text: demand.reason, code: demand.code, fix: demand.fix }) },
    ],
  });
}

function wanted(demand) {
  const shape = resources(demand.shape);
  const amount = demand.count > 1 ? `${demand.count} × [${shape}]` : shape;
  return [h("strong", null, amount), demand.gang ? h("span.tag", { title: "All of it at once, or none" }, "gang") : null, waiting(demand)];
}

function waiting({ jobs = [], count }) {
  if (!jobs.length) return null;
  const links = jobs.map((id, at) => [at ? ", " : "", jobLink(id)]);
  return h("span.sub", null, links, count > jobs.length ? [" and ", h("a", { href: "#/jobs?state=queued" }, `${count - jobs.length} more`)] : null);
}

/** A reason with its fix below; used wherever something waits. */
export function why(value) {
  const { code, text, fix } = reason(value);
  return [h("span", { title: code || null }, text || "–"), fix ? h("span.fix", null, fix) : null];
}
