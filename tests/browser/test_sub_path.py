"""The dashboard and the API's description below a path of a reverse proxy."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session

from convsweep import Client
from shared.settings import Settings
from tests.browser.conftest import opened
from tests.browser.proxy import PREFIX, reverse_proxy
from tests.conftest import serving
from tests.integration.listings import add_results


@pytest.fixture(params=[True, False], ids=["stripped", "whole"])
def below(request: pytest.FixtureRequest, migrated: Settings, session: Session) -> Iterator[str]:
    """The address of an API with results below a path, with and without the path's removal."""
    add_results(session)
    settings = migrated if request.param else migrated.model_copy(update={"root_path": PREFIX})
    with serving(settings) as url, reverse_proxy(url, strips=request.param) as address:
        yield address


def test_the_dashboard_works_below_a_path(below: str, page: Page) -> None:
    page.goto(f"{below}/#/sweeps/1")
    expect(page.locator(".chart[data-points] canvas")).to_be_visible()
    page.goto(f"{below}/#/new?preset=quick")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_url("**/#/sweeps/2*")


def test_the_description_works_below_a_path_and_under_its_policy(
    below: str, browser: Browser
) -> None:
    with opened(browser) as page:
        page.goto(f"{below}/docs")
        expect(page.get_by_text("/v1/presets")).to_be_visible()
        page.locator("#operations-system-list_presets button").first.click()
        page.get_by_role("button", name="Try it out").click()
        with page.expect_response("**/v1/presets") as caught:
            page.get_by_role("button", name="Execute").click()
        assert caught.value.status == 200
        assert caught.value.url == f"{below}/v1/presets"


def test_the_client_works_below_a_path(below: str) -> None:
    with Client(below) as client:
        assert client.get_sweep(1)["id"] == 1
        assert client.correlations(1)["names"]


def test_addresses_in_answers_lead_below_the_path(migrated: Settings, session: Session) -> None:
    below_path = migrated.model_copy(update={"root_path": PREFIX})
    with serving(below_path) as url, reverse_proxy(url, strips=True) as address:
        answer = httpx.post(f"{address}/v1/sweeps", json={"preset": "quick"})
        assert answer.headers["location"] == f"{PREFIX}/v1/sweeps/1"
