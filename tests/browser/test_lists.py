"""The pages of nodes and jobs before a real head with more of them than are shown at once: in a fake cloud, where agents come
when told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.browser.stage import Page
from tests.support.cluster import wait_until
from tests.support.crowd import CrowdedHead

NODES = 130
ROWS = "table[aria-label=Nodes] tbody tr"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrowdedHead]:
    head = CrowdedHead(tmp_path_factory.mktemp("crowd"), NODES)
    try:
        head.start()
        wait_until(lambda: head.call("GET", "/api/v1/nodes?state=booting")["total"] == NODES + 1, what="all nodes boot")
        yield head
    finally:
        head.close()


@pytest.fixture
def nodes(chromium: webdriver.Chrome, crowd: CrowdedHead) -> Iterator[Page]:
    page = Page(chromium, f"http://127.0.0.1:{crowd.port}/")
    page.enter(crowd.call("POST", "/api/v1/tickets")["ticket"])
    page.wait_text("Live", "#connection")
    page.complaints()
    yield page
    assert not page.complaints()
    chromium.get("about:blank")


def shown(page: Page) -> list[str]:
    script = f"return [...document.querySelectorAll('{ROWS} td:first-child')].map(cell => cell.textContent)"
    return list(page.driver.execute_script(script))


def test_pages_are_turned_and_hold_every_node_once(nodes: Page) -> None:
    nodes.go("/nodes")
    nodes.wait_text(f"1–100 of {NODES + 1}", ".pager")
    first = shown(nodes)
    assert first == [f"cpu-{n}" for n in range(1, 101)]
    assert nodes.attribute(".pager button:first-child", "disabled") == ""
    nodes.click(".pager button:last-child")
    nodes.wait_text(f"101–{NODES + 1} of {NODES + 1}", ".pager")
    assert shown(nodes) == [*(f"cpu-{n}" for n in range(101, NODES + 1)), "head-1"]
    assert nodes.attribute(".pager button:last-child", "disabled") == ""
    nodes.click(".pager button:first-child")
    nodes.wait(lambda: shown(nodes) == first, "the first page once more")


def test_filters_find_nodes_on_every_page_and_stay_over_a_reload(nodes: Page) -> None:
    nodes.go("/nodes")
    nodes.wait_text(f"booting ({NODES + 1})", "#state")
    nodes.driver.find_element("id", "filter").send_keys("cpu-12")
    wanted = ["cpu-12", *(f"cpu-{n}" for n in range(120, 130))]
    nodes.wait(lambda: shown(nodes) == wanted, "nodes of both pages")
    assert nodes.all("th .sort"), "they are all here, so that they can be put in order"
    assert not nodes.driver.find_element("css selector", ".pager").is_displayed()
    nodes.driver.refresh()
    nodes.wait(lambda: shown(nodes) == wanted, "the same after a reload")
    nodes.click("#pool option[value=head]")
    nodes.wait_text("No node matches this filter.")
    nodes.driver.find_element("id", "filter").clear()
    nodes.driver.find_element("id", "filter").send_keys(" ")
    nodes.wait(lambda: shown(nodes) == ["head-1"], "the pool's node")
    nodes.click("#state option[value=quarantined]")
    nodes.wait_text("No node matches this filter.")


def test_the_overview_names_a_few_and_says_how_many_there_are(nodes: Page) -> None:
    nodes.wait_text(f"30 of {NODES + 1} nodes", "#nodes")
    assert len(shown(nodes)) == 30 and f"of {NODES + 1} known" in nodes.text(".tiles")
    nodes.click("#nodes .title a")
    nodes.wait_text(f"1–100 of {NODES + 1}", ".pager")
    nodes.go("/")
    nodes.click("#pools a")
    nodes.wait_text(f"1–100 of {NODES}", ".pager")
    assert nodes.value("#pool") == "cpu"


def test_an_array_is_one_row_and_its_jobs_are_read_in_pages_and_found_on_all_of_them(
    nodes: Page, crowd: CrowdedHead
) -> None:
    crowd.call("POST", "/api/v1/jobs", {"argv": ["needle.sh"], "cpus": 64, "name": "first", "submission_id": "needle"})
    crowd.call("POST", "/api/v1/jobs", {"argv": ["hay"], "cpus": 64, "array": list(range(120)), "submission_id": "hay"})
    rows = "table[aria-label=Jobs] tbody tr"
    nodes.go("/jobs")
    nodes.wait(lambda: len(nodes.all(rows)) == 2, "the array and the job")
    assert "0 of 120 succeeded · 120 queued" in nodes.text(f"{rows}:first-child")
    nodes.click("a[href='#/jobs?array=hay']")
    nodes.wait_text("Page 1", ".pager")
    assert len(nodes.all(rows)) == 100 and not nodes.all("th .sort"), "a part of a list is not sorted"
    nodes.click(".pager button:last-child")
    nodes.wait_text("Page 2", ".pager")
    nodes.wait(lambda: len(nodes.all(rows)) == 20, "the rest")
    assert "hay.0" in nodes.text(f"{rows}:last-child")
    nodes.click(".pager button:first-child")
    nodes.wait_text("Page 1", ".pager")
    nodes.go("/jobs")
    nodes.wait(lambda: len(nodes.all(rows)) == 2, "all jobs")
    nodes.driver.find_element("id", "filter").send_keys("needle.sh first")
    nodes.wait(lambda: len(nodes.all(rows)) == 1 and "needle" in nodes.text(rows), "the job of this name")
    nodes.wait_text("queued (121)", "#state")
    for job in ("needle", "hay"):
        crowd.call("POST", f"/api/v1/jobs/{job}/cancel")


def test_what_is_shown_is_kept_up_to_date(nodes: Page, crowd: CrowdedHead) -> None:
    nodes.go("/nodes")
    nodes.click(".pager button:last-child:not(:disabled)")
    nodes.wait_text(f"101–{NODES + 1}", ".pager")
    assert "ready" not in nodes.text(f"{ROWS}:first-child")
    crowd.gather()
    nodes.wait_text("ready", f"{ROWS}:first-child")
    nodes.wait_text(f"ready ({NODES + 1})", "#state")
    assert shown(nodes)[0] == "cpu-101", "it is still the second page"
