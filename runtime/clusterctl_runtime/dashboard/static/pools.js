// Pools: how many nodes each may have, has, and is about to have.

import { bar, h } from "./dom.js";
import { money } from "./format.js";
import { Table } from "./table.js";

export function poolsTable() {
  return new Table({
    label: "Pools",
    key: (pool) => pool.name,
    empty: "This cluster has no pools.",
    columns: [
      { title: "Pool", cell: (pool) => h("strong", null, pool.name), sort: (pool) => pool.name },
      { title: "Provider", cell: (pool) => pool.provider },
      { title: "Nodes", kind: "wide", cell: gauge, sort: (pool) => pool.ready },
      { title: "Ready", kind: "num", cell: (pool) => pool.ready, sort: (pool) => pool.ready },
      { title: "Pending", kind: "num", cell: (pool) => pool.pending, sort: (pool) => pool.pending },
      { title: "Min", kind: "num", cell: (pool) => pool.min },
      { title: "Max", kind: "num", cell: (pool) => pool.max },
      { title: "$/h", kind: "num", cell: (pool) => money(pool.price_per_hour), sort: (pool) => pool.price_per_hour ?? 0 },
    ],
  });
}

function gauge(pool) {
  const parts = [
    { value: pool.ready, kind: "ready" },
    { value: pool.pending, kind: "pending" },
  ];
  return bar(parts, Math.max(pool.max, pool.ready + pool.pending), `${pool.ready} ready and ${pool.pending} pending of at most ${pool.max}`);
}
