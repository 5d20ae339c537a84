// The table of jobs.

import { h } from "./dom.js";
import { age, chip, jobLink, reason, resources } from "./format.js";
import { ListView } from "./list.js";
import { Table } from "./table.js";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled"];

/** The page of all jobs, newest first. */
export class JobsView extends ListView {
  none = "No jobs. Submit one: clusterctl submit job.py";

  constructor(_id, query) {
    super({ name: "jobs", cursor: "before", title: "Jobs", hint: "id, name, user, command …", table: jobsTable(), selects: { state: STATES }, query });
  }

  update() {
    if (!this.filter.value.trim()) this.reload(); // to look for words in a long queue at every change would be too much
  }

  place() {
    return `Page ${this.pager.number}, newest first`;
  }
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
