"""The tab "What matters" shows the API's analyses: effects, correlations, parallel coordinates."""

import re

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Json


@pytest.fixture
def effects(page: Page, site: str) -> Page:
    """The tab of sweep 1 with all charts drawn."""
    page.goto(f"{site}/#/sweeps/1?tab=effects")
    expect(page.locator(".parallel[data-lines]")).to_be_visible()
    return page


def test_effects_are_those_of_the_api(effects: Page, site: str) -> None:
    figures = effects.locator(".effects figure")
    parameters = httpx.get(f"{site}/v1/sweeps/1/analysis/effects").json()["parameters"]
    expect(figures).to_have_count(len(parameters))
    for figure, parameter in zip(figures.all(), parameters, strict=True):
        words = figure.locator("svg").get_attribute("aria-label") or ""
        for level in parameter["levels"]:
            assert f"{level['level']} {100 * level['mean']:.1f} %" in words


def known_coefficients(site: str) -> list[float]:
    """Each pair's coefficient from the API, once."""
    found: Json = httpx.get(f"{site}/v1/sweeps/1/analysis/correlations").json()
    rows = found["coefficients"]
    return [value for row in range(len(rows)) for value in rows[row][:row] if value is not None]


def test_the_heat_map_and_its_table_have_each_pair_of_the_api_once(
    effects: Page, site: str
) -> None:
    expected = known_coefficients(site)
    cells = effects.locator(".heat .cell text").all_text_contents()
    shown = [text.replace("−", "-") for text in cells if text != "–"]
    assert sorted(shown) == sorted(f"{value:.2f}" for value in expected)
    effects.get_by_text(f"Table of {len(expected)} pairs").click()
    table = effects.get_by_role("table", name="Correlations, strongest first")
    numbers = [
        float(text.replace("−", "-")) for text in table.locator("td.number").all_inner_texts()
    ]
    assert sorted(numbers) == pytest.approx(sorted(expected), abs=0.0006)
    strengths = [abs(number) for number in numbers]
    assert strengths == sorted(strengths, reverse=True)


def axis(page: Page, name: str) -> Locator:
    return page.locator(".parallel .axis").filter(has=page.get_by_label(f"Axis {name}."))


def drag_along(page: Page, name: str, start: float, end: float) -> None:
    """Drags along an axis; shares of its length from the top."""
    strip = axis(page, name).locator(".hit")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + start * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + end * box["height"], steps=4)
    page.mouse.up()


def test_a_range_along_an_axis_keeps_the_networks_within_it(
    effects: Page, leaders: list[Json]
) -> None:
    count = len(leaders)
    large = sum(row["layers"][0]["kernel_size"] == 5 for row in leaders)
    assert 0 < large < count
    kept = effects.locator("[aria-live]").filter(has_text="lie within the ranges")
    expect(effects.locator(".parallel")).to_have_attribute("data-lines", str(count))
    drag_along(effects, "kernel 1", 0.0, 0.5)  # the larger of two levels is the upper one
    expect(kept).to_contain_text(f"{large} of them lie within the ranges")
    effects.get_by_label("Axis kernel 1.").focus()
    effects.keyboard.press("Delete")
    expect(kept).to_have_count(0)


def axis_names(page: Page) -> list[str]:
    labels = [
        name.get_attribute("aria-label") or "" for name in page.locator(".parallel .name").all()
    ]
    return [re.sub(r"^Axis (.*?)\. .*", r"\1", label) for label in labels]


def test_an_axis_is_moved_with_the_keyboard_and_by_its_name(effects: Page) -> None:
    names = axis_names(effects)
    assert names[-1] == "accuracy"
    effects.get_by_label(f"Axis {names[0]}.").focus()
    effects.keyboard.press("ArrowRight")
    moved = [names[1], names[0], *names[2:]]
    assert axis_names(effects) == moved
    effects.get_by_label(f"Axis {names[0]}.").drag_to(effects.get_by_label(f"Axis {names[3]}."))
    assert axis_names(effects) == [names[1], names[2], names[3], names[0], *names[4:]]


def test_another_target_colours_the_lines_and_becomes_the_last_axis(effects: Page) -> None:
    effects.locator("select[name=target]").select_option("throughput")
    expect(effects.get_by_text("coloured by throughput")).to_be_visible()
    last = effects.locator(".parallel .name").last
    expect(last).to_have_attribute("aria-label", re.compile(r"^Axis throughput\."))
