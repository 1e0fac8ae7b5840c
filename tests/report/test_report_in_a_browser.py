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
FIRST_GROUP = ".deck[data-kind=gallery] .group h4"


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
        seen.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_everything_is_drawn_without_a_complaint_and_nothing_leaves_the_page(browser: Any, report: Path):
    with watched(browser, report) as seen:
        draw_all(seen)
        plots = seen.page.locator("figure.plot")
        assert plots.count() > 20
        assert seen.page.locator("figure.plot[data-drawn]").count() == plots.count()
        empty = "all => all.filter(one => !one.querySelector('.main-svg')?.getBBox().width).length"
        assert plots.evaluate_all(empty) == 0
        heads = seen.page.locator("h2").all_inner_texts()
        assert "What is not here, and what would bring it" not in heads, "this report has every part"
        keep(seen, "wide-light")
        assert seen.complaints == []
        assert [address for address in seen.asked if not address.startswith("data:")] == [report.as_uri()]


def test_it_opens_in_two_seconds_with_two_thousand_rollouts_and_more(browser: Any, report: Path):
    with watched(browser, report) as seen:
        assert "1,920 completions" in seen.page.locator(".deck[data-kind=gallery] .note").first.inner_text()
        opened = seen.page.evaluate("performance.getEntriesByName('fgvr-open')[0].startTime")
        assert seen.page.locator(FIRST_GROUP).count() == 10, "five groups of each run stand there"
        assert opened < 2000, "milliseconds"


def test_the_gallery_is_leafed_through_by_hand_and_by_keyboard(browser: Any, report: Path):
    with watched(browser, report) as seen:
        page, deck = seen.page, seen.page.locator(".deck[data-kind=gallery]").first
        steps = deck.locator(".group .seen p:first-of-type")
        assert steps.first.inner_text() == "step 1, epoch 0"
        deck.get_by_role("button", name="On, ").click()
        assert steps.first.inner_text() == "step 6, epoch 0"
        deck.focus()
        page.keyboard.press("ArrowRight")
        assert steps.first.inner_text() == "step 11, epoch 0"
        page.keyboard.press("End")
        assert steps.last.inner_text() == "step 240, epoch 0"
        assert deck.get_by_role("button", name="On, ").is_disabled()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowLeft")
        assert deck.get_attribute("data-page") == "1"
        deck.get_by_label("Which groups").select_option("all right")
        assert deck.locator(".note").last.inner_text() == "Nothing is like that."
        deck.get_by_label("Which groups").select_option("some right, some not")
        deck.get_by_label("Class or answer").fill("jade")
        names = deck.locator(".group h4").all_inner_texts()
        assert names
        assert all(name in ("Jade Owl", "Grey Owl") for name in names), "the label, or a completion's answer"


def test_every_control_is_reached_by_tab_and_a_reply_opens_by_enter(browser: Any, report: Path):
    with watched(browser, report) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        found: set[str] = set()
        for _ in range(45):
            page.keyboard.press("Tab")
            found.add(
                page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
            )
        assert {"SUMMARY", "Colours: as the system has them"} <= found
        reply = page.locator(".deck[data-kind=gallery] details").first
        reply.locator("summary").focus()
        page.keyboard.press("Enter")
        assert reply.locator("pre").is_visible()
        numbers = page.locator(".numbers").first
        numbers.locator("summary").focus()
        page.keyboard.press("Enter")
        assert numbers.locator("tr").count() > 0, "the numbers of a plot, for who cannot see it"
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_hostile_words_are_words(browser: Any, report: Path):
    with watched(browser, report) as seen:
        last = seen.page.locator(".deck[data-kind=gallery]").nth(1)
        last.locator("summary").first.click()
        assert "</script><script>alert(1)</script>" in last.locator("pre").first.inner_text()
        assert seen.page.locator("main img:not(.shot)").count() == 0
        assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_sideways_scrolling(browser: Any, report: Path, scheme: str):
    with watched(browser, report, 380, scheme) as seen:
        draw_all(seen)
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 380
        wide = (
            "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1 "
            "&& !one.closest('.wide, pre, svg')).map(one => one.className)"
        )
        assert seen.page.locator("main *").evaluate_all(wide) == []
        assert seen.page.evaluate("document.documentElement.dataset.theme") == scheme
        inks = seen.page.locator("figure.plot .xtick text").first.evaluate("one => getComputedStyle(one).fill")
        light = sum(map(int, inks.removeprefix("rgb(").removesuffix(")").split(","))) > 382
        assert light == (scheme == "dark"), "plots follow the colours of the page"
        keep(seen, f"phone-{scheme}")
        assert seen.complaints == []


def test_on_paper_it_is_light_and_without_buttons(browser: Any, report: Path):
    with watched(browser, report, scheme="dark") as seen:
        draw_all(seen)
        seen.page.emulate_media(media="print")
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert seen.page.evaluate("document.documentElement.dataset.theme") == "light"
        assert not seen.page.locator("#theme").is_visible()
        keep(seen, "print")
