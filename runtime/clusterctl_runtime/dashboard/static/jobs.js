// The table of jobs, newest first, with a filter and a state.

import { get } from "./api.js";
import { h } from "./dom.js";
import { age, chip, jobLink, reason, resources } from "./format.js";
import { paced } from "./live.js";
import { Table } from "./table.js";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled"];
const LIMIT = 1000;

export class JobsView {
  constructor(_id, query) {
    this.jobs = [];
    this.table = jobsTable();
    this.filter = h("input", { type: "search", id: "filter", placeholder: "id, name, user, command …", autocomplete: "off", oninput: () => this.draw() });
    this.state = h("select", { id: "state", onchange: () => this.choose() }, h("option", { value: "" }, "all"));
    for (const state of STATES) this.state.append(h("option", { value: state, selected: query.get("state") === state }, state));
    this.note = h("p.sub");
    this.element = h(
      "section.card",
      { "aria-labelledby": "jobs-title" },
      h(
        "div.bar-of-tools",
        null,
        h("h1", { id: "jobs-title" }, "Jobs"),
        h("label", { for: "state" }, "State"),
        this.state,
        h("label", { for: "filter" }, "Filter"),
        this.filter,
      ),
      this.table.element,
      this.note,
    );
    this.reload = paced(() => this.load(), 700);
    this.timer = setInterval(() => this.reload(), 5000);
  }

  /** The state goes into the address, so that a reload and the back button keep it. */
  choose() {
    const state = this.state.value;
    history.replaceState(null, "", state ? `#/jobs?state=${state}` : "#/jobs");
    this.table.update([], "Asking the head…");
    this.reload();
  }

  async load() {
    const state = this.state.value;
    try {
      const { jobs } = await get(`jobs?limit=${LIMIT}${state ? `&state=${state}` : ""}`);
      if (state !== this.state.value) return;
      this.jobs = jobs;
      this.draw();
    } catch (error) {
      if (error.status) this.table.update([], error.message);
    }
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const found = this.jobs.filter((job) => !wanted || words(job).includes(wanted));
    this.table.update(found, this.jobs.length ? "No job matches this filter." : "No jobs. Submit one: clusterctl submit job.py");
    this.note.textContent = this.jobs.length >= LIMIT ? `The newest ${LIMIT} jobs are shown; clusterctl jobs lists all.` : "";
  }

  update() {
    this.reload();
  }

  close() {
    this.reload.stop();
    clearInterval(this.timer);
  }
}

function words(job) {
  return [job.id, job.name, job.user, job.state, job.pool, command(job), reason(job.reason).text].join(" ").toLowerCase();
}

/** The command as one could type it into a shell. */
export function command(job) {
  const parts = [job.script, ...(job.entrypoint ?? [])].filter((part, at) => at > 0 || part);
  return parts.map((part) => (/^[\w@%+=:,./-]+$/.test(part) ? part : `'${part.replaceAll("'", "'\\''")}'`)).join(" ");
}

function jobsTable() {
  return new Table({
    label: "Jobs",
    key: (job) => job.id,
    empty: "Asking the head…",
    columns: [
      { title: "Job", cell: (job) => [jobLink(job.id), job.name && job.name !== job.id ? h("span.sub.clip", null, job.name) : null], sort: (job) => job.id },
      { title: "State", cell: (job) => chip(job.state), sort: (job) => job.state },
      { title: "Submitted", kind: "num", cell: (job) => [age(job.submitted), " ago"], sort: (job) => -(job.submitted ?? 0) },
      { title: "Ran", kind: "num", cell: (job) => (job.started ? age(job.started, job.ended) : "–"), sort: (job) => (job.ended ?? Date.now() / 1000) - (job.started ?? Date.now() / 1000) },
      { title: "Wants", cell: wants },
      { title: "User", cell: (job) => job.user || "–", sort: (job) => job.user ?? "" },
      { title: "Why", kind: "wide", cell: why },
    ],
  });
}

function wants(job) {
  const each = resources(job.resources);
  return job.nodes > 1 ? `${job.nodes} nodes × ${each}` : each;
}

function why(job) {
  const { text, fix } = reason(job.wait ?? job.reason);
  const code = job.exit_code ? `exit code ${job.exit_code}` : "";
  return [h("span", null, text || code || "–"), fix && h("span.fix", null, fix)];
}
