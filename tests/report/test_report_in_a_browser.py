"""A report as a reader of it meets it: in a real browser, by hand, by keyboard, on a phone, in the dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from toy_report import HOSTILE, add_choices, add_triplets, add_two_steps, write_run, write_shards

from fgvr.__main__ import main

pytestmark = pytest.mark.slow
PICTURES = "FGVR_TESTS_SCREENSHOTS"  # a folder that gets the screenshots, for CI to keep


@dataclass
class Watched:
    """A page that is open, and all that it complained of or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, of which one has 2,000 rollouts and everything, and says what could do harm."""
    base = tmp_path_factory.mktemp("report")
    shards = write_shards(base / "birds")
    run = write_run(base / "whole", shards, groups=240, size=8)
    add_two_steps(run)
    add_triplets(run, shards)
    add_choices(run, base / "mined/options.jsonl")
    other = write_run(base / "other", shards, groups=10, size=8, reply=HOSTILE, right=(2, 3))
    assert main(["report", str(run), str(other), "--out", str(base / "out"), "--rollouts", "4000"]) == 0
    return base / "out/index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the page is opened by playwright, of the extra test"
    )
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def watched(browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Watched(context.new_page())
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.goto(file.as_uri())
    yield seen
    context.close()


def draw_all(seen: Watched) -> None:
    seen.page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)


def keep(seen: Watched, name: str) -> None:
    if folder := os.environ.get(PICTURES):
        Path(folder).mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_everything_is_drawn_without_a_complaint_nothing_leaves_the_page_and_it_prints(browser: Any, report: Path):
    with watched(browser, report, scheme="dark") as seen:
        draw_all(seen)
        page, plots = seen.page, seen.page.locator("figure.plot")
        assert plots.count() >= 18
        assert page.locator("figure.plot[data-drawn]").count() == plots.count()
        empty = "all => all.filter(one => !one.querySelector('.main-svg')?.getBBox().width).length"
        assert plots.evaluate_all(empty) == 0
        assert "What is not here, and what would bring it" not in page.locator("h2").all_inner_texts()
        keep(seen, "wide-dark")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("document.documentElement.dataset.theme") == "light", "paper is white"
        assert not page.locator("#theme").is_visible()
        keep(seen, "print")
        assert seen.complaints == []
        assert [address for address in seen.asked if not address.startswith("data:")] == [report.as_uri()]


def test_it_opens_before_anything_is_plotted_and_is_leafed_through_by_hand(browser: Any, report: Path):
    with watched(browser, report) as seen:
        page, deck = seen.page, seen.page.locator(".deck[data-kind=gallery]").first
        opened = page.evaluate("performance.getEntriesByName('fgvr-open')[0].startTime")
        print(f"opened after {opened:.0f} ms")  # a time is told, and no test: docs/report.md has what was measured
        drawn = page.evaluate("performance.getEntriesByName('fgvr-plots')[0]?.startTime ?? Infinity")
        assert opened < drawn, "who only reads does not wait for the plots"
        assert "1,920 completions" in deck.locator(".note").first.inner_text()
        assert page.locator(".deck[data-kind=gallery] .group").count() == 10, "five groups of each run stand there"
        steps = deck.locator(".group .seen p:first-of-type")
        assert steps.first.inner_text() == "step 1, epoch 0"
        deck.get_by_role("button", name="On, ").click()
        assert steps.first.inner_text() == "step 6, epoch 0"
        deck.get_by_label("Which groups").select_option("all right")
        assert deck.locator(".note").last.inner_text() == "Nothing is like that."
        deck.get_by_label("Which groups").select_option("some right, some not")
        deck.get_by_label("Class or answer").fill("jade")
        names = deck.locator(".group h4").all_inner_texts()
        assert names
        assert all(name in ("Jade Owl", "Grey Owl") for name in names), "the label, or a completion's answer"
        hostile = page.locator(".deck[data-kind=gallery]").nth(1)
        hostile.locator("summary").first.click()
        assert "</script><script>alert(1)</script>" in hostile.locator("pre").first.inner_text()
        assert page.locator("main img:not(.shot)").count() == 0
        assert seen.complaints == []


def test_everything_is_reached_by_the_keyboard(browser: Any, report: Path):
    with watched(browser, report) as seen:
        page, deck = seen.page, seen.page.locator(".deck[data-kind=gallery]").first
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        found: set[str] = set()
        for _ in range(45):
            page.keyboard.press("Tab")
            found.add(
                page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
            )
        assert {"SUMMARY", "Colours: as the system has them"} <= found
        steps = deck.locator(".group .seen p:first-of-type")
        deck.focus()
        page.keyboard.press("ArrowRight")
        assert steps.first.inner_text() == "step 6, epoch 0"
        page.keyboard.press("End")
        assert steps.last.inner_text() == "step 240, epoch 0"
        assert deck.get_by_role("button", name="On, ").is_disabled()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowLeft")
        assert deck.get_attribute("data-page") == "1"
        for opened, shown in ((deck.locator("details").first, "pre"), (page.locator(".numbers").first, "tr >> nth=0")):
            opened.locator("summary").focus()
            page.keyboard.press("Enter")
            opened.locator(shown).wait_for(state="visible")
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert seen.complaints == []


def test_a_phone_shows_all_of_it_without_sideways_scrolling_in_light_and_dark(browser: Any, report: Path):
    with watched(browser, report, 380) as seen:
        draw_all(seen)
        page = seen.page
        assert page.evaluate("document.documentElement.scrollWidth") == 380
        wide = (
            "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1 "
            "&& !one.closest('.wide, pre, svg')).map(one => one.className)"
        )
        assert page.locator("main *").evaluate_all(wide) == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.locator(f"html[data-theme={scheme}]").wait_for(state="attached")
            ink = page.locator("figure.plot .xtick text").first.evaluate("one => getComputedStyle(one).fill")
            light = sum(map(int, ink.removeprefix("rgb(").removesuffix(")").split(","))) > 382
            assert light == (scheme == "dark"), "plots follow the colours of the page"
            keep(seen, f"phone-{scheme}")
        assert seen.complaints == []
