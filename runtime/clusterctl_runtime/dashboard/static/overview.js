// The first page: is the cluster well, what does it cost, what waits and why, what happened last.

import { EventFeed, eventsTable } from "./events.js";
import { demandTable } from "./demand.js";
import { fill, h } from "./dom.js";
import { chip, money } from "./format.js";
import { nodesTable } from "./nodes.js";
import { poolsTable } from "./pools.js";

const STATES = ["running", "queued", "succeeded", "failed", "cancelled"];

export class OverviewView {
  constructor() {
    this.tiles = h("dl.tiles");
    this.messages = h("div.messages", { role: "status", hidden: true });
    this.pools = poolsTable();
    this.demand = demandTable();
    this.nodes = nodesTable();
    this.events = eventsTable();
    this.signature = "";
    this.element = h(
      "div.stack",
      null,
      h("h1.hidden", null, "Overview"),
      this.tiles,
      this.messages,
      section("pools", "Pools", this.pools),
      section("demand", "Waiting", this.demand),
      section("nodes", "Nodes", this.nodes, h("a", { href: "#/nodes" }, "All nodes")),
      section("events", "Latest events", this.events, h("a", { href: "#/events" }, "All events")),
    );
    this.feed = new EventFeed(8, (events) => this.events.update(events.slice(0, 8)));
  }

  update(status) {
    const nodes = status.nodes ?? [];
    this.drawTiles(status, nodes);
    this.drawMessages([...(status.messages ?? []), status.engine?.message].filter(Boolean));
    this.pools.update(status.pools ?? []);
    this.demand.update(status.demand ?? []);
    this.nodes.update(nodes);
  }

  drawTiles(status, nodes) {
    const { head = {}, engine = {}, jobs = {}, cost = {} } = status;
    const signature = JSON.stringify([status.cluster, status.state, head, engine, jobs, cost, nodes.map((node) => node.state)]);
    if (signature === this.signature) return;
    this.signature = signature;
    const ready = nodes.filter((node) => node.state === "ready").length;
    const engineName = engine.name && engine.name !== "none" ? `${engine.name} ${engine.version ?? ""}` : "none";
    fill(
      this.tiles,
      tile("Cluster", status.cluster, chip(status.state)),
      tile("Head", head.address || "–", `clusterctl ${head.version ?? ""}`),
      tile("Engine", engineName, engine.name && engine.name !== "none" ? chip(engine.state) : "plain jobs only"),
      tile("Nodes ready", `${ready}`, `of ${nodes.length} known`),
      tile("Cost", `${money(cost.per_hour)}/h`, `${money(cost.total)} so far`),
      h("div.tile.jobs", null, h("dt", null, "Jobs"), h("dd", null, STATES.map((state) => count(state, jobs[state] ?? 0)))),
    );
  }

  /** What the head has to say about providers and the engine, while it lasts. */
  drawMessages(messages) {
    this.messages.hidden = messages.length === 0;
    if (this.messages.textContent !== messages.join("")) fill(this.messages, messages.map((message) => h("p", null, message)));
  }

  close() {
    this.feed.close();
  }
}

function tile(name, value, note) {
  return h("div.tile", null, h("dt", null, name), h("dd", null, h("strong", null, value), note && h("span.sub", null, note)));
}

function count(state, number) {
  return h(`a.count.is-${state}`, { href: `#/jobs?state=${state}` }, h("strong", null, number), ` ${state}`);
}

function section(id, title, table, link) {
  const heading = h("div.title", null, h("h2", { id: `${id}-title` }, title), h("span.push"), link);
  return h("section.card", { id, "aria-labelledby": `${id}-title` }, heading, table.element);
}
