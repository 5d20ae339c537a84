// Calls to the head. Every one carries the token; a token that is refused ends the session.

import { forget, token } from "./session.js";

const PATIENCE = 30_000; // ms; an answer that is no stream is given up after so long: it is asked for again
const SILENCE = 40_000; // ms; a stream says something every 15 s, so two missing ones mean that it is dead

/** The head's own words for a failure. `status` 0: it could not be reached. */
export class ApiError extends Error {
  constructor(status, { code = "", message, fix = "" }) {
    super(message);
    Object.assign(this, { status, code, fix });
  }
}

const HOUR = 3_600_000;

let refused = () => {};
let asleep = false;
const reading = new Set(); // what ends each stream that is open

/** `listener` is called once the head no longer accepts our token. */
export function onRefused(listener) {
  refused = listener;
}

async function call(method, path, { body, signal } = {}) {
  const headers = { Authorization: `Bearer ${token() ?? ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (signal?.aborted) throw error;
  }
  if (response?.ok) return response;
  if (!response || response.status === 502) throw new ApiError(0, { message: "The head does not answer." }); // 502: the forwarded port says so
  if (response.status === 401) {
    forget();
    refused();
  }
  throw new ApiError(response.status, await failure(response));
}

async function failure(response) {
  try {
    const { error } = await response.json();
    if (error?.message) return error;
  } catch {
    // not a document of ours: the status is all there is to say
  }
  return { message: `The head answered ${response.status} ${response.statusText}.` };
}

export async function get(path, signal) {
  const limit = AbortSignal.timeout(PATIENCE);
  const response = await call("GET", path, { signal: signal ? AbortSignal.any([signal, limit]) : limit });
  return response.json();
}

export async function post(path, body = {}) {
  return (await call("POST", path, { body })).json();
}

/** Reads one NDJSON answer to its end, calling `each` with every object. `opened` is called once it is under way. */
async function read(path, { signal, each, opened }) {
  const stop = new AbortController();
  const abort = () => stop.abort();
  signal.addEventListener("abort", abort);
  reading.add(abort);
  let watchdog = setTimeout(abort, SILENCE);
  try {
    const response = await call("GET", path, { signal: stop.signal });
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(abort, SILENCE);
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.trim()) each(JSON.parse(line));
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", abort);
    reading.delete(abort);
  }
}

/** Reads a log to its end and gives it to the browser as the file `name`, byte for byte. */
export async function download(path, name) {
  const parts = [];
  const each = ({ data, base64 }) => {
    if (base64 !== undefined) parts.push(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
    else if (data) parts.push(data);
  };
  await read(path, { signal: new AbortController().signal, each, opened: () => {} });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
  link.download = name.replaceAll(/[^\w.-]/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // once the browser has taken it
}

/** Lets all streams go until `wakeUp`: a browser has six connections per host, over all tabs, also those that nobody sees. */
export function sleep() {
  asleep = true;
  for (const abort of reading) abort();
}

/** Every stream goes on from where it was. */
export function wakeUp() {
  asleep = false;
  dispatchEvent(new Event("clusterctl:retry"));
}

/** Follows a stream, opening it again whenever it breaks, until `signal` aborts or `each` returns true ("that was all").
    `path` is a function, so that the next try goes on from where the last one ended. `state("live" | "lost")` is told.
    Refusals (4xx) end it and are thrown. */
export async function follow(path, { signal, each, state = () => {} }) {
  let pause = 250;
  let over = false;
  while (!signal.aborted && !over) {
    if (asleep) {
      await wake(HOUR, signal);
      continue;
    }
    try {
      await read(path(), {
        signal,
        each: (item) => {
          pause = 250;
          over = each(item) === true || over;
        },
        opened: () => state("live"),
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
    }
    if (signal.aborted || over) return;
    if (asleep) continue;
    state("lost");
    await wake(pause, signal);
    pause = Math.min(pause * 2, 4000);
  }
}

/** Resolves after `ms`, or at once when the person asks for a retry or `signal` aborts. */
function wake(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      removeEventListener("clusterctl:retry", done);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    addEventListener("clusterctl:retry", done);
    addEventListener("online", done);
  });
}
