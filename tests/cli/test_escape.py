from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.cli import output
from clusterctl.cli.render.escape import Escaper, escaped, one_line

HARMFUL = {
    "clear the screen": "\x1b[2J",
    "set the title": "\x1b]0;owned\x07",
    "write the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "a hidden link": "\x1b]8;;http://evil.example\x1b\\text\x1b]8;;\x1b\\",
    "hidden text": "\x1b[8msecret\x1b[0m",
    "one byte CSI": "\x9b2J",
    "overwrite a line": "failed\rsucceeded",
    "backspace": "rm\b\bls",
    "bidi override": "\u202egpj.exe",
    "bidi isolate": "\u2066x\u2069",
    "line separator": "a\u2028b",
    "zero width": "a\u200bb",
    "tag characters": "\U000e0041",
    "bell and null": "\x07\x00",
}


def is_inert(text: str) -> bool:
    """No control character but tab and newline, nothing that changes the direction, separates lines or cannot be seen."""
    return all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Zl", "Zp", "Cf") or c == "\xad" for c in text)


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL.keys())
def test_what_commands_a_terminal_is_shown_instead_of_obeyed(text: str) -> None:
    assert is_inert(escaped(text)) and is_inert(one_line(text))


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_no_control_character_survives(text: str) -> None:
    assert not [c for c in escaped(text) if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Zl", "Zp")]
    assert "\n" not in one_line(text)


@given(st.lists(st.text(alphabet="ab\r\n\x1b[0;1mK\t\u202e", max_size=6), max_size=6))
def test_pieces_are_escaped_like_the_whole(pieces: list[str]) -> None:
    escaper = Escaper()
    assert "".join(escaper.feed(piece) for piece in pieces) + escaper.rest() == escaped("".join(pieces))


def test_ordinary_text_is_left_alone() -> None:
    text = "größe 数字 🚀\tdone\n"
    assert escaped(text) == text


def test_a_progress_bar_gets_a_line_per_step_and_colours_vanish() -> None:
    assert escaped("10%\r20%\r\n\x1b[32mok\x1b[0m\n") == "10%\n20%\nok\n"


def test_our_own_colour_survives_the_escaping_and_nobody_elses_can_pretend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output.write_line(output.paint("ready", "green") + " \x1b]52;c;x\x07")
    assert capsys.readouterr().out == "\x1b[32mready\x1b[0m \\x1b]52;c;x\\x07\n"
    monkeypatch.setenv("NO_COLOR", "1")
    output.write_line(output.paint("ready", "green"))
    assert capsys.readouterr().out == "ready\n"


def test_every_control_format_and_separator_character_of_unicode_is_shown_and_not_obeyed() -> None:
    harmful = ("Cc", "Cf", "Cs", "Zl", "Zp")
    obeyed = [
        hex(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in harmful and chr(code) not in "\t\n\r" and chr(code) in escaped(chr(code))
    ]
    assert obeyed == []
