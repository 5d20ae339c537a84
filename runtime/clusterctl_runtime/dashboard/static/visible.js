// Text that others wrote (job names, logs, reasons) made safe to look at: what would act on a terminal or reorder the
// text around it becomes a visible sign. HTML needs nothing here, since all text enters the page as text nodes.

const HIDDEN = new RegExp(
  "[\\u0000-\\u001f\\u007f-\\u009f" + // C0, DEL, C1
    "\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb" + // bidi, invisible
    "\\u2028\\u2029\\u{e0000}-\\u{e007f}]",
  "gu",
);

const NAMES =
  "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");

/** The sign for one character: its name in brackets, since few fonts have the pictures that Unicode offers for this. */
export function sign(character) {
  const code = character.codePointAt(0);
  if (code < NAMES.length) return `\u27e8${NAMES[code]}\u27e9`;
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/** `value` as one line of text without any character that acts or hides. */
export function visible(value) {
  return String(value).replace(HIDDEN, sign);
}

/** `text` in pieces, so that signs can be set apart by style: [{text, control}]. Tabs stay as they are. */
export function pieces(text) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match[0] === "\t") continue;
    if (match.index > from) found.push({ text: text.slice(from, match.index), control: false });
    found.push({ text: sign(match[0]), control: true });
    from = match.index + match[0].length;
  }
  if (from < text.length) found.push({ text: text.slice(from), control: false });
  return found;
}
