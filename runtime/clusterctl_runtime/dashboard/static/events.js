// The cluster's journal as it is written: a list for the overview, and a page with a filter.

import { follow } from "./api.js";
import { h } from "./dom.js";
import { clock, jobLink, nodeLink, text } from "./format.js";
import { Table } from "./table.js";

const KEPT = 1000;

/** Follows the events from the newest `start` on, and calls `changed` with all that is kept, newest first. */
export class EventFeed {
  constructor(start, changed) {
    Object.assign(this, { start, changed, events: [], last: -1, timer: 0 });
    this.stop = new AbortController();
    this.run();
  }

  async run() {
    const signal = this.stop.signal;
    try {
      await follow(() => (this.last < 0 ? `events?since=-1&limit=${this.start}&follow=1` : `events?since=${this.last}&follow=1`), {
        signal,
        each: (event) => this.take(event),
      });
    } catch (error) {
      if (!signal.aborted) this.changed([], error);
    }
  }

  take(event) {
    if (event.seq <= this.last) return;
    this.last = event.seq;
    this.events.unshift(event);
    this.events.length = Math.min(this.events.length, KEPT);
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      this.changed(this.events);
    }, 100);
  }

  close() {
    this.stop.abort();
    clearTimeout(this.timer);
  }
}

export function eventsTable() {
  return new Table({
    label: "Events",
    key: (event) => event.seq,
    empty: "Nothing has happened yet.",
    columns: [
      { title: "At", cell: (event) => clock(event.at) },
      { title: "Of", cell: (event) => [h("span.kind", null, event.kind), " ", subject(event)] },
      { title: "What happened", kind: "wide", cell: (event) => h("span", { title: event.code }, event.text) },
    ],
  });
}

function subject(event) {
  if (event.kind === "job") return jobLink(event.subject);
  return event.kind === "node" ? nodeLink(event.subject) : text(event.subject);
}

export class EventsView {
  constructor(_id, query) {
    this.table = eventsTable();
    this.events = [];
    this.filter = h("input", { type: "search", id: "filter", placeholder: "job, node, code, words …", value: query.get("match"), autocomplete: "off", oninput: () => this.type() });
    this.element = h(
      "section.card.spacious",
      { "aria-labelledby": "events-title" },
      h("div.bar-of-tools", null, h("h1", { id: "events-title" }, "Events"), h("label", { for: "filter" }, "Filter"), this.filter),
      this.table.element,
    );
    this.feed = new EventFeed(500, (events) => {
      this.events = events;
      this.draw();
    });
  }

  /** What is looked for goes into the address, so that a reload and the back button keep it. */
  type() {
    const match = this.filter.value.trim();
    history.replaceState(null, "", `#/events${match && `?${new URLSearchParams({ match })}`}`);
    this.draw();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const found = this.events.filter((event) => !wanted || [event.kind, event.subject, event.code, event.text].join(" ").toLowerCase().includes(wanted));
    this.table.update(found, this.events.length ? "No event matches this filter." : "Nothing has happened yet.");
  }

  update() {}

  close() {
    this.feed.close();
  }
}
