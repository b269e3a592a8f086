"""The report in a real browser: no error, nothing loaded, every picture drawn; tabs, pointing, sorting, printing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipe_findings import NAMES, curves, first_steps, search, write_recipe
from study_records import trials

pytestmark = pytest.mark.xdist_group("browser")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
DESKTOP, PHONE = 1280, 390


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install .[test])")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Chromium (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        # Root has no sandbox in a container.
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    studies = {
        "coarse": trials(rng, 60, 1, diverged=0.2, stopped=0.5, names=NAMES),
        "confirm": trials(rng, 4, 2, diverged=0.0, names=NAMES),
    }
    findings = {**first_steps(rng), **{step: search(step, records) for step, records in studies.items()}, "curves": curves()}
    return write_recipe(tmp_path_factory.mktemp("page") / "tune", findings, studies).report


@pytest.fixture(params=[(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")], ids=["desktop", "dark", "phone"])
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report, opened from its file; whatever is said on the console or asked of a network fails the test."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=width == PHONE, is_mobile=width == PHONE
    )
    found, trouble = context.new_page(), []
    found.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    found.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    found.on("request", lambda asked: None if _inside(asked.url) else trouble.append(asked.url))
    found.goto(report.as_uri())
    yield found
    context.close()
    assert trouble == []


def _inside(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


def drawn(page: Any) -> list[str]:
    """Draws the pictures that are not hidden; returns those that are, with marks in them and of the page's width."""
    page.evaluate("drawAll()")
    return page.evaluate(
        """[...document.querySelectorAll(".plot")].filter((place) => {
            const marks = place.querySelectorAll(".trace, .hm image, .contour path, .bars path, .hm");
            const picture = place.querySelector(".main-svg");
            return picture && marks.length && picture.clientWidth <= place.clientWidth + 1 && picture.clientHeight > 100;
        }).map((place) => place.dataset.chart)"""
    )


def test_every_picture_is_drawn_in_every_tab(page: Any):
    seen = set(drawn(page))
    for tab in page.query_selector_all("[role=tab]"):
        tab.click()
        assert page.is_visible(f"#{tab.get_attribute('aria-controls')}")
        seen |= set(drawn(page))
    every = page.evaluate('[...document.querySelectorAll(".plot")].map((place) => place.dataset.chart)')
    assert len(every) > 15
    assert seen == set(every)
    # Nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_pictures_are_drawn_as_they_come_near(page: Any):
    page.wait_for_selector("#initial .main-svg")
    assert page.query_selector("#time .main-svg") is None
    page.evaluate('document.getElementById("time").scrollIntoView()')
    page.wait_for_selector("#time .main-svg")


def test_tabs_are_chosen_by_key(page: Any):
    first, second = page.query_selector_all("#coarse [role=tab]")[:2]
    first.focus()
    page.keyboard.press("ArrowRight")
    assert second.get_attribute("aria-selected") == "true"
    assert page.is_hidden(f"#{first.get_attribute('aria-controls')}")
    assert page.is_visible(f"#{second.get_attribute('aria-controls')}")


@pytest.mark.parametrize("tab", ["Curves", "Parallel", "Slices"])
def test_the_trial_that_is_pointed_at_is_named_and_comes_to_the_front(page: Any, tab: str):
    page.click(f"#coarse [role=tab]:text-is('{tab}')")
    drawn(page)
    place = page.query_selector("#coarse .panel:not([hidden]) .plot")
    place.scroll_into_view_if_needed()
    x, y, number = page.evaluate(
        """(place) => {
            const trace = [...place.data].reverse().find((one) => one.customdata && one.x.length);
            const i = trace.customdata.findIndex((one, i) => one !== null && trace.y[i] !== null);
            const {xaxis, yaxis} = place._fullLayout;
            const box = place.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.d2p(trace.x[i]), box.y + yaxis._offset + yaxis.d2p(trace.y[i]),
                    trace.customdata[i]];
        }""",
        place,
    )
    if page.viewport_size["width"] == PHONE:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x - 1, y)
        page.mouse.move(x, y)
    said = page.wait_for_selector("#coarse .panel:not([hidden]) .details.on").inner_text()
    assert said.startswith("Trial ")
    assert "learning_rate" in said
    shown = int(said.split()[1].rstrip(","))
    highlighted = page.evaluate("(place) => place.data.at(-1).x.length", place)
    assert highlighted > 0
    # Another point may lie in front of it.
    assert shown == number or tab != "Slices"


