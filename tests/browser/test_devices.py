"""The tab "Devices": references, a bridge and a calibration by buttons, predictions marked."""

import os
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session

from services.leasing.group_leases import awaited_models
from tests.browser.conftest import opened
from tests.integration.calibration.fleet import STEADY, Worker, add_timed_sweep
from tests.integration.calibration.test_calibrated import GROUPS, on_gpu, on_other

H100, L4 = "NVIDIA H100", "NVIDIA L4"
RUNS = 12


@pytest.fixture
def sweep_id(session: Session) -> int:
    """A sweep that two H100s have timed, the slower of which drifted once; an L4 runs, too."""
    sweep_id = add_timed_sweep(session, GROUPS)
    first, second = Worker(session, "GPU-1a", H100), Worker(session, "GPU-2b", H100)
    for number in range(RUNS):
        drop = 0.93 if number > 8 else 1.0
        second.run_references([drop * (1 + 0.002 * (number % 4)) * one for one in STEADY])
        first.run_references([(1.05 + 0.002 * (number % 3)) * one for one in STEADY])
    for group in range(GROUPS):
        first.evaluate(sweep_id, group, on_gpu)
    return sweep_id


def test_devices_are_bridged_and_calibrated_by_buttons_and_predictions_are_marked(
    page: Page, api_url: str, session: Session, sweep_id: int
) -> None:
    other = Worker(session, "GPU-3c", L4)
    page.goto(f"{api_url}/#/sweeps/{sweep_id}?tab=devices")
    figure = page.get_by_role("img", name=f"References of {H100} over time")
    expect(figure).to_be_visible()
    expect(figure.locator("circle")).to_have_count(2 * RUNS)
    expect(figure.locator("circle.drifted")).to_have_count(1)
    page.get_by_role("button", name="Time a bridge").click()
    page.get_by_role("button", name="Time them").click()
    expect(page.get_by_role("tabpanel").get_by_role("status")).to_contain_text("were asked for")
    httpx.post(
        f"{api_url}/v1/sweeps/{sweep_id}/bridges", json={"devices": [L4], "share": 0.5}
    ).raise_for_status()
    for group in range(GROUPS):
        if L4 in awaited_models(session, sweep_id, group):
            other.evaluate(sweep_id, group, on_other)
    page.reload()
    second = page.locator(f"section[aria-label='{L4}']")
    expect(second).to_contain_text("has not timed the references")
    expect(second.get_by_role("table")).to_contain_text("÷ or ×")
    second.get_by_role("button", name="Calibrate").click()
    expect(page.get_by_role("tabpanel").get_by_role("status")).to_contain_text(f"predicted on {L4}")
    page.locator(f"section[aria-label='{L4}']").get_by_role("link", name="show them").click()
    marked = page.locator("table td [title^='predicted from another device model']")
    expect(marked.first).to_contain_text("≈")


def test_a_picture_of_the_devices(
    browser: Browser, api_url: str, session: Session, sweep_id: int, tmp_path: Path
) -> None:
    other = Worker(session, "GPU-3c", L4)
    other.run_references(STEADY)
    bridges = f"{api_url}/v1/sweeps/{sweep_id}/bridges"
    httpx.post(bridges, json={"devices": [L4], "share": 0.4}).raise_for_status()
    for group in range(GROUPS):
        if awaited_models(session, sweep_id, group):
            other.evaluate(sweep_id, group, on_other)
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with opened(browser, viewport={"width": 1280, "height": 1100}) as page:
        page.goto(f"{api_url}/#/sweeps/{sweep_id}?tab=devices")
        expect(page.locator("figure.curves svg").first).to_be_visible()
        page.screenshot(path=folder / "dashboard-devices.png", full_page=True)
    assert (folder / "dashboard-devices.png").stat().st_size > 20_000
