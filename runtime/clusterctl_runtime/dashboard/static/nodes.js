// Nodes: the table, and one node's page with its story.

import { get, post } from "./api.js";
import { fill, gauge, h } from "./dom.js";
import { Explain } from "./explain.js";
import { age, bytes, chip, clock, count, jobLink, money, nodeLink, reason, resources, text, users } from "./format.js";
import { ListView } from "./list.js";
import { paced } from "./live.js";
import { attempt, confirm } from "./notice.js";
import { Table } from "./table.js";

export function nodesTable() {
  return new Table({
    label: "Nodes",
    key: (node) => node.id,
    empty: "No nodes yet.",
    unseen: ["heard", "free", "idle_since"],
    columns: [
      { title: "Node", cell: (node) => nodeLink(node.id), sort: (node) => node.id },
      { title: "State", cell: (node) => chip(node.state), sort: (node) => node.state },
      { title: "For", kind: "num", cell: (node) => age(node.since), sort: (node) => node.since ?? 0 },
      { title: "Used by", cell: (node) => users(node.owner) || "–", sort: (node) => node.owner ?? "" },
      { title: "Resources", cell: (node) => resources(node.resources) },
      { title: "Instance", cell: instance, sort: (node) => node.instance_type ?? "" },
      { title: "Reason", kind: "wide", cell: (node) => reason(node.reason).text || "–" },
    ],
  });
}

function instance(node) {
  const place = [node.instance_type, node.market, node.zone].filter(Boolean).join(" · ");
  return [h("span", null, place || "–"), node.instance_id ? h("span.sub.clip", { title: node.instance_id }, node.instance_id) : null];
}

const STATES = ["planned", "requested", "booting", "joining", "ready", "draining", "stopping", "stopped", "terminating", "failed", "quarantined"];

/** The page of all nodes. */
export class NodesView extends ListView {
  none = "No nodes yet.";

  constructor(_id, query) {
    super({ name: "nodes", cursor: "after", title: "Nodes", hint: "id, zone, reason …", table: nodesTable(), selects: { pool: ["head"], state: STATES }, query });
  }

  update(status) {
    for (const { name } of status.pools ?? []) this.offer("pool", name);
    this.reload();
  }

  place({ before, nodes, total }) {
    return `${count(before + 1)}–${count(before + nodes.length)} of ${count(total)}`;
  }
}

/** The page of one node. */
export class NodeView {
  constructor(id) {
    this.id = id;
    this.top = h("div");
    this.story = storyTable();
    this.explain = new Explain(id);
    this.element = h(
      "div.stack",
      null,
      h("section.card", { "aria-label": `Node ${id}` }, this.top),
      this.explain.element,
      h("section.card.spacious", { "aria-labelledby": "story-title" }, h("h2", { id: "story-title" }, "Story"), this.story.element),
    );
    this.reload = paced(() => this.load(), 1000);
  }

  update() {
    this.reload();
  }

  close() {
    this.reload.stop();
  }

  async load() {
    let node = null;
    try {
      node = await get(`nodes/${encodeURIComponent(this.id)}`);
      this.draw(node);
    } catch (error) {
      if (error.status !== 0) fill(this.top, h("h1", null, this.id), h("p.problem", null, error.message, " ", error.fix), h("p", null, h("a", { href: "#/nodes" }, "All nodes")));
    }
    const answer = await this.explain.load();
    const story = node?.story ?? answer?.story; // a node that is gone has only its story left
    if (story) this.story.update([...story].reverse());
  }

