// The table of jobs.

import { get, post } from "./api.js";
import { bar, fill, h } from "./dom.js";
import { age, chip, count, jobLink, reason, resources } from "./format.js";
import { ListView } from "./list.js";
import { confirm, notice } from "./notice.js";
import { Table } from "./table.js";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled"];

/** The page of all jobs, newest first. */
export class JobsView extends ListView {
  none = "No jobs. Submit one: clusterctl submit job.py";

  constructor(_id, query) {
    const array = query.get("array") ?? "";
    const chosen = new Set();
    const tools = h("div.chosen", { hidden: true, role: "group", "aria-label": "Chosen jobs" });
    const table = jobsTable(chosen, () => this.drawChosen());
    super({ name: "jobs", cursor: "before", title: array ? `Jobs of array ${array}` : "Jobs", hint: "id, name, user, command …", table, selects: { state: STATES }, query, kept: ["array"], above: tools });
    Object.assign(this, { array, chosen, tools });
  }

  question() {
    return this.array ? super.question() : `${super.question()}&fold=true`;
  }

  take(page) {
    super.take(page);
    const here = new Set(page.jobs.map(key));
    for (const id of this.chosen) if (!here.has(id)) this.chosen.delete(id); // what cannot be seen is not acted on
    this.drawChosen();
  }

  drawChosen() {
    const number = this.chosen.size;
    this.tools.hidden = !number;
    fill(
      this.tools,
      h("span", { "aria-live": "polite" }, `${count(number)} chosen`),
      h("button.danger", { type: "button", id: "cancel-chosen", onclick: () => this.act("cancel", "Cancel", "Their processes are asked to end, and killed if they do not. Their logs stay.", true) }, "Cancel…"),
      h("button", { type: "button", id: "retry-chosen", onclick: () => this.act("retry", "Run again", "Each is queued for one more attempt, of an array those that failed. What has not ended stays as it is.", false) }, "Run again…"),
      h("button", { type: "button", onclick: () => this.chooseNone() }, "None"),
    );
  }

  chooseNone() {
    this.chosen.clear();
    for (const box of this.table.body.querySelectorAll("input:checked")) box.checked = false;
    this.drawChosen();
  }

  /** Of an array those that failed are tried again; a job is tried again itself. */
  async failedOf(id) {
    if (!this.table.items.some((job) => job.array?.id === id)) return [id];
    const { jobs } = await get(`jobs?array=${encodeURIComponent(id)}&state=failed&limit=1000`);
    return jobs.map((job) => job.id);
  }

  /** `what` is the call; one after the other, so that a refusal of one keeps none of the others. */
  async act(what, title, text, danger) {
    const chosen = [...this.chosen];
    if (!(await confirm({ title: `${title}: ${count(chosen.length)} of the list?`, text, action: title, danger }))) return;
    const refused = [];
    const ids = what === "retry" ? (await Promise.all(chosen.map((id) => this.failedOf(id)))).flat() : chosen;
    for (const id of ids) {
      try {
        await post(`jobs/${encodeURIComponent(id)}/${what}`);
      } catch (error) {
        refused.push(error.message);
      }
    }
    const done = `${count(ids.length - refused.length)} of ${count(ids.length)} ${what === "cancel" ? "are being cancelled" : "are queued again"}.`;
    notice([done, refused[0]].filter(Boolean).join(" "), { error: refused.length > 0 });
    this.chooseNone();
    this.load();
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

/** What is acted on by a row: an array as a whole, or a job. */
function key(job) {
  return job.array ? job.array.id : job.id;
}

const SHOWN = ["succeeded", "running", "failed", "cancelled"];

/** How far an array is: a bar, and in words. */
export function progress({ counts }) {
  const all = Object.values(counts).reduce((sum, number) => sum + number, 0);
  const parts = SHOWN.map((state) => ({ value: counts[state] ?? 0, kind: state }));
  const others = ["running", "queued", "failed", "cancelled"].filter((state) => counts[state]).map((state) => `${count(counts[state])} ${state}`);
  const words = [`${count(counts.succeeded ?? 0)} of ${count(all)} succeeded`, ...others].join(" · ");
  return [bar(parts, all, words), h("span.sub", null, words)];
}

export function arrayLink({ id }, label) {
  return h("a", { href: `#/jobs?array=${encodeURIComponent(id)}` }, label ?? id);
}

function box(job, chosen, changed) {
  const id = key(job);
  const toggle = (event) => {
    chosen[event.target.checked ? "add" : "delete"](id);
    changed();
  };
  return h("input", { type: "checkbox", "aria-label": `Choose ${id}`, checked: chosen.has(id), onchange: toggle });
}

function title(job) {
  const name = job.name && job.name !== job.id ? h("span.sub.clip", null, job.name) : null;
  return job.array ? [arrayLink(job.array), h("span.tag", null, "array"), name] : [jobLink(job.id), name];
}

function jobsTable(chosen, changed) {
  return new Table({
    label: "Jobs",
    key,
    empty: "Asking the head…",
    columns: [
      { title: "Choose", kind: "box", cell: (job) => box(job, chosen, changed) },
      { title: "Job", cell: title, sort: key },
      { title: "State", cell: (job) => (job.array ? progress(job.array) : chip(job.state)), sort: (job) => job.state },
      { title: "Submitted", kind: "num", cell: (job) => [age(job.submitted), " ago"], sort: (job) => -(job.submitted ?? 0) },
      { title: "Ran", kind: "num", cell: (job) => (job.started && !job.array ? age(job.started, job.ended) : "–"), sort: (job) => (job.ended ?? Date.now() / 1000) - (job.started ?? Date.now() / 1000) },
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
