// The first page: is the cluster well, what does it cost, what waits and why, what happened last.

import { EventFeed, eventsTable } from "./events.js";
import { demandTable } from "./demand.js";
import { fill, h, say } from "./dom.js";
import { chip, count, money } from "./format.js";
import { History } from "./history.js";
import { nodesTable } from "./nodes.js";
import { poolsTable } from "./pools.js";

const STATES = ["running", "queued", "succeeded", "failed", "cancelled"];

export class OverviewView {
  constructor(_id, query) {
    this.tiles = h("dl.tiles");
    this.messages = h("div.messages", { role: "status", hidden: true });
    this.pools = poolsTable();
    this.demand = demandTable();
    this.waiting = h("p.sub", { hidden: true });
    this.nodes = nodesTable();
    this.events = eventsTable();
    this.allNodes = h("a", { href: "#/nodes" });
    this.more = h("p.sub", { hidden: true });
    this.signature = "";
    this.history = new History(query.get("span"), (span) => history.replaceState(null, "", `#/?span=${span}`));
    this.element = h(
      "div.stack",
      null,
      h("h1.hidden", null, "Overview"),
      this.tiles,
      this.messages,
      this.history.element,
      section("pools", "Pools", this.pools.element),
      section("demand", "Waiting", [this.demand.element, this.waiting]),
      section("nodes", "Nodes", [this.nodes.element, this.more], this.allNodes),
      section("events", "Latest events", this.events.element, h("a", { href: "#/events" }, "All events")),
    );
    this.feed = new EventFeed(8, (events) => this.events.update(events.slice(0, 8)));
  }

  update(status) {
    this.history.reload();
    const { nodes = [], node_counts: counts = {}, demand_left_out: unnamed = 0 } = status;
    const total = Object.values(counts).reduce((sum, number) => sum + number, 0);
    this.drawTiles(status, counts.ready ?? 0, total);
    this.drawMessages([...(status.messages ?? []), status.engine?.message].filter(Boolean));
    this.pools.update(status.pools ?? []);
    this.demand.update(status.demand ?? []);
    this.waiting.hidden = !unnamed;
    say(this.waiting, `And ${count(unnamed)} more kinds of waiting work.`);
    this.nodes.update(nodes, "No nodes yet.", nodes.length === total);
    say(this.allNodes, nodes.length === total ? "All nodes" : `All ${count(total)} nodes`);
    this.more.hidden = nodes.length === total;
    say(this.more, `${count(nodes.length)} of ${count(total)} nodes: those that need a look come first.`);
  }

  drawTiles(status, ready, total) {
    const { head = {}, engine = {}, jobs = {}, cost = {}, lifetime } = status;
    const signature = JSON.stringify([status.cluster, status.state, head, engine, jobs, cost, lifetime?.text, ready, total]);
    if (signature === this.signature) return;
    this.signature = signature;
    const engineName = engine.name && engine.name !== "none" ? `${engine.name} ${engine.version ?? ""}` : "none";
    fill(
      this.tiles,
      tile("Cluster", status.cluster, [chip(status.state), lifetime && ` ${lifetime.text}`]),
      tile("Head", head.address || "–", `clusterctl ${head.version ?? ""}`),
      tile("Engine", engineName, engine.name && engine.name !== "none" ? chip(engine.state) : "plain jobs only"),
      tile("Nodes ready", count(ready), `of ${count(total)} known`),
      tile("Cost", `${money(cost.per_hour)}/h`, `${money(cost.total)} so far`),
      h("div.tile.jobs", null, h("dt", null, "Jobs"), h("dd", null, STATES.map((state) => jobCount(state, jobs[state] ?? 0)))),
    );
  }

  /** What the head has to say about providers and the engine, while it lasts. */
  drawMessages(messages) {
    this.messages.hidden = messages.length === 0;
    if (this.messages.textContent !== messages.join("")) fill(this.messages, messages.map((message) => h("p", null, message)));
  }

  close() {
    this.feed.close();
    this.history.close();
  }
}

function tile(name, value, note) {
  return h("div.tile", null, h("dt", null, name), h("dd", null, h("strong", null, value), note && h("span.sub", null, note)));
}

function jobCount(state, number) {
  return h(`a.count.is-${state}`, { href: `#/jobs?state=${state}` }, h("strong", null, count(number)), ` ${state}`);
}

function section(id, title, content, link) {
  const heading = h("div.title", null, h("h2", { id: `${id}-title` }, title), h("span.push"), link);
  return h("section.card", { id, "aria-labelledby": `${id}-title` }, heading, content);
}
