// Short messages that come and go, and questions that are asked before something is ended.

import { fill, h } from "./dom.js";

const SECONDS = 8;

/** Shows a sentence at the edge of the page; errors stay until they are closed. */
export function notice(text, { error = false } = {}) {
  const close = h("button.close", { type: "button", "aria-label": "Close this message", onclick: () => element.remove() }, "×");
  const element = h(`p.notice${error ? ".error" : ""}`, { role: error ? "alert" : null }, h("span", null, text), close);
  document.getElementById("notices").append(element);
  if (!error) setTimeout(() => element.remove(), SECONDS * 1000);
}

/** Asks before `action`; resolves to true when the person agrees. Escape and the first button say no. */
export function confirm({ title, text, action, danger = false }) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    const end = (answer) => {
      dialog.removeEventListener("cancel", refuse);
      dialog.close();
      resolve(answer);
    };
    const refuse = (event) => {
      event.preventDefault();
      end(false);
    };
    dialog.addEventListener("cancel", refuse);
    fill(
      dialog,
      h("h2", { id: "dialog-title" }, title),
      h("p", null, text),
      h(
        "div.actions",
        null,
        h("button", { type: "button", id: "dialog-no", onclick: () => end(false) }, "Keep it as it is"),
        h(`button.primary${danger ? ".danger" : ""}`, { type: "button", id: "dialog-yes", onclick: () => end(true) }, action),
      ),
    );
    dialog.showModal();
  });
}

/** Runs `action` and says how it went; `done(result)` gives the sentence for success. */
export async function attempt(action, done) {
  try {
    notice(done(await action()));
    return true;
  } catch (error) {
    notice(`${error.message} ${error.fix ?? ""}`.trim(), { error: true });
    return false;
  }
}
