// A list that the head keeps: it finds what is asked for, and only the page that is shown is read, and read again while it is.

import { get } from "./api.js";
import { h, say } from "./dom.js";
import { count } from "./format.js";
import { paced } from "./live.js";
import { Pager } from "./pager.js";

const ON_PAGE = 100;
const LOOK = 3000; // ms between two looks at what is shown, where nothing else tells of a change

export class ListView {
  /** `name` is the list's in the API and in the address, `cursor` the parameter that says where a page begins. `selects`: {parameter:
      choices}, beside the filter over everything that is shown; `query` are the choices in the address, of which those in `kept`
      have no control. `above` is put between the controls and the list. */
  constructor({ name, cursor, title, hint, table, selects, query, kept = [], above = null }) {
    Object.assign(this, { name, cursor, table });
    this.kept = kept.map((parameter) => [parameter, query.get(parameter) ?? ""]);
    this.pager = new Pager(`Pages of ${name}`, () => this.turn());
    this.filter = h("input", { type: "search", id: "filter", placeholder: hint, value: query.get("match"), autocomplete: "off", oninput: () => this.type() });
    this.selects = Object.fromEntries(Object.keys(selects).map((parameter) => [parameter, this.select(parameter)]));
    for (const [parameter, choices] of Object.entries(selects)) {
      const chosen = query.get(parameter) ?? "";
      for (const choice of ["", ...choices, chosen]) this.offer(parameter, choice);
      this.selects[parameter].value = chosen;
    }
    const labelled = ([parameter, select]) => [h("label", { for: parameter }, parameter[0].toUpperCase() + parameter.slice(1)), select];
    const tools = [...Object.entries(this.selects).map(labelled), h("label", { for: "filter" }, "Filter"), this.filter];
    this.element = h(
      "section.card",
      { "aria-labelledby": `${name}-title` },
      h("div.bar-of-tools", null, h("h1", { id: `${name}-title` }, title), tools),
      above,
      table.element,
      this.pager.element,
    );
    table.update([], "Asking the head…");
    this.reload = paced(() => this.load(), 700);
    this.timer = setInterval(() => this.reload(), LOOK);
    this.reload();
  }

  select(parameter) {
    return h("select", { id: parameter, onchange: () => this.choose() });
  }

  /** Another choice, unless it is there. */
  offer(parameter, choice) {
    const { options } = this.selects[parameter];
    if (![...options].some((option) => option.value === choice)) this.selects[parameter].append(h("option", { value: choice }, choice || "all"));
  }

  /** Beside each state how many there are, whatever else is asked for. */
  showCounts(counts) {
    const all = Object.values(counts).reduce((sum, number) => sum + number, 0);
    for (const option of this.selects.state.options) say(option, `${option.value || "all"} (${count(option.value ? (counts[option.value] ?? 0) : all)})`);
  }

  /** Once the person has stopped typing. */
  type() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.choose(), 200);
  }

  /** What is asked for goes into the address, so that a reload and the back button keep it. */
  choose() {
    const address = this.wanted().toString();
    history.replaceState(null, "", `#/${this.name}${address && "?"}${address}`);
    this.pager.rewind();
    this.load();
  }

  turn() {
    scrollTo(0, 0);
    this.load();
  }

  wanted() {
    const asked = [...Object.entries(this.selects).map(([parameter, { value }]) => [parameter, value]), ["match", this.filter.value.trim()], ...this.kept];
    return new URLSearchParams(asked.filter(([, value]) => value));
  }

  question() {
    const query = this.wanted();
    query.set("limit", ON_PAGE);
    if (this.pager.start) query.set(this.cursor, this.pager.start);
    return query.toString();
  }

  async load() {
    const question = this.question();
    try {
      const page = await get(`${this.name}?${question}`);
      if (question === this.question()) this.take(page); // else the person asks for something else by now
    } catch (error) {
      if (error.status && question === this.question()) this.table.update([], `${error.message} ${error.fix ?? ""}`);
    }
  }

  take(page) {
    const items = page[this.name];
    if (!items.length && !this.pager.isFirst) {
      this.pager.back(); // all of this page are gone
      return;
    }
    const whole = this.pager.isFirst && page.next === null;
    this.table.update(items, this.wanted().size ? `No ${this.name.slice(0, -1)} matches this filter.` : this.none, whole);
    this.pager.show(page.next, this.place(page));
    this.showCounts(page.counts);
  }

  close() {
    this.reload.stop();
    clearInterval(this.timer);
    clearTimeout(this.typing);
  }
}
