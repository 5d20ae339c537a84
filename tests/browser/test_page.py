"""The dashboard as a person meets it: nodes, jobs, live logs, buttons, and a head that goes away and comes back."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.stage import Live, Page, eventually

COUNTS_UNTIL_TOLD = """
import os, sys, time
count = 0
while not os.path.exists(sys.argv[1]):
    count += 1
    print("line", count)
    time.sleep(0.05)
print("told to end")
"""
SLEEPS = "import time; print('here', flush=True); time.sleep(600)"


def test_the_overview_shows_cluster_pools_nodes_and_events(page: Page) -> None:
    page.wait_text("cpu-1", "#nodes")
    page.wait_text("ready", "#nodes")
    assert page.text("#cluster-name") == "page"
    assert "local" in page.text("#pools")
    assert page.attribute("#pools svg", "aria-label") == "1 ready and 0 pending of at most 2"
    assert "/h" in page.text(".tiles") and "running" in page.text(".tiles")
    page.wait_text("cpu-1", "#events")
    page.click("#nodes a[href='#/nodes/cpu-1']")
    page.wait_text("Story")
    page.wait(lambda: len(page.all("table[aria-label=Story] tbody tr")) >= 4, "a story of at least four steps")
    assert not page.complaints()


def test_a_running_jobs_log_is_live_and_its_end_shows_without_a_reload(page: Page, live: Live, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    job = live.python(COUNTS_UNTIL_TOLD, str(stop), name="counter")
    page.go("/jobs")
    page.wait_text("counter", f"main tr:has(a[href='#/jobs/{job}'])")
    page.click(f"a[href='#/jobs/{job}']")
    page.wait(lambda: "line 3" in page.lines(), "the log's third line")
    seen = len(page.lines())
    page.wait(lambda: len(page.lines()) > seen + 5, "more lines, by themselves")
    assert page.text("#log-state") == "live"
    stop.touch()
    page.wait_text("ended: succeeded, exit code 0", "#log-state")
    page.wait_text("succeeded", ".title .chip")
    lines = page.lines()
    assert lines[-1] == "told to end"
    assert lines[:-1] == [f"line {n + 1}" for n in range(len(lines) - 1)]
    assert not page.complaints()


def test_a_waiting_job_says_why_and_what_would_fix_it(page: Page, live: Live) -> None:
    job = live.submit("true", cpus=64, name="too-large")
    wait = eventually(lambda: live.job(job)["wait"], "a reason for the waiting job")
    page.go(f"/jobs/{job}")
    page.wait_text(wait["text"], "main")
    page.wait_text(wait["code"], "#explain")
    if wait["fix"]:
        page.wait_text(wait["fix"], "#explain")
    page.go("/")
    page.wait_text("queued job", "#demand")
    live.post(f"jobs/{job}/cancel")
    page.wait_text("Nothing waits", "#demand")


def test_cancel_asks_first_and_then_ends_the_processes(page: Page, live: Live) -> None:
    marker = f"marker-{os.getpid()}"
    job = live.python(SLEEPS, marker)
    page.go(f"/jobs/{job}")
    page.wait(lambda: page.lines() == ["here"], "the job's first line")
    page.click("#cancel")
    page.wait_text("Cancel job", "#dialog")
    assert page.driver.switch_to.active_element.get_attribute("id") == "dialog-no"
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.wait(lambda: not page.all("#dialog[open]"), "the question to be gone")
    assert live.job(job)["state"] == "running"
    page.click("#cancel")
    page.click("#dialog-yes")
    page.wait_text("cancelled", ".title .chip")
    assert live.job(job)["state"] == "cancelled"
    eventually(lambda: not _running(marker), "the job's process to end")


def _running(marker: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if marker in (process.info["cmdline"] or [])]


def test_a_failed_job_is_run_again_and_both_logs_stay(page: Page, live: Live, tmp_path: Path) -> None:
    again = tmp_path / "again"
    program = "import os, sys\nfirst = not os.path.exists(sys.argv[1])\nopen(sys.argv[1], 'w')\n"
    program += "print('first' if first else 'second')\nsys.exit(3 if first else 0)"
    job = live.python(program, str(again))
    page.go(f"/jobs/{job}")
    page.wait_text("failed", ".title .chip")
    page.wait(lambda: page.lines() == ["first"], "the first attempt's log")
    page.wait_text("exit code 3", "#log-state")
    page.click("#retry")
    page.click("#dialog-yes")
    page.wait_text("succeeded", ".title .chip")
    page.wait(lambda: page.lines() == ["second"], "the second attempt's log")
    page.click("#log-attempt option[value='1']")
    page.wait(lambda: page.lines() == ["first"], "the first attempt's log once more")


def test_every_rank_of_a_gang_can_be_looked_at(page: Page, live: Live) -> None:
    job = live.python("import os; print('rank', os.environ['RANK'], 'speaks')", nodes=2)
    page.go(f"/jobs/{job}")
    page.wait_text("ended: succeeded", "#log-state")
    assert sorted(page.lines()) == ["0rank 0 speaks", "1rank 1 speaks"]
    page.click("#log-rank option[value='1']")
    page.wait(lambda: page.lines() == ["rank 1 speaks"], "the log of rank 1 alone")


def test_jobs_are_found_by_state_and_by_words(page: Page, live: Live) -> None:
    good = live.submit("true", name="a-needle")
    bad = live.submit("false", name="a-needle-too")
    eventually(
        lambda: live.job(good)["state"] == "succeeded" and live.job(bad)["state"] == "failed", "both jobs to end"
    )
    page.go("/jobs?state=failed")
    page.wait_text("a-needle-too")
    assert page.value("#state") == "failed"
    assert f"#/jobs/{good}" not in page.driver.page_source
    page.click("#state option[value='']")
    page.driver.find_element(By.TAG_NAME, "body").send_keys("/")
    page.driver.switch_to.active_element.send_keys(good)
    page.wait(lambda: good in page.text("table[aria-label=Jobs] tbody"), "the job that has this id")
    page.wait(lambda: len(page.all("table[aria-label=Jobs] tbody tr")) == 1, "and no other")


def test_a_head_that_dies_is_said_and_survived(page: Page, live: Live, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    job = live.python(COUNTS_UNTIL_TOLD, str(stop), name="outlives-the-head")
    page.go(f"/jobs/{job}")
    page.wait(lambda: "line 10" in page.lines(), "the job's tenth line")
    os.kill(live.supervisor_pid, signal.SIGSTOP)  # so that the head stays away for as long as we look
    try:
        before = live.head_pid
        os.kill(before, signal.SIGKILL)
        page.wait_text("Head unreachable", "#connection")
        page.wait_text("does not answer", "#banner")
        assert "line 10" in page.lines(), "what was known stays on the page"
    finally:
        os.kill(live.supervisor_pid, signal.SIGCONT)
    page.wait_text("Live", "#connection")
    assert page.text("#banner") == ""
    assert live.head_pid != before
    seen = len(page.lines())
    page.wait(lambda: len(page.lines()) > seen + 5, "the log to go on")
    stop.touch()
    page.wait_text("ended: succeeded", "#log-state")
    lines = page.lines()
    assert lines[:-1] == [f"line {n + 1}" for n in range(len(lines) - 1)], "no line is lost or shown twice"
    page.go("/events")
    page.wait_text(job)


def test_a_program_that_prints_without_end_does_not_fill_the_page(page: Page, live: Live) -> None:
    job = live.python("for n in range(120_000): print('flood', n)")
    page.go(f"/jobs/{job}")
    page.wait_text("ended: succeeded", "#log-state")
    lines = page.lines()
    assert lines[-1] == "flood 119999"
    assert len(lines) <= 5000


def test_several_jobs_and_arrays_are_cancelled_and_tried_again_at_once(page: Page, live: Live) -> None:
    one = live.python(SLEEPS, name="many-alone")
    array = live.python(
        "import os; exit(os.environ['CLUSTERCTL_ARRAY_INDEX'] == '1')", name="many-array", array=[0, 1, 2]
    )
    eventually(lambda: _counts(live, array) == {"failed": 1, "succeeded": 2}, "the array to end")
    page.go("/jobs?match=many-")
    page.wait_text("2 of 3 succeeded · 1 failed", "table[aria-label=Jobs]")
    page.click(f"[aria-label='Choose {array}']")
    page.click("#retry-chosen")
    page.click("#dialog-yes")
    page.wait_text("1 of 1 are queued again", "#notices")
    failed = f"{array}.1"
    eventually(
        lambda: live.job(failed)["state"] == "failed" and len(live.job(failed)["attempts"]) == 2, "its second end"
    )
    page.click(f"[aria-label='Choose {one}']")
    page.wait_text("1 chosen", ".chosen")
    page.click("#cancel-chosen")
    page.click("#dialog-yes")
    eventually(lambda: live.job(one)["state"] == "cancelled", "the job to be cancelled")
    assert page.driver.current_url.endswith("#/jobs?match=many-")


def _counts(live: Live, array: str) -> dict[str, int]:
    return live.get(f"arrays/{array}")["counts"]


def test_a_log_is_searched_and_saved_as_it_was_written(page: Page, live: Live, tmp_path: Path) -> None:
    text = "".join(f"step {n} \u00e9\n" for n in range(100)).encode() + b"\xff\xfe\n"
    job = live.python("import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))", text.hex())
    page.go(f"/jobs/{job}")
    page.wait_text("ended: succeeded", "#log-state")
    page.driver.find_element(By.ID, "log-search").send_keys("STEP 7")
    page.wait_text("11 of 101 lines that are here", ".output")
    shown = [line.text for line in page.all(".output .line") if line.is_displayed()]
    assert shown == [f"step {n} \u00e9" for n in (7, *range(70, 80))]
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click("#log-download")
    saved = tmp_path / f"{job}-1-0.log"
    eventually(lambda: saved.exists() and saved.read_bytes() == text, "the log's bytes in a file")


def test_a_job_tells_what_it_cost_and_what_it_follows_and_an_unknown_one_that_it_is(page: Page, live: Live) -> None:
    first = live.python(SLEEPS, name="goes-first")
    second = live.submit("true", after=[first])
    page.go(f"/jobs/{second}")
    page.wait_text("goes-first", ".facts")
    page.click(f".facts a[href='#/jobs/{first}']")
    page.wait_text("Cost so far$0.00", ".facts")
    page.wait(lambda: "running for" in (page.attribute(".timeline svg", "aria-label") or ""), "its timeline")
    page.go(f"/nodes/{live.job(first)['attempts'][0]['nodes'][0]}")
    page.wait_text("goes-first", "table[aria-label='Runs now']")
    page.wait_text("CPUs in use", ".gauges")
    assert "Used byjobs" in page.text(".facts")
    live.post(f"jobs/{first}/cancel")
    page.go("/jobs/j-nothing")
    page.wait_text("no job 'j-nothing'", ".problem")
    assert not [part for part in page.all("main section.log, main .columns") if part.is_displayed()]


def test_costs_are_added_up_by_pool_user_and_job(page: Page, live: Live) -> None:
    job = live.python("print('worth it')", name="was-paid-for")
    eventually(lambda: live.job(job)["state"] == "succeeded", "the job's end")
    page.go("/")
    page.click("#views a[href='#/costs']")
    page.wait_text("cpu", "table[aria-label='Costs by pool and day']")
    page.click("button[data-way='job']")
    page.wait_text("was-paid-for", "table[aria-label='Costs by job']")
    page.driver.refresh()
    page.wait_text("was-paid-for", "table[aria-label='Costs by job']")
    assert page.text(".card [role='status']").startswith("$0.00 up to ")
    page.click(f"table[aria-label='Costs by job'] a[href='#/jobs/{job}']")
    page.wait_text("ended: succeeded", "#log-state")


def test_a_theme_and_what_is_looked_for_are_kept_over_a_reload(page: Page) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.driver.execute_script(ground)
    page.go("/events")
    page.driver.find_element(By.ID, "filter").send_keys("cpu-1 ")
    page.click("#theme")
    page.click("#theme")
    page.driver.refresh()
    page.wait_text("Theme: dark", "#theme")
    page.wait_text("Live", "#connection")
    assert page.value("#filter") == "cpu-1"
    assert page.driver.execute_script(ground) != light
    page.click("#theme")
    assert page.driver.execute_script("return localStorage.length") == 0
    assert page.driver.execute_script(ground) == light


def test_pages_that_were_left_or_are_hidden_hold_no_connections(page: Page, live: Live) -> None:
    """A browser has six per host, over all tabs: were streams kept open, the buttons would do nothing."""
    job = live.python(SLEEPS)
    for tab in range(3):
        for _ in range(2):
            page.enter(live.ticket())
            page.go(f"/jobs/{job}")
            page.wait(lambda: page.lines() == ["here"], "the job's line")
        if tab < 2:
            page.driver.switch_to.new_window("tab")
            page.driver.execute_cdp_cmd("Page.bringToFront", {})  # a tab that stayed hidden would rightly show nothing
    page.click("#cancel")
    page.click("#dialog-yes")
    page.wait_text("cancelled", ".title .chip")


def test_the_page_can_be_used_from_the_keyboard_and_read_aloud(page: Page, live: Live) -> None:
    page.wait_text("cpu-1", "#nodes")
    for path in ("/", "/nodes", "/nodes/cpu-1", "/jobs", f"/jobs/{live.submit('true')}", "/events"):
        page.go(path)
        page.wait(lambda: page.all("main h1"), "a heading")
        assert len(page.all("main h1")) == 1
        assert [len(page.all(landmark)) for landmark in ("header", "nav", "main")] == [1, 1, 1]
        assert page.wait(lambda: _nameless(page), "the page to stand still") == ["none"]
    page.driver.get(page.address)
    page.wait_text("Live", "#connection")
    page.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "Skip to the content"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.driver.switch_to.active_element.get_attribute("id") == "main"


def _nameless(page: Page) -> list[str]:
    """What can be used and has no name to be read aloud; [] when the page changed meanwhile, ["none"] when all is well."""
    controls = page.all("main button, main a, main input, main select, main section, main [tabindex='0']")
    try:
        shown = [control for control in controls if control.is_displayed()]
        return [c.get_attribute("outerHTML") or "" for c in shown if not c.accessible_name.strip()] or ["none"]
    except StaleElementReferenceException:
        return []


def test_nothing_is_wider_than_a_phone(page: Page, live: Live) -> None:
    job = live.submit("echo", "x" * 3000, name="y" * 180)
    eventually(lambda: live.job(job)["state"] == "succeeded", "the job to end")
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for path, wanted in (
            ("/", "cpu-1"),
            ("/nodes", "cpu-1"),
            ("/jobs", job),
            (f"/jobs/{job}", "xxx"),
            ("/events", job),
        ):
            page.go(path)
            page.wait_text(wanted)
            script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.driver.execute_script(script) <= 0, path
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_figures_over_time_are_plotted_with_their_units_and_those_of_the_moment_that_is_pointed_at(page: Page) -> None:
    page.wait(lambda: page.attribute("#history svg", "viewBox"), "a plot")
    page.wait(
        lambda: re.match(r"CPUs: in use [\d.]+, held by jobs 0, there are \d", _plot(page, "CPUs")), "CPUs in use"
    )
    assert re.match(r"Memory: in use [\d.]+ GiB, .* there are [\d.]+ GiB", _plot(page, "Memory").replace("\u00a0", " "))
    assert _plot(page, "Cost") == "Cost: all nodes $0.00/h"
    titles = [title.text for title in page.all("#history h3") if title.is_displayed()]
    assert titles == ["Nodes", "Jobs", "Cost", "CPUs", "Memory"], "nothing of GPUs and a budget where there are none"
    assert "now" in page.text("#history figure")
    page.driver.find_element(By.CSS_SELECTOR, "#history svg").send_keys(Keys.ARROW_LEFT)
    page.wait(lambda: page.all("#history figure:first-child figcaption time"), "the time of the figures")
    page.click("#history .choice button:nth-child(2)")
    page.driver.refresh()
    page.wait_text("Live", "#connection")
    page.wait(lambda: page.attribute("#history .choice button:nth-child(2)", "aria-pressed") == "true", "a day")
    assert not page.complaints()


def _plot(page: Page, title: str) -> str:
    return page.attribute(f"#history svg[aria-label^={title}]", "aria-label") or ""
