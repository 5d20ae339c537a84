// Why something is as it is: the head's explanation of a job or a node, with the offers that were passed over.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { clock, duration, milliseconds, reason } from "./format.js";

export class Explain {
  constructor(id) {
    this.id = id;
    this.body = h("div", { id: "explain" }, h("p.empty", null, "Asking the head…"));
    this.element = h("section.card", { "aria-labelledby": "explain-title" }, h("h2", { id: "explain-title" }, "Why"), this.body);
    this.signature = "";
  }

  /** Resolves to the head's answer, or null. */
  async load() {
    try {
      const answer = await get(`explain/${encodeURIComponent(this.id)}`);
      const signature = JSON.stringify(answer);
      if (signature !== this.signature) this.draw(answer);
      this.signature = signature;
      return answer;
    } catch (error) {
      if (error.status !== 0 && !this.signature) fill(this.body, h("p.empty", null, error.message));
      return null;
    }
  }

  draw(answer) {
    const { code, text, fix } = reason(answer.reason);
    const wait = expected(answer.eta);
    fill(
      this.body,
      h("p.lead", null, text || "There is nothing to explain.", code && h("code.tag", null, code)),
      fix && h("p.fix", null, h("strong", null, "What would change it: "), fix),
      wait && h("p", null, "Expected ", wait, "."),
      answer.ahead ? h("p", null, `${answer.ahead} queued before it.`) : null,
      passedOver(answer.passed_over ?? []),
      answer.kind === "job" ? happened(answer.story ?? []) : null, // a node's page has a table of its own for this
    );
  }
}

/** An eta is a time (unix seconds), or seconds from now when it is small. */
function expected(eta) {
  if (eta === null || eta === undefined) return "";
  const seconds = eta > 1e9 ? (milliseconds(eta) - Date.now()) / 1000 : eta;
  return seconds > 1 ? `in about ${duration(seconds)}` : "any moment";
}

function happened(story) {
  if (!story.length) return null;
  return h("ol.happened", { "aria-label": "What happened" }, story.map((step) => h("li", null, clock(step.at), " ", reason(step.reason).text || step.event)));
}

function passedOver(offers) {
  if (!offers.length) return null;
  const rows = offers.map((offer) => {
    const why = reason(offer.reason ?? offer);
    return h("li", null, h("code", null, offer.offer), " ", why.text, why.code && h("code.tag", null, why.code));
  });
  return h("details", null, h("summary", null, `${offers.length} offer${offers.length === 1 ? "" : "s"} passed over`), h("ul", null, rows));
}
