"""Looking at results: picture and table belong together, and the address says what is shown."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Json

ROWS = "section[aria-label=Leaderboard] tbody tr"
CHART = ".chart[data-points]"


def open_sweep(page: Page, site: str, query: str = "") -> None:
    page.goto("about:blank")
    page.goto(f"{site}/#/sweeps/1{query}")
    expect(page.locator(CHART)).to_be_visible()
    expect(page.locator(ROWS).first).to_be_visible()


def table(page: Page) -> list[str]:
    """Returns the names of the networks in the table, in order."""
    return [link.get_attribute("aria-label") or "" for link in page.locator(f"{ROWS} a").all()]


def jobs(rows: list[Json]) -> list[str]:
    return [f"Job {row['id']}" for row in rows]


def drag(page: Page, *ways: tuple[float, float]) -> None:
    """Drags over the chart, from place to place as shares of its plotting area."""
    area = page.locator(f"{CHART} .plane").bounding_box()
    assert area is not None
    places = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in ways]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def selected(page: Page) -> int:
    """Returns how many networks the page says are selected."""
    words = page.locator("#scatter-words")
    expect(words).to_contain_text("are selected")
    found = re.match(r"([\d,]+) of", words.inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def test_every_completed_network_is_a_point_and_the_best_come_first(
    page: Page, site: str, leaders: list[Json]
) -> None:
    open_sweep(page, site)
    assert page.locator(CHART).get_attribute("data-points") == str(len(leaders))
    assert table(page) == jobs(leaders[:25])
    expect(page.locator(ROWS).first).to_contain_text(f"{100 * leaders[0]['accuracy']:.2f} %")
    expect(page.locator(f"{ROWS} .whisker").first).to_have_attribute("title", re.compile("95 %"))
    expect(page.locator("section[aria-label=Progress]")).to_contain_text("128")


def test_a_box_filters_the_table_and_the_address_brings_it_back(
    page: Page, site: str, leaders: list[Json]
) -> None:
    open_sweep(page, site)
    drag(page, (0.02, 0.02), (0.98, 0.45))
    many = selected(page)
    assert 0 < many < len(leaders)
    expect(page.locator("section[aria-label=Leaderboard] .row").first).to_contain_text(
        f"{many} selected"
    )
    address = page.url
    bottom, top = unquote(address).split("box:")[1].split(";")[1].split(",")[:2]
    within = [row for row in leaders if float(bottom) <= row["accuracy"] <= float(top)]
    shown = table(page)
    assert shown == [name for name in jobs(within) if name in shown]
    page.goto("about:blank")
    page.goto(address)
    assert selected(page) == many
    expect(page.locator(ROWS)).to_have_count(len(shown))
    assert table(page) == shown
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator("#scatter-words")).to_contain_text(f"{len(leaders)} networks")
    expect(page.locator(ROWS)).to_have_count(min(25, len(leaders)))
    assert "select=" not in page.url


def test_a_lasso_filters_the_table(page: Page, site: str, leaders: list[Json]) -> None:
    open_sweep(page, site)
    page.get_by_role("button", name="Lasso").click()
    drag(page, (0.01, 0.01), (0.99, 0.01), (0.99, 0.5), (0.01, 0.5), (0.01, 0.01))
    many = selected(page)
    assert 0 < many < len(leaders)
    address = page.url
    assert "lasso" in address
    page.goto("about:blank")
    page.goto(address)
    assert abs(selected(page) - many) <= 1  # the address keeps the line to six digits


def test_axes_filters_order_and_page_are_in_the_address(
    page: Page, site: str, leaders: list[Json]
) -> None:
    open_sweep(page, site)
    page.locator("select[name=x]").select_option("kernel_size[0]")
    page.locator("select[name=color]").select_option("throughput")
    page.get_by_label("Add a filter").fill("stride[0]=1")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_role("button", name="Images/s").click()
    fast = [row for row in leaders if row["layers"][0]["stride"] == 1]
    fast.sort(key=lambda row: (-row["throughput"], row["id"]))
    expect(page.locator(f"{ROWS} a").first).to_have_attribute("aria-label", jobs(fast)[0])
    expect(page.locator(CHART)).to_have_attribute("data-points", str(len(fast)))
    page.get_by_role("button", name="Next").click()
    expect(page.locator(f"{ROWS} a").first).to_have_attribute("aria-label", jobs(fast)[25])
    page.get_by_role("button", name="Copy link").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(copied)
    expect(page.locator(f"{ROWS} a").first).to_have_attribute("aria-label", jobs(fast)[25])
    assert page.locator("select[name=x]").input_value() == "kernel_size[0]"
    assert page.locator("select[name=color]").input_value() == "throughput"
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Images/s")
    page.get_by_role("button", name="Remove filter stride[0]=1").click()
    expect(page.locator(CHART)).to_have_attribute("data-points", str(len(leaders)))


def test_a_wrong_filter_is_named_and_one_that_nothing_passes_says_so(page: Page, site: str) -> None:
    open_sweep(page, site)
    page.get_by_label("Add a filter").fill("accuracy")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("section[aria-label=Filters] .notice")).to_contain_text("NAME=VALUES")
    page.get_by_label("Add a filter").fill("accuracy=1..")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_text("Nothing passes these filters")).to_be_visible()
    expect(page.get_by_text("No network to rank")).to_be_visible()


def test_hovering_shows_the_architecture_and_a_click_opens_it(page: Page, site: str) -> None:
    open_sweep(page, site)
    box = page.locator(f"{CHART} circle.front").first.bounding_box()  # around a point
    assert box is not None
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(place[0] - 1, place[1])
    page.mouse.move(*place, steps=3)
    card = page.locator(".hovercard")
    expect(card).to_be_visible()
    expect(card.locator(".layer")).to_have_count(2)
    job = re.search(r"job (\d+)", card.inner_text())
    assert job is not None
    page.mouse.click(*place)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Job {job[1]}")


def test_downloads_hold_what_the_table_shows(
    page: Page, site: str, leaders: list[Json], tmp_path: Path
) -> None:
    open_sweep(page, site, "?where=stride%5B0%5D%3D1")
    wanted = {str(row["id"]) for row in leaders if row["layers"][0]["stride"] == 1}
    for name in ("CSV", "JSON Lines", "Parquet"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        if path.suffix == ".csv":
            with path.open() as file:
                rows = list(csv.DictReader(file))
            assert {row[next(iter(row))] for row in rows} == wanted
        elif path.suffix == ".jsonl":
            assert len([json.loads(line) for line in path.read_text().splitlines()]) == len(wanted)
        else:
            assert path.read_bytes()[:4] == b"PAR1"


def test_networks_are_chosen_in_the_table_and_compared(
    page: Page, site: str, leaders: list[Json]
) -> None:
    open_sweep(page, site)
    for row in leaders[:3]:
        page.get_by_label(f"Compare job {row['id']}", exact=True).check()
    page.get_by_role("link", name="Compare 3").click()
    pairs = page.locator("section[aria-label='Image by image'] tbody tr")
    expect(pairs).to_have_count(2)
    comparison = httpx.get(
        f"{site}/v1/jobs/{leaders[0]['id']}/comparison/{leaders[1]['id']}"
    ).json()
    expect(pairs.first).to_contain_text(f"{100 * comparison['difference']['mean']:.2f} points")
    page.get_by_label("Sweeps").fill("1, 2")
    page.get_by_label("Sweeps").press("Enter")
    agreement = page.locator("section[aria-label=Agreement]")
    sweeps = httpx.get(f"{site}/v1/sweeps/1/analysis/comparison/2").json()
    expect(agreement).to_contain_text(f"{sweeps['spearman']:.3f}")
