// One job: what it is, why it waits or how it ended, its attempts, its live log, and what can be done to it.

import { get, post } from "./api.js";
import { bar, fill, h } from "./dom.js";
import { Explain } from "./explain.js";
import { age, chip, clock, duration, jobLink, money, nodeLink, reason, resources } from "./format.js";
import { arrayLink, command, progress } from "./jobs.js";
import { paced } from "./live.js";
import { LogPanel } from "./logs.js";
import { attempt, confirm } from "./notice.js";
import { Table } from "./table.js";

const FINAL = ["succeeded", "failed", "cancelled"];

export class JobView {
  constructor(id) {
    this.id = id;
    this.path = `jobs/${encodeURIComponent(id)}`;
    this.signature = "";
    this.top = h("div", null, h("h1", null, id));
    this.attempts = attemptsTable();
    this.log = new LogPanel(id, () => this.reload());
    this.explain = new Explain(id);
    const attempts = h("section.card", { "aria-labelledby": "attempts-title" }, h("h2", { id: "attempts-title" }, "Attempts"), this.attempts.element);
    this.rest = h("div.columns", null, attempts, this.explain.element);
    this.element = h(
      "div.stack",
      null,
      h("section.card", { "aria-label": `Job ${id}` }, this.top),
      this.log.element,
      this.rest,
    );
    this.reload = paced(() => this.load(), 500);
    this.timer = setInterval(() => this.final || this.reload(), 2000);
  }

  update() {
    if (!this.rest.hidden) this.reload();
  }

  close() {
    this.reload.stop();
    clearInterval(this.timer);
    this.log.close();
  }

  async load() {
    try {
      const job = await get(this.path);
      this.final = FINAL.includes(job.state);
      const signature = JSON.stringify(job);
      if (signature === this.signature) return;
      this.signature = signature;
      this.draw(job);
      this.attempts.update([...(job.attempts ?? [])].reverse());
      this.log.update(job);
      await this.explain.load();
    } catch (error) {
      if (error.status === 0) return;
      this.final = error.status === 404; // nobody has to ask again
      for (const part of [this.log.element, this.rest]) part.hidden = this.final;
      fill(this.top, h("h1", null, this.id), h("p.problem", null, error.message, " ", error.fix), h("p", null, h("a", { href: "#/jobs" }, "All jobs")));
    }
  }

  draw(job) {
    const cancel = !this.final && h("button.danger", { type: "button", id: "cancel", onclick: () => this.cancel() }, "Cancel…");
    const retry = this.final && h("button", { type: "button", id: "retry", onclick: () => this.retry() }, "Run again…");
    const { text, fix } = reason(job.wait ?? job.reason);
    const facts = [
      ["Submitted", [age(job.submitted), " ago"]],
      ["Waited", job.started ? age(job.submitted, job.started) : age(job.submitted)],
      ["Ran", job.started ? age(job.started, job.ended) : "–"],
      ["Exit code", job.exit_code ?? "–"],
      ["Wants", resources(job.resources)],
      ["Nodes", job.nodes ?? 1],
      ["Pool", job.pool || "any"],
      ["Priority", job.priority ?? 0],
      ["User", job.user || "–"],
      ["Cost so far", job.cost && money(job.cost.dollars)],
      ["Node hours", job.cost && `${job.cost.hours}\u00a0h`],
      ["Follows", job.follows?.length ? job.follows.map(({ id, name, state }) => h("div", null, jobLink(id, name || id), " ", chip(state))) : null],
      ["On their way for it", job.wait?.nodes?.length ? nodes(job.wait.nodes) : null],
    ].filter(([, value]) => value !== null && value !== undefined);
    const focused = document.activeElement?.id;
    fill(
      this.top,
      h("div.title", null, h("h1", null, job.name || job.id), job.name && job.name !== job.id && h("code", null, job.id), chip(job.state), h("span.push"), cancel, retry),
      text && h(`p.lead.is-${/^[a-z]+$/.test(job.state) ? job.state : "unknown"}`, null, text, fix && h("span.fix", null, fix)),
      h("pre.command", { tabindex: "0", "aria-label": "Command" }, command(job)),
      h("dl.facts", null, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
      job.array && h("div.gauges", null, h("div", null, h("strong", null, "Array "), arrayLink(job.array), progress(job.array))),
      timeline(job),
    );
    if (focused === "cancel" || focused === "retry") document.getElementById(focused)?.focus();
  }

  async cancel() {
    const sure = await confirm({
      title: `Cancel job ${this.id}?`,
      text: "Its processes are asked to end, and killed if they do not. Its log stays.",
      action: "Cancel the job",
      danger: true,
    });
    if (sure && (await attempt(() => post(`${this.path}/cancel`), () => `Job ${this.id} is being cancelled.`))) this.reload();
  }

  async retry() {
    const sure = await confirm({
      title: `Run job ${this.id} again?`,
      text: "It is queued for one more attempt, with the same command and files. Earlier attempts and their logs stay.",
      action: "Run it again",
    });
    if (!sure || !(await attempt(() => post(`${this.path}/retry`), (job) => `Job ${job.id ?? this.id} is ${job.state ?? "queued"} again.`))) return;
    this.final = false;
    this.reload();
  }
}

/** When it waited and when it ran, as one bar from its submission to its end. */
function timeline(job) {
  const now = Date.now() / 1000;
  const end = job.ended ?? now;
  const whole = end - job.submitted;
  if (!job.attempts?.length || !(whole > 0)) return null;
  const parts = [];
  const words = [];
  let at = job.submitted;
  for (const { started, ended, state } of job.attempts) {
    const until = Math.max(started, ended ?? now);
    parts.push({ value: started - at, kind: "waited" }, { value: until - started, kind: state });
    if (started - at > 0.5) words.push(`waited ${lasted(started - at)}`);
    words.push(`${state} ${ended ? "after" : "for"} ${lasted(until - started)}`);
    at = until;
  }
  if (end - at > 0.5) words.push(`waited ${lasted(end - at)}`);
  const said = words.length > 7 ? [...words.slice(0, 3), "…", ...words.slice(-3)] : words;
  return h("div.timeline", null, bar(parts, whole, `Timeline: ${said.join(", ")}`),
    h("div.ends", null, h("span.sub", null, clock(job.submitted)), h("span.sub", null, said.join(" · ")), h("span.sub", null, job.ended ? clock(job.ended) : "now")));
}

function lasted(seconds) {
  return seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds);
}

function attemptsTable() {
  return new Table({
    label: "Attempts",
    key: (attempt) => attempt.id,
    empty: "It has not started yet.",
    columns: [
      { title: "Attempt", cell: (attempt) => `${attempt.id}`.split("/").at(-1) },
      { title: "State", cell: (attempt) => chip(attempt.state) },
      { title: "Started", cell: (attempt) => clock(attempt.started) },
      { title: "Ran", kind: "num", cell: (attempt) => (attempt.started ? age(attempt.started, attempt.ended) : "–") },
      { title: "Exit", kind: "num", cell: (attempt) => attempt.exit_code ?? "–" },
      { title: "Nodes", cell: (attempt) => nodes(attempt.nodes ?? []) },
      { title: "Reason", kind: "wide", cell: (attempt) => reason(attempt.reason).text || "–" },
    ],
  });
}

function nodes(ids) {
  const shown = ids.slice(0, 8).map((id, at) => [at ? " " : "", nodeLink(id)]);
  return ids.length > 8 ? [shown, ` and ${ids.length - 8} more`] : shown;
}
