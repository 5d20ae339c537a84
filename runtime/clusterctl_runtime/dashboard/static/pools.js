// Pools: how many nodes each may have, has, and is about to have.

import { bar, h } from "./dom.js";
import { count, money } from "./format.js";
import { Table } from "./table.js";

export function poolsTable() {
  return new Table({
    label: "Pools",
    key: (pool) => pool.name,
    empty: "This cluster has no pools.",
    columns: [
      { title: "Pool", cell: name, sort: (pool) => pool.name },
      { title: "Provider", cell: (pool) => pool.provider },
      { title: "Nodes", kind: "wide", cell: gauge, sort: (pool) => pool.ready },
      { title: "Ready", kind: "num", cell: (pool) => pool.ready, sort: (pool) => pool.ready },
      { title: "Pending", kind: "num", cell: (pool) => pool.pending, sort: (pool) => pool.pending },
      { title: "Min", kind: "num", cell: (pool) => pool.min },
      { title: "Max", kind: "num", cell: (pool) => pool.max },
      { title: "Market", cell: (pool) => list(pool.markets) || "–" },
      { title: "$/h", kind: "num", cell: (pool) => money(pool.price_per_hour), sort: (pool) => pool.price_per_hour ?? 0 },
    ],
  });
}

/** With how many of its nodes are in a state that the other columns leave out. */
function name(pool) {
  const { draining, stopped, failed } = pool;
  const rarer = list({ draining, stopped, failed });
  return [h("a", { href: `#/nodes?pool=${encodeURIComponent(pool.name)}` }, h("strong", null, pool.name)), rarer && h("span.sub", null, rarer)];
}

/** {"spot": 3, "on-demand": 0} -> "3 spot". */
function list(counts) {
  return Object.entries(counts ?? {}).filter(([, number]) => number).map(([what, number]) => `${count(number)} ${what}`).join(" · ");
}

function gauge(pool) {
  const parts = [
    { value: pool.ready, kind: "ready" },
    { value: pool.pending, kind: "pending" },
  ];
  return bar(parts, Math.max(pool.max, pool.ready + pool.pending), `${pool.ready} ready and ${pool.pending} pending of at most ${pool.max}`);
}
