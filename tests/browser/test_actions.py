"""What a page may do: start, control and watch sweeps, with a key where one is needed."""

import json
import re

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session

from services.access.keys import create_key
from services.monitoring.workers import clear_worker_problem, note_worker_problem
from services.sweeps.control import extend_sweep
from shared.domain.access import KeyScope
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.status import JobStatus
from shared.settings import Settings
from tests.acceptance.conftest import Cluster
from tests.browser.conftest import opened, sweep_body
from tests.conftest import SessionFactory, serving
from tests.integration.scenario import (
    add_sweep,
    add_worker,
    claimed,
    complete,
    finish_sweep,
    successes,
)

PROGRESS = "section[aria-label=Progress]"


def test_a_sweep_is_described_started_and_watched_until_it_ends(
    page: Page, live_cluster: Cluster, site: str
) -> None:
    page.goto(f"{site}/#/sweeps")
    page.get_by_role("link", name="New sweep").click()
    editor = page.get_by_label("Space and protocol as JSON")
    expect(page.get_by_text("512", exact=True)).to_be_visible()
    editor.fill('{"space": ')
    expect(page.get_by_role("alert")).to_contain_text("This is no JSON yet")
    expect(page.get_by_role("button", name="Start this sweep")).to_be_disabled()
    body = sweep_body(seed=7, trials=5)  # long enough to be seen at work
    body["name"] = "From the page"
    editor.fill(json.dumps(body))
    expect(page.get_by_text("128", exact=True)).to_be_visible()
    expect(page.get_by_text("At the pace of sweep")).to_be_visible()
    page.get_by_label("random-cnn-2025").check()
    expect(page.get_by_text("46,656", exact=True)).to_be_visible()
    expect(page.get_by_text("No sweep of networks of such a size")).to_be_visible()
    editor.fill(json.dumps(body))
    expect(page.get_by_text("At the pace of sweep")).to_be_visible()
    page.get_by_role("button", name="Start this sweep").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("From the page")
    progress = page.locator(PROGRESS)
    finished = progress.locator("dd").nth(1)
    seen = {finished.inner_text()}
    expect(finished).to_have_text("128 of 128", timeout=120_000)
    seen.add(finished.inner_text())
    assert len(seen) > 1  # it moves by itself
    expect(page.locator("h1 + span .pill")).to_have_text("completed", timeout=20_000)
    expect(progress).to_contain_text(re.compile("took[0-9]"))
    expect(page.locator("section[aria-label=Leaderboard] tbody tr").first).to_be_visible()


@pytest.fixture
def own_site(api_url: str, sessions: SessionFactory) -> tuple[str, SessionFactory]:
    """The dashboard on an empty database without workers."""
    return api_url, sessions


def status(page: Page, wanted: str) -> None:
    expect(page.locator("h1 + span .pill")).to_have_text(wanted)


