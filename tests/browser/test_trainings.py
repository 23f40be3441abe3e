"""Trained networks in a table with their learning curves."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.acceptance.conftest import Cluster
from tests.browser.conftest import Json


def test_trainings_are_those_of_the_api_and_the_address_says_which_curves_are_drawn(
    page: Page, site: str, trained: list[Json]
) -> None:
    page.goto(f"{site}/#/sweeps/1?tab=trainings")
    rows = page.locator("section[aria-label=Trainings] tbody tr")
    expect(rows).to_have_count(len(trained))
    for place, training in enumerate(trained):
        expect(rows.nth(place)).to_contain_text(f"{training['parameters']:,}")
        expect(rows.nth(place)).to_contain_text(f"{100 * training['best_accuracy']:.1f} %")
    curves = page.locator(".curves g > polyline")
    expect(curves).to_have_count(2 * len(trained))
    page.get_by_role("checkbox", name=f"Curve of training {trained[0]['id']}").uncheck()
    expect(curves).to_have_count(2 * (len(trained) - 1))
    page.reload()
    expect(curves).to_have_count(2 * (len(trained) - 1))
    page.get_by_role("checkbox", name=f"Curve of training {trained[1]['id']}").uncheck()
    expect(page.get_by_text("Choose trainings below")).to_be_visible()


def test_the_table_of_trainings_is_downloaded(
    page: Page, site: str, trained: list[Json], tmp_path: Path
) -> None:
    page.goto(f"{site}/#/sweeps/1?tab=trainings")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    file = tmp_path / "trainings.csv"
    download.value.save_as(file)
    assert len(file.read_text().splitlines()) == 1 + len(trained)


def test_a_sweep_without_trainings_says_how_to_train(page: Page, site: str) -> None:
    page.goto(f"{site}/#/sweeps/2?tab=trainings")
    expect(page.get_by_text("convsweep train 2")).to_be_visible()


def test_a_training_that_is_asked_for_elsewhere_appears_and_goes_on_by_itself(
    page: Page, site: str, live_cluster: Cluster
) -> None:
    page.goto(f"{site}/#/sweeps/2?tab=trainings")
    expect(page.get_by_text("Nothing is trained yet")).to_be_visible()
    wanted = {"select": {"by": "rank", "count": 1}, "recipe": {"epochs": 4, "augment": "none"}}
    with live_cluster.client() as client:
        client.create_trainings(2, wanted)
    row = page.locator("section[aria-label=Trainings] tbody tr")
    expect(row).to_contain_text("4 / 4", timeout=60_000)
    expect(row).to_contain_text("completed")
    expect(page.locator(".curves g > polyline")).to_have_count(2)
