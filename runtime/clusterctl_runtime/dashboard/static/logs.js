// The live log of a job: choice of attempt and rank, and a stream that goes on where it broke off.

import { download, follow } from "./api.js";
import { attempt as tried } from "./notice.js";
import { fill, h, say } from "./dom.js";
import { LogText } from "./logtext.js";

const TAIL = 2000; // lines asked for at first; the command line has the whole log
const TAIL_BYTES = 2 * 1024 * 1024; // of each rank, however long its lines are

export class LogPanel {
  constructor(jobId, ended) {
    Object.assign(this, { jobId, ended, job: null, stop: null, attempts: 0, ranks: 0, offsets: new Map() });
    this.text = new LogText();
    this.attempt = h("select", { id: "log-attempt", onchange: () => this.open() });
    this.rank = h("select", { id: "log-rank", onchange: () => this.open() });
    this.follow = h("input", { type: "checkbox", id: "log-follow", checked: true, onchange: () => this.text.setFollow(this.follow.checked) });
    this.wrap = h("input", { type: "checkbox", id: "log-wrap", checked: true, onchange: () => this.text.element.classList.toggle("nowrap", !this.wrap.checked) });
    this.search = h("input", { type: "search", id: "log-search", placeholder: "lines with …", autocomplete: "off", oninput: () => this.text.only(this.search.value) });
    this.state = h("span.sub", { role: "status", id: "log-state" }, "waits for the first attempt");
    this.text.onFollow = (on) => {
      this.follow.checked = on;
    };
    this.tools = h(
      "div.tools",
      { hidden: true },
      h("label", { for: "log-attempt" }, "Attempt"),
      this.attempt,
      h("label", { for: "log-rank" }, "Rank"),
      this.rank,
      h("label.check", null, this.follow, "Follow"),
      h("label.check", null, this.wrap, "Wrap"),
      h("label.hidden", { for: "log-search" }, "Lines with"),
      this.search,
      h("button", { type: "button", id: "log-download", onclick: () => this.save() }, "Download"),
    );
    this.text.element.hidden = true; // until there is an attempt
    const bar = h("div.bar-of-tools", null, h("h2", { id: "log-title" }, "Log"), this.state, h("span.push"), this.tools);
    this.element = h("section.card.log", { "aria-labelledby": "log-title" }, bar, this.text.element);
  }

  /** Takes the job as it is now; a new attempt is followed at once, whatever was looked at before. */
  update(job) {
    this.job = job;
    if (this.over) this.sayHowItEnded(job);
    const attempts = job.attempts ?? [];
    const latest = attempts.at(-1);
    this.tools.hidden = this.text.element.hidden = !latest;
    if (!latest) return;
    const ranks = Math.max(1, latest.nodes?.length ?? 0, job.nodes ?? 1);
    if (attempts.length === this.attempts && ranks === this.ranks) return;
    if (ranks !== this.ranks) fill(this.rank, ranks > 1 ? h("option", { value: "all" }, "all") : null, range(ranks).map((n) => h("option", { value: n }, n)));
    fill(this.attempt, attempts.map((_, at) => h("option", { value: at + 1 }, at + 1)));
    this.attempt.value = String(attempts.length);
    Object.assign(this, { attempts: attempts.length, ranks });
    this.open();
  }

  /** The whole log of the chosen attempt and rank, as the program wrote it, into a file. */
  async save() {
    const rank = this.rank.value;
    const query = new URLSearchParams({ attempt: this.attempt.value, ...(rank === "all" ? {} : { rank }) });
    const name = `${this.jobId}-${this.attempt.value}${rank === "all" ? "" : `-${rank}`}.log`;
    await tried(() => download(`jobs/${encodeURIComponent(this.jobId)}/logs?${query}`, name), () => `The log is in ${name}.`);
  }

  /** Starts over with the chosen attempt and rank. */
  async open() {
    this.stop?.abort();
    this.stop = new AbortController();
    const { signal } = this.stop;
    this.offsets.clear();
    this.over = false;
    this.text.clear({ ranks: this.rank.value === "all" });
    say(this.state, "opening…");
    try {
      await follow(() => this.path(), {
        signal,
        each: (item) => this.take(item),
        state: (state) => say(this.state, state === "live" ? "live" : "interrupted, trying again…"),
      });
    } catch (error) {
      if (!signal.aborted) say(this.state, error.message);
    }
  }

  /** With one rank a broken stream goes on at the byte where it ended; with all of them, each at a byte of its own, the
      end of every log is asked for anew. */
  path() {
    const rank = this.rank.value;
    const query = new URLSearchParams({ attempt: this.attempt.value, follow: "1" });
    if (rank !== "all") query.set("rank", rank);
    const from = this.offsets.get(Number(rank));
    this.startOver = from === undefined && this.offsets.size > 0;
    if (from !== undefined) query.set("offset", String(from));
    else for (const [name, value] of [["tail", TAIL], ["tail_bytes", TAIL_BYTES]]) query.set(name, String(value));
    return `jobs/${encodeURIComponent(this.jobId)}/logs?${query}`;
  }

  take(item) {
    if (item.end) {
      this.text.flush();
      this.over = true;
      this.sayHowItEnded(item);
      this.ended();
      return true;
    }
    if (this.startOver) {
      this.startOver = false;
      this.offsets.clear();
      this.text.clear({ ranks: true });
    }
    if (item.cut) this.text.note.hidden = false;
    this.text.add(item.rank, item.data);
    this.offsets.set(item.rank, item.next);
    return false;
  }

  /** The attempt's own end where it is known, since the job may have gone on to another. */
  sayHowItEnded(job) {
    const { state, exit_code: code } = this.job.attempts[Number(this.attempt.value) - 1] ?? job;
    const told = state === "running" ? job : { state, exit_code: code };
    say(this.state, ending(told));
  }

  close() {
    this.stop?.abort();
    this.text.close();
  }
}

function ending({ state, exit_code: code }) {
  return code === null || code === undefined ? `ended: ${state}` : `ended: ${state}, exit code ${code}`;
}

function range(n) {
  return Array.from({ length: n }, (_, at) => at);
}
