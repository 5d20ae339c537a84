// Numbers, times and the API's nouns as text.

import { h } from "./dom.js";

/** Milliseconds of a time of the API (unix seconds, or ISO text); null when there is none. */
export function milliseconds(time) {
  if (time === null || time === undefined || time === "" || time === 0) return null;
  const value = typeof time === "number" ? time * 1000 : Date.parse(time);
  return Number.isNaN(value) ? null : value;
}

/** "4 s", "12 min", "3 h 5 min", "2 d 4 h". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return minutes < 10 && whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

/** A <time> that keeps itself up to date: how long ago (or how long from `time` to `until`). */
export function age(time, until) {
  const start = milliseconds(time);
  if (start === null) return "–";
  const end = milliseconds(until);
  const element = h("time", { datetime: new Date(start).toISOString(), title: new Date(start).toLocaleString() });
  element.dataset.from = String(start);
  if (end !== null) element.dataset.until = String(end);
  tick(element);
  return element;
}

export function clock(time) {
  const at = milliseconds(time);
  if (at === null) return "–";
  const date = new Date(at);
  const text = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString([], { day: "numeric", month: "short" })} `;
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, day, text);
}

function tick(element) {
  const until = element.dataset.until ? Number(element.dataset.until) : Date.now();
  const seconds = (until - Number(element.dataset.from)) / 1000;
  const over = element.dataset.until !== undefined; // only what no longer grows is worth a fraction of a second
  const text = over && seconds < 10 ? `${Math.max(0, seconds).toFixed(seconds < 1 ? 2 : 1)} s` : duration(seconds);
  if (element.textContent !== text) element.textContent = text;
}

/** Moves every age on the page forward; called once a second. */
export function tickAll() {
  for (const element of document.querySelectorAll("time[data-from]:not([data-until])")) tick(element);
}

/** 2500 -> "2,500". */
export function count(number) {
  return Number(number).toLocaleString("en");
}

export function money(dollars) {
  const value = Number(dollars ?? 0);
  return `$${value.toFixed(value !== 0 && value < 0.1 ? 4 : 2)}`;
}

export function bytes(value) {
  const gib = value / 2 ** 30;
  return gib >= 1 ? `${Number(gib.toFixed(1))}\u00a0GiB` : `${Number((value / 2 ** 20).toFixed(0))}\u00a0MiB`;
}

function amount(name, value) {
  return name === "memory" || name === "object_store_memory" ? bytes(value) : `${Number(value.toFixed(4))}\u00a0${name}`;
}

const ORDER = ["CPU", "GPU", "memory"];

/** {"CPU": 4, "memory": 2**30} -> "4 CPU · 1 GiB"; text stays as it is. */
export function resources(amounts) {
  if (amounts === null || amounts === undefined) return "–";
  if (typeof amounts !== "object") return String(amounts);
  const rank = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  const names = Object.keys(amounts).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const parts = names.map((name) => (typeof amounts[name] === "number" ? amount(name, amounts[name]) : `${name} ${text(amounts[name])}`));
  return parts.join(" · ") || "nothing";
}

/** Whatever the API gives for a value, as text: lists joined, objects as JSON. */
export function text(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value)) return value.map(text).join(", ") || "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A reason of the API is a sentence, or {code, text, fix}: always the latter here. */
export function reason(value) {
  if (!value) return { code: "", text: "", fix: "" };
  if (typeof value === "string") return { code: "", text: value, fix: "" };
  return { code: value.code ?? "", text: value.text ?? "", fix: value.fix ?? "" };
}

const USERS = { queue: "jobs", engine: "Ray" };

/** Who uses a node: "jobs", "Ray", "jobs and Ray", or "". */
export function users(owner) {
  return (owner ?? "").split("+").map((user) => USERS[user] ?? user).join(" and ");
}

const MARKS = {
  ready: "●", running: "▶", live: "●", succeeded: "✓", up: "●",
  planned: "○", requested: "◔", booting: "◑", joining: "◕", queued: "◷", starting: "◑", pending: "◷",
  draining: "◐", terminating: "◌", cancelled: "⊘", gone: "◌", lost: "✕", stopped: "◌", down: "◌",
  failed: "✕", quarantined: "⚠",
}; // a shape beside each colour, for those who do not tell the colours apart

/** A state as a coloured chip with a mark of its own. */
export function chip(state) {
  const name = String(state ?? "unknown");
  const kind = /^[a-z]+$/.test(name) ? name : "unknown";
  return h(`span.chip.is-${kind}`, null, h("span", { "aria-hidden": "true" }, MARKS[kind] ?? "•"), " ", name);
}

export function jobLink(id, label) {
  return h("a", { href: `#/jobs/${encodeURIComponent(id)}` }, label ?? id);
}

export function nodeLink(id) {
  return h("a", { href: `#/nodes/${encodeURIComponent(id)}` }, id);
}
