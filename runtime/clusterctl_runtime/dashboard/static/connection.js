// Whether the head answers, always in sight: a word in the header, and a banner over what may be out of date.

import { duration } from "./format.js";
import { fill, h, say } from "./dom.js";

const GRACE = 800; // ms; a stream that is merely opened again is not worth a banner

export class Connection {
  constructor() {
    this.word = document.getElementById("connection");
    this.banner = document.getElementById("banner");
    this.state = "";
    this.lastHeard = Date.now();
    this.timer = 0;
    this.set("connecting");
  }

  heard() {
    this.lastHeard = Date.now();
    this.set("live");
  }

  set(state) {
    if (state === this.state) return;
    if (state === "live") {
      clearTimeout(this.timer);
      this.timer = 0;
      this.show("live", "Live");
      fill(this.banner);
    } else if (state === "lost" && !this.timer) {
      this.timer = setTimeout(() => this.showLost(), GRACE);
    } else if (state === "connecting") {
      this.show("connecting", "Connecting…");
    }
    this.state = state;
  }

  show(kind, text) {
    this.word.className = `is-${kind}`;
    document.body.classList.toggle("stale", kind === "lost");
    say(this.word, text);
  }

  showLost() {
    this.show("lost", "Head unreachable");
    this.since = h("span");
    fill(
      this.banner,
      h("span", null, `The head at ${location.host} does not answer. What you see is `, this.since, " old. It is tried again by itself; jobs go on running meanwhile."),
      h("button", { type: "button", onclick: () => dispatchEvent(new Event("clusterctl:retry")) }, "Try now"),
    );
    this.tick();
  }

  tick() {
    if (this.state === "lost" && this.since) say(this.since, duration((Date.now() - this.lastHeard) / 1000));
  }
}
