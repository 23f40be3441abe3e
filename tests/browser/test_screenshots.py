"""Pictures of the main views; ``make screenshots`` puts them into docs/images."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Json, opened

PICTURES = {
    "dashboard-sweep": ("#/sweeps/1", "light", 1280, 1180),
    "dashboard-dark": ("#/sweeps/1?color=throughput&x=flops", "dark", 1280, 1180),
    "dashboard-effects": ("#/sweeps/1?tab=effects", "light", 1280, 2420),
    "dashboard-network": ("#/jobs/{best}", "light", 1280, 1500),
    "dashboard-trainings": ("#/sweeps/1?tab=trainings", "light", 1280, 980),
    "dashboard-compare": ("#/compare?jobs={best},{second}", "light", 1280, 900),
    "dashboard-new": ("#/new?preset=random-cnn-2025", "light", 1280, 780),
    "dashboard-phone": ("#/sweeps/1", "dark", 380, 1180),
}

_POINTS = ".chart[data-points] canvas"
READY = {
    "dashboard-sweep": _POINTS,
    "dashboard-dark": _POINTS,
    "dashboard-effects": ".parallel[data-lines]",
    "dashboard-network": "section[aria-label=Neighbours] tbody",
    "dashboard-trainings": ".curves polyline",
    "dashboard-compare": "section[aria-label='Image by image'] tbody",
    "dashboard-new": "button:has-text('Start this sweep')",
    "dashboard-phone": _POINTS,
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_a_main_view(
    browser: Browser, site: str, leaders: list[Json], trained: list[Json], tmp_path: Path, name: str
) -> None:
    place, scheme, width, height = PICTURES[name]
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with opened(browser, color_scheme=scheme, viewport={"width": width, "height": height}) as page:
        best, second = (one["id"] for one in leaders[:2])
        page.goto(f"{site}/{place.format(best=best, second=second)}")
        expect(page.locator(READY[name]).first).to_be_visible()
        page.wait_for_timeout(1000)  # until everything is drawn
        page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 20_000
