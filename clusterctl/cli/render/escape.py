"""Text that a program wrote, made harmless for a terminal.

A log may hold sequences that move the cursor, set the title, write the clipboard (OSC 52), hide a link (OSC 8) or turn
the reading direction around. On a terminal they are shown instead of obeyed; files and pipes get the bytes as they are.
"""

from __future__ import annotations

import re

# Colours and the like only: they say nothing, so they vanish instead of cluttering every line.
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# C0 without tab and newline, DEL and C1, then what Unicode calls format characters (they change the reading direction or are
# invisible), what separates lines, and halves of characters. A test holds this equal to Unicode's own categories.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def escaped(text: str) -> str:
    """`text` with every control character but tab and newline shown as an escape. A lone carriage return, with which
    progress bars draw, begins a new line instead of overwriting the old one."""
    text = _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNSAFE.sub(_shown, text)


def one_line(text: str) -> str:
    """The same for a cell or a sentence: it cannot begin a line of its own."""
    return escaped(text).replace("\n", "\\n").replace("\t", " ")


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Escaper:
    """`escaped` for text in pieces: one may end between a carriage return and its newline, or inside a colour."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What is certain of the text so far; an end that the next piece may change is held back."""
        text = self._held + text
        match = re.search(r"(?:\r|\x1b(?:\[[0-9;:]{0,32})?)$", text)
        cut = match.start() if match else len(text)
        self._held = text[cut:]
        return escaped(text[:cut])

    def rest(self) -> str:
        """What was held back: nothing more comes."""
        held, self._held = self._held, ""
        return escaped(held)