def test_dragging_along_a_row_leaves_the_settings_that_pass_there(page: Any):
    if page.viewport_size["width"] == PHONE:
        pytest.skip("a finger that drags scrolls the page")
    page.click("#coarse [role=tab]:text-is('Parallel')")
    drawn(page)
    place = page.query_selector("#coarse .panel:not([hidden]) .plot")
    place.scroll_into_view_if_needed()
    shown = """(place) => new Set(place.data.slice(0, -1).flatMap(
        (trace) => trace.customdata.filter((one, i) => one !== null && trace.y[i] !== null))).size"""
    passing = """([place, row, low, high]) => {
        const found = new Set();
        for (const trace of place.data.slice(0, -1)) trace.customdata.forEach((one, i) => {
            if (trace.y[i] === row && trace.x[i] !== null && trace.x[i] >= low && trace.x[i] <= high) found.add(one);
        });
        return found.size;
    }"""
    every = page.evaluate(shown, place)

    def drag(row: int, low: float, high: float) -> None:
        x0, x1, y = page.evaluate(
            """([place, row, low, high]) => {
                const {xaxis, yaxis} = place._fullLayout;
                const box = place.getBoundingClientRect();
                const at = [low, high].map((one) => box.x + xaxis._offset + xaxis.d2p(one));
                return [...at, box.y + yaxis._offset + yaxis.d2p(row)];
            }""",
            [place, row, low, high],
        )
        page.mouse.move(x0, y - 8)
        page.mouse.down()
        page.mouse.move((x0 + x1) / 2, y, steps=3)
        page.mouse.move(x1, y + 8, steps=3)
        page.mouse.up()

    wanted = page.evaluate(passing, [place, 0, 0.2, 0.6])
    drag(0, 0.2, 0.6)
    said = "#coarse .panel:not([hidden]) .details.on:has-text('settings pass')"
    page.wait_for_selector(said)
    first = page.evaluate(shown, place)
    # The mouse stands on whole pixels.
    assert 0 < first < every and abs(first - wanted) <= 1
    assert f"{first} of {every} settings pass" in page.inner_text(said)
    drag(1, 0.3, 0.9)
    page.wait_for_function("(place) => place.brushes.size === 2", arg=place)
    assert page.evaluate(shown, place) < first
    box = place.bounding_box()
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("(place) => place.brushes.size === 0", arg=place)
    assert page.evaluate(shown, place) == every


def test_a_table_is_sorted_by_the_column_that_is_clicked(page: Any):
    page.click("#coarse [role=tab]:text-is('Trials')")
    for way in ("ascending", "descending"):
        page.click("#coarse th:text-is('learning_rate')")
        head = page.query_selector("#coarse th:text-is('learning_rate')")
        assert head.get_attribute("aria-sort") == way
        cells = page.evaluate(
            "(head) => [...document.querySelectorAll('#coarse tbody tr')]"
            ".map((row) => +row.cells[head.cellIndex].textContent)",
            head,
        )
        assert cells == sorted(cells, reverse=way == "descending")


def test_the_command_is_copied(page: Any, report: Path):
    assert (
        page.text_content(".command code")
        == f"python -m hpjax.train --flagfile={report.parent}/best.flags --run_dir=runs/NAME"
    )
    page.click(".copy")
    page.wait_for_selector(".copy:text-is('Copied')")


def test_colours_follow_the_theme(page: Any):
    drawn(page)
    colour = "() => document.querySelector('[data-chart=throughput]').data[0].marker.color"
    before = page.evaluate(colour)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    page.wait_for_function(f"(before) => ({colour})() !== before", arg=before)


def test_the_print_has_every_picture(page: Any, tmp_path: Path):
    printed = tmp_path / "report.pdf"
    page.pdf(path=printed)
    assert printed.stat().st_size > 50_000
    seen = page.evaluate(
        '[...document.querySelectorAll(".plot")].filter((place) => place.querySelector(".main-svg")).length'
    )
    assert seen == page.evaluate('document.querySelectorAll(".plot").length')