def test_a_sweep_is_paused_resumed_extended_and_cancelled(
    page: Page, own_site: tuple[str, SessionFactory]
) -> None:
    url, sessions = own_site
    with sessions() as session:
        sweep_id = add_sweep(session)
    page.goto(f"{url}/#/sweeps/{sweep_id}")
    expect(page.get_by_text("No results yet")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Not now").click()
    status(page, "running")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    status(page, "paused")
    page.get_by_role("button", name="Resume").click()
    status(page, "running")
    page.get_by_role("button", name="Extend").click()
    page.get_by_label("Trials per network, in all").fill("4")
    page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text("12 unfinished jobs end")
    page.get_by_role("button", name="Cancel this sweep").click()
    status(page, "cancelled")
    jobs = httpx.get(f"{url}/v1/sweeps/{sweep_id}/jobs").json()["jobs"]
    assert {job["trials_target"] for job in jobs} == {4}
    assert {job["status"] for job in jobs} == {"cancelled"}


def fail_one_group(session: Session, sweep_id: int) -> None:
    claim = claimed(session, sweep_id)
    failure = JobOutcome(JobStatus.FAILED, Reason.OUT_OF_MEMORY, error="too large")
    complete(session, claim, [failure] * len(claim.jobs))


def test_failed_jobs_are_handed_out_again(page: Page, own_site: tuple[str, SessionFactory]) -> None:
    url, sessions = own_site
    with sessions() as session:
        sweep_id = add_sweep(session)
        fail_one_group(session, sweep_id)
    page.goto(f"{url}/#/sweeps/{sweep_id}")
    page.get_by_role("button", name="Retry 4 failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.locator(PROGRESS)).not_to_contain_text("failed")
    expect(page.locator(PROGRESS)).to_contain_text("12 pending")


def test_results_appear_while_they_arrive(page: Page, own_site: tuple[str, SessionFactory]) -> None:
    url, sessions = own_site
    with sessions() as session:
        sweep_id = add_sweep(session)
        page.goto(f"{url}/#/sweeps/{sweep_id}")
        expect(page.locator(PROGRESS)).to_contain_text("12 pending")
        finish_sweep(session, sweep_id)
    expect(page.locator(PROGRESS)).to_contain_text("12 completed")
    status(page, "completed")
    expect(page.locator("section[aria-label=Leaderboard] tbody tr")).to_have_count(12)


def test_the_best_accuracy_follows_results_in_both_directions(
    page: Page, own_site: tuple[str, SessionFactory]
) -> None:
    url, sessions = own_site
    with sessions() as session:
        sweep_id = add_sweep(session, groups=1)
        complete(session, claimed(session, sweep_id))
        page.goto(f"{url}/#/sweeps/{sweep_id}")
        expect(page.locator(PROGRESS)).to_contain_text("50.0")
        extend_sweep(session, sweep_id, trials=4)
        session.commit()
        page.reload()
        expect(page.locator(PROGRESS)).to_contain_text("4 pending")
        expect(page.locator(PROGRESS)).to_contain_text("50.0")
        expect(page.locator("section[aria-label=Leaderboard] tbody tr")).to_have_count(4)
        held = claimed(session, sweep_id)
        complete(session, held, successes(held, accuracy=0.1))
    expect(page.locator(PROGRESS)).to_contain_text("30.0")
    page.goto(f"{url}/#/sweeps")
    expect(page.get_by_text("30.0").first).to_be_visible()


def test_an_empty_service_says_how_to_begin(
    page: Page, own_site: tuple[str, SessionFactory]
) -> None:
    page.goto(f"{own_site[0]}/#/sweeps")
    expect(page.get_by_text("No sweep yet")).to_be_visible()
    page.get_by_role("link", name="Start the quick sweep").click()
    expect(page.get_by_label("quick")).to_be_checked()
    page.goto(f"{own_site[0]}/#/workers")
    expect(page.get_by_text("No worker runs")).to_be_visible()


def test_names_from_users_are_text_and_never_markup(
    page: Page, own_site: tuple[str, SessionFactory]
) -> None:
    name = "<img src=x onerror=window.hurt=1>"
    body = sweep_body() | {"name": name}
    httpx.post(f"{own_site[0]}/v1/sweeps", json=body).raise_for_status()
    page.goto(f"{own_site[0]}/#/sweeps")
    expect(page.get_by_role("link", name=name)).to_be_visible()
    page.goto(f"{own_site[0]}/#/sweeps/1")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    assert page.evaluate("window.hurt") is None


def test_a_key_is_asked_for_once_and_kept_for_the_tab(
    browser: Browser, migrated: Settings, sessions: SessionFactory
) -> None:
    with sessions.begin() as session:
        key, _ = create_key(session, "page", KeyScope.WRITE)
    guarded = migrated.model_copy(update={"api_keys": "required"})
    with serving(guarded) as url, opened(browser, expected=("status of 401",)) as page:
        page.goto(f"{url}/#/sweeps")
        field = page.get_by_label("API key")
        field.fill("csw_wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_text("No sweep yet")).to_be_visible()
        page.reload()
        expect(page.get_by_text("No sweep yet")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert key not in page.url
        assert page.evaluate("sessionStorage.getItem('convsweep.key')") == key


def test_the_page_of_a_sweep_says_what_keeps_workers_from_it_and_no_other_page_does(
    page: Page, own_site: tuple[str, SessionFactory]
) -> None:
    url, sessions = own_site
    with sessions() as session:
        hindered, healthy = add_sweep(session), add_sweep(session)
        worker_id = add_worker(session)
        note_worker_problem(session, worker_id, hindered, "put mine.npz there")
        session.commit()
    page.goto(f"{url}/#/sweeps/{hindered}")
    expect(page.get_by_text("A worker cannot work on this sweep")).to_be_visible()
    expect(page.get_by_text("box: put mine.npz there")).to_be_visible()
    with sessions.begin() as session:
        clear_worker_problem(session, worker_id, hindered)
    expect(page.get_by_text("put mine.npz there")).to_have_count(0, timeout=10_000)
    with sessions.begin() as session:
        note_worker_problem(session, worker_id, hindered, "wants a GPU")
    expect(page.get_by_text("box: wants a GPU")).to_be_visible(timeout=10_000)
    page.goto(f"{url}/#/sweeps/{healthy}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("No results yet")).to_be_visible()
    expect(page.get_by_text("wants a GPU")).to_have_count(0)
    page.goto(f"{url}/#/workers")
    expect(page.get_by_text(f"cannot work on sweep {hindered}")).to_be_visible()
    expect(page.locator(".pill.is-failed")).to_have_count(0)
