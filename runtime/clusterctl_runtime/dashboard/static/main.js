// Start: let in by a ticket, follow the cluster's status, show the view that the address names.

import { follow, onRefused, sleep, wakeUp } from "./api.js";
import { Connection } from "./connection.js";
import { CostsView } from "./costs.js";
import { fill, h, say } from "./dom.js";
import { EventsView } from "./events.js";
import { tickAll } from "./format.js";
import { JobView } from "./job.js";
import { JobsView } from "./jobs.js";
import { NodesView, NodeView } from "./nodes.js";
import { OverviewView } from "./overview.js";
import { admit } from "./session.js";
import { offerThemes } from "./theme.js";

const HIDDEN_FOR = 2_000; // ms after which a tab that nobody sees lets its connections go

const main = document.getElementById("main");
const connection = new Connection();
const page = { view: null, status: null, streams: null };

/** "#/jobs/ID?state=x" -> the view for it. */
function route() {
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  const [, name = "", id = ""] = path.split("/");
  const views = { "": OverviewView, nodes: id ? NodeView : NodesView, jobs: id ? JobView : JobsView, events: EventsView, costs: CostsView };
  return { name, View: views[name] ?? OverviewView, id: decodeURIComponent(id), query: new URLSearchParams(query) };
}

function show() {
  const { name, View, id, query } = route();
  page.view?.close();
  page.view = new View(id, query);
  fill(main, page.view.element);
  for (const link of document.querySelectorAll("#views a")) {
    const here = link.hash.replace(/^#\//, "") === name;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  retitle(id || name);
  if (page.status) page.view.update(page.status);
}

function retitle(place) {
  const cluster = page.status?.cluster;
  document.title = [place, cluster, "clusterctl"].filter(Boolean).join(" · ");
}

function navigate() {
  show();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function take(status) {
  connection.heard();
  const first = page.status === null;
  page.status = status;
  say(document.getElementById("cluster-name"), status.cluster ?? "");
  if (first) retitle(route().id || route().name);
  page.view?.update(status);
}

function start() {
  page.streams = new AbortController();
  show();
  follow(() => "status?watch=1", {
    signal: page.streams.signal,
    each: take,
    state: (state) => connection.set(state),
  }).catch((error) => {
    if (error.status !== 401) gate(error.message);
  });
}

/** What stands here when this tab may not look at the cluster. */
function gate(why) {
  page.streams?.abort();
  page.view?.close();
  page.view = null;
  removeEventListener("hashchange", navigate);
  document.getElementById("views").hidden = true;
  connection.show("locked", "No session");
  document.getElementById("banner").replaceChildren();
  fill(main, h("div.gate", { role: "alert" }, h("h1", null, why), h("p", null, "Run ", h("code", null, "clusterctl dashboard"), " in a terminal: it opens this page with a new ticket.")));
}

let hiddenTimer = 0;
function watchVisibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(sleep, HIDDEN_FOR);
  else wakeUp();
}

function onKey(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const filter = document.getElementById("filter");
    if (!filter) return;
    event.preventDefault();
    filter.focus();
  }
}

async function begin() {
  const refusal = await admit();
  if (refusal) {
    gate(refusal);
    return;
  }
  onRefused(() => gate("This session has ended."));
  document.getElementById("views").hidden = false;
  addEventListener("hashchange", navigate);
  document.addEventListener("visibilitychange", watchVisibility);
  addEventListener("pagehide", sleep); // the browser may keep a page that was left, with all that it has open
  addEventListener("pageshow", wakeUp);
  addEventListener("keydown", onKey);
  setInterval(() => {
    tickAll();
    connection.tick();
  }, 1000);
  watchVisibility(); // a tab that was opened behind others is hidden from the start
  start();
}

offerThemes(document.getElementById("theme"));

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment names the view
  main.focus();
});

// A ticket pasted into the address of an open page is taken as well.
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#ticket=")) location.reload();
});

begin();