  draw(node) {
    const can = node.state === "ready" && node.role !== "head";
    const drain = can && h("button", { type: "button", id: "drain", onclick: () => this.drain() }, "Drain…");
    const facts = [
      ["Pool", node.pool], ["For", age(node.since)], ["Used by", users(node.owner) || "nobody"], ["Resources", resources(node.resources)],
      ["Instance", node.instance_id || "–"], ["Type", [node.instance_type, node.market, node.zone].filter(Boolean).join(" · ") || "–"],
      ["Address", node.address || "–"], ["Price", `${money(node.price_per_hour)}/h`],
      ["Free", node.free && resources(node.free)], ["Engine", node.engine], ["Last heard of", node.heard ? [age(node.heard), " ago"] : null],
    ].filter(([, value]) => value !== null && value !== undefined);
    fill(
      this.top,
      h("div.title", null, h("h1", null, node.id), chip(node.state), h("span.push"), drain),
      node.reason && h("p.lead", null, reason(node.reason).text),
      factList(facts),
      gauges(node),
      h("h2", null, "Runs now"),
      running(node.jobs ?? []),
      machine(node.facts ?? {}, this.top.querySelector("details")?.open),
    );
  }

  async drain() {
    const sure = await confirm({
      title: `Drain node ${this.id}?`,
      text: "It takes no new work, finishes what it runs, and is then removed. Demand may bring another node in its place.",
      action: "Drain it",
    });
    if (sure && (await attempt(() => post(`nodes/${encodeURIComponent(this.id)}/drain`), (node) => `Node ${this.id} is ${node.state}.`))) this.reload();
  }
}

function factList(facts) {
  return h("dl.facts", null, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

const SHOWN_AS = { memory: bytes, disk_free: bytes, disk: bytes, clock: (value) => clock(value) };

/** What the agent found on the machine, folded away; `open` keeps it open while the page is drawn anew. */
function machine(facts, open) {
  const shown = Object.entries(facts).map(([name, value]) => [name.replaceAll("_", " "), (SHOWN_AS[name] ?? text)(value)]);
  return shown.length ? h("details", { open: Boolean(open) }, h("summary", null, "The machine"), factList(shown)) : null;
}

function running(tasks) {
  if (!tasks.length) return h("p.empty", null, "Nothing.");
  return new Table({
    label: "Runs now",
    key: (task) => task.task,
    empty: "",
    columns: [
      { title: "Job", cell: (task) => (task.id ? jobLink(task.id, task.name || task.id) : "starting") },
      { title: "Task", cell: (task) => h("code", null, task.task) },
      { title: "Holds", cell: (task) => resources(task.resources) },
      { title: "For", kind: "num", cell: (task) => age(task.since) },
    ],
  }).showing(tasks);
}

const AMOUNTS = [["CPU", "cpu", (value) => `${Number(value.toFixed(2))} CPU`], ["GPU", "gpu", (value) => `${Number(value.toFixed(2))} GPU`], ["memory", "memory", bytes]];

/** What is held of the node, and what is in use on its machine, beside what there is. */
function gauges({ resources: total = {}, free = {}, use = {}, facts = {} }) {
  const drawn = [];
  for (const [name, measured, show] of AMOUNTS) {
    const whole = total[name] ?? 0;
    const held = whole - (free[name] ?? 0);
    const title = name === "memory" ? "Memory" : `${name}s`;
    if (whole) drawn.push(gauge(`${title} held`, [{ value: held, kind: "held" }], whole, `${held ? show(held) : "nothing"} of ${show(whole)}`));
    const there = { cpu: facts.cpus, memory: facts.memory, gpu: facts.gpus?.length }[measured];
    if (use[measured] !== undefined && there) drawn.push(gauge(`${title} in use`, [{ value: use[measured], kind: "used" }], there, `${show(use[measured])} of the machine's ${show(there)}`));
  }
  return drawn.length ? h("dl.gauges", null, drawn) : null;
}

export function storyTable() {
  return new Table({
    label: "Story",
    key: (step) => JSON.stringify([step.at, step.event, step.state]),
    empty: "Nothing is written down yet.",
    columns: [
      { title: "At", cell: (step) => clock(step.at) },
      { title: "State", cell: (step) => chip(step.state) },
      { title: "Event", cell: (step) => step.event || "–" },
      { title: "Reason", kind: "wide", cell: (step) => h("span", { title: step.code || null }, reason(step.reason).text || "–") },
    ],
  });
}
