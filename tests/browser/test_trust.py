"""What the page lets in and out: tickets, hostile text, foreign hosts, and the port that it is reached through."""

from __future__ import annotations

import http.client
import json
import socket

import psutil
import pytest

from tests.browser.stage import Forward, Live, Page, eventually, start_forward

HTML = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script><a href='http://evil.example'>go</a>"
ESCAPES = "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x1b]52;c;ZXZpbA==\x07 \x1b[2J\x1b[1;1H \x9b31m \x07\x08"
BIDI = "\u202egpj.exe\u202c \u2066x\u2069 \u200b\u2028\ufeff"
ACTS = set(map(chr, [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])) | {
    "\u200b",
    "\u2028",
    "\ufeff",
}


def _assert_inert(page: Page, what: str) -> None:
    text = page.text("body")
    assert not ACTS & set(text), f"characters that act, in {what}: {sorted(map(ascii, ACTS & set(text)))}"
    assert page.driver.execute_script("return window.pwned") is None
    assert not page.all("main img, main script, main iframe, main a[href^='http']"), what
    assert "clusterctl" in page.driver.title


def test_hostile_names_logs_and_reasons_are_only_text(page: Page, live: Live) -> None:
    hostile = f"{HTML}{ESCAPES}{BIDI}"
    program = "import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))"
    output = f"{hostile}\nforged\rover\n\x1b[31mred\x1b[0m plain\nlast\n".encode() + b"\xff\xfe raw\n"
    job = live.python(program, output.hex(), name=hostile, user=hostile[:150])
    eventually(lambda: live.job(job)["state"] == "succeeded", "the hostile job to end")
    page.go("/jobs")
    page.wait_text("window.pwned=1", f"main tr:has(a[href='#/jobs/{job}'])")
    _assert_inert(page, "the table of jobs")
    page.go(f"/jobs/{job}")
    page.wait_text("ended: succeeded", "#log-state")
    _assert_inert(page, "the page of the job")
    assert HTML in page.lines()[0]
    assert "\u27e8ESC\u27e9]8;;http://evil.example\u27e8BEL\u27e9link" in page.lines()[0]
    assert "\u27e8U+202E\u27e9gpj.exe" in page.lines()[0]
    assert page.lines()[1:] == ["\u27e8CR\u27e9\u00d71over", "red plain", "last", "\ufffd\ufffd raw"]
    assert page.shown(".output .fg-red") == "red"
    page.go("/events")
    page.wait_text(job)
    _assert_inert(page, "the events")
    page.go("/jobs/<img src=x onerror=window.pwned=1>")
    page.wait_text("onerror=window.pwned=1")
    _assert_inert(page, "an address")
    assert not [said for said in page.complaints() if "Content Security Policy" in said]


COLOURS = [
    ("\x1b[31mred\x1b[0m", [["red", "fg-red"]]),
    ("\x1b[1;4;32mx\x1b[22my\x1b[my", [["x", "bold underline fg-green"], ["y", "underline fg-green"], ["y", ""]]),
    ("\x1b[38;5;196ma\x1b[38;2;0;0;255mb\x1b[39mc", [["a", "fg-red"], ["b", "fg-blue"], ["c", ""]]),
    ("\x1b[2K\x1b[1Aup\x1b[?25l", [["up", ""]]),
    ("\x1b[999999999999;5mx", [["x", ""]]),
    ("\x1b[38;5mx\x1b[38mx", [["x", ""], ["x", ""]]),
    ("\x1b]0;title\x07x", [["\x1b]0;title\x07x", ""]]),
    ("\x1b[", [["\x1b[", ""]]),
]


def test_colours_are_kept_and_nothing_else_of_a_terminal(page: Page) -> None:
    script = """
        const [line, done] = arguments;
        import("/static/ansi.js").then(({ parse, plainStyle }) =>
          done(parse(line, plainStyle()).map(({ text, classes }) => [text, classes.join(" ")])));
    """
    for line, expected in COLOURS:
        assert page.driver.execute_async_script(script, line) == expected, ascii(line)


def test_a_ticket_lets_in_once_and_leaves_the_address_bar(page: Page, live: Live, forward: Forward) -> None:
    ticket = live.ticket()
    page.enter(ticket)
    page.wait_text("Live", "#connection")
    assert "ticket" not in page.driver.current_url
    page.driver.refresh()
    page.wait_text("Live", "#connection")
    page.driver.switch_to.new_window("tab")
    page.enter(ticket)
    page.wait_text("used before or is older than a minute")
    page.wait_text("clusterctl dashboard")
    assert "ticket" not in page.driver.current_url
    page.driver.get(forward.address)
    page.wait_text("This page needs a ticket.")
    page.wait_text("clusterctl dashboard")
    assert page.driver.execute_script("return [document.cookie, localStorage.length, sessionStorage.length]") == [
        "",
        0,
        0,
    ]


def test_a_session_that_the_head_no_longer_takes_ends_with_a_sentence(page: Page) -> None:
    page.driver.execute_script("sessionStorage.setItem('clusterctl.token', 'forged')")
    page.driver.refresh()
    page.wait_text("This session has ended.")
    page.wait_text("clusterctl dashboard")
    assert page.driver.execute_script("return sessionStorage.length") == 0


def test_everything_on_the_page_comes_from_the_head(page: Page, forward: Forward) -> None:
    page.wait_text("cpu-1", "#nodes")
    loaded = page.driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 10
    assert not [address for address in loaded if not address.startswith(forward.address)]


def test_the_browser_itself_refuses_markup_and_inline_code(page: Page) -> None:
    script = """
        const done = arguments[0];
        try {
          document.body.insertAdjacentHTML("beforeend", "<b>x</b>");
          done("taken");
        } catch (error) { done(error.name); }
    """
    assert page.driver.execute_async_script(script) == "TypeError"


def test_the_forwarded_port_is_on_loopback_only_and_closes_with_the_command(live: Live) -> None:
    forward = start_forward(live)
    try:
        process = psutil.Process(forward.process.pid)
        family = [process, *process.children(recursive=True)]
        listening = [c.laddr for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert (("127.0.0.1", forward.port)) in [(place.ip, place.port) for place in listening]
        assert not [place for place in listening if place.ip not in ("127.0.0.1", "::1")]
        for host in ("evil.example", f"evil.example:{forward.port}", f"127.0.0.1.evil.example:{forward.port}"):
            assert _ask(forward.port, host) == (403, "foreign_host")
    finally:
        forward.end()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forward.port), timeout=60)


def _ask(port: int, host: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", "/api/v1/status", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]["code"]
    finally:
        connection.close()
