// A line of a program's output -> pieces of text with classes. Colours and weights are honoured; every other escape
// sequence either only moves a cursor that we do not have (left out) or is shown as what it is (OSC: titles, links, clipboard).

const CSI = /\x1b\[([0-?]*)([ -/]*)([@-~])/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const FLAGS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };

export function plainStyle() {
  return { fg: "", bg: "", flags: new Set() };
}

/** [{text, classes}] for `line`; `style` is changed in place, since colours go on over lines. */
export function parse(line, style) {
  const found = [];
  let from = 0;
  const take = (to) => {
    if (to > from) found.push({ text: line.slice(from, to), classes: classes(style) });
  };
  for (const match of line.matchAll(CSI)) {
    take(match.index);
    from = match.index + match[0].length;
    if (match[3] === "m" && !match[2]) apply(match[1], style);
  }
  take(line.length);
  return found;
}

function classes({ fg, bg, flags }) {
  return [...flags, fg && `fg-${fg}`, bg && `bg-${bg}`].filter(Boolean);
}

function apply(parameters, style) {
  const codes = parameters.split(/[;:]/).map((part) => Number(part || 0));
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i];
    if (code === 0) Object.assign(style, plainStyle());
    else if (FLAGS[code]) style.flags.add(FLAGS[code]);
    else if (OFF[code]) OFF[code].forEach((flag) => style.flags.delete(flag));
    else if (code >= 30 && code <= 37) style.fg = NAMES[code - 30];
    else if (code >= 90 && code <= 97) style.fg = NAMES[code - 90];
    else if (code >= 40 && code <= 47) style.bg = NAMES[code - 40];
    else if (code >= 100 && code <= 107) style.bg = NAMES[code - 100];
    else if (code === 39) style.fg = "";
    else if (code === 49) style.bg = "";
    else if (code === 38 || code === 48) {
      const [name, used] = extended(codes, i + 1);
      style[code === 38 ? "fg" : "bg"] = name;
      i += used;
    }
  }
}

/** The nearest of our eight colours for "5;N" or "2;R;G;B": only those have been checked for contrast in both schemes. */
function extended(codes, at) {
  if (codes[at] === 2) return [nearest(codes[at + 1] ?? 0, codes[at + 2] ?? 0, codes[at + 3] ?? 0), 4];
  const n = codes[at + 1];
  if (codes[at] !== 5 || n === undefined) return ["", 1];
  if (n < 16) return [NAMES[n % 8], 2];
  if (n >= 232) return [n < 244 ? "black" : "white", 2];
  const level = (step) => (step ? 55 + 40 * step : 0);
  return [nearest(level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6)), 2];
}

function nearest(r, g, b) {
  const peak = Math.max(r, g, b);
  if (peak - Math.min(r, g, b) < 40) return peak < 128 ? "black" : "white";
  const bit = (value) => (value > peak * 0.6 ? 1 : 0);
  return NAMES[bit(r) + 2 * bit(g) + 4 * bit(b)];
}
