"""A real Chromium, and a real cluster whose sweep has results."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from convsweep import Client
from tests.acceptance.conftest import Cluster
from tests.acceptance.faults.site import wait_for
from tests.browser.chromium import ARGUMENTS, find_chromium

TIMEOUT_MS = 60_000  # a busy machine draws slowly
expect.set_options(timeout=TIMEOUT_MS)
# not the page's: an interface of the machine came or went, and the page asked again
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
Json = dict[str, Any]


def sweep_body(**protocol: Any) -> Json:
    """Returns a sweep of 128 networks, some of which do not fit, timed, with a gate."""
    first = {"channels": [8], "kernel_size": [3, 5], "stride": [1, 2], "dilation": [1, 3]}
    second = first | {"channels": [4, 8]}
    return {
        "name": "Kernels, strides, dilations",
        "space": {"layers": [first, second]},
        "protocol": {
            "dataset": "digits",
            "train_images": 200,
            "validation_images": 200,
            "input_shape": [1, 16, 16],
            "trials": 3,
            "gates": {"min_accuracy": 0.5, "max_ratio": None},
            "timing": {"max_s": 0.01},
            **protocol,
        },
    }


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield launched
        launched.close()


@contextmanager
def opened(browser: Browser, *, expected: tuple[str, ...] = (), **options: Any) -> Iterator[Page]:
    """A tab that must end without an error of its own or in its console.

    ``expected`` are words in what Chromium notes of what the test means to go wrong.
    """
    options = {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"} | options
    context = browser.new_context(**options)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        meant = any(words in message.text for words in (*expected, NETWORK_CHANGED))
        if message.type == "error" and not meant:
            errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab on a desk: light, 1360 pixels wide."""
    with opened(browser) as tab:
        yield tab


@pytest.fixture(scope="package")
def live_cluster() -> Iterator[Cluster]:
    """A cluster with a worker; sweep 1 has completed, sweep 2 is the same with another seed."""
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.up()
        with cluster.client() as client:
            for seed in (0, 1):
                body = sweep_body(seed=seed) | ({"name": "The same, other weights"} if seed else {})
                client.create_sweep(body)
            wait_completed(client, 1)
            wait_completed(client, 2)
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder)


def wait_completed(client: Client, sweep_id: int) -> None:
    """Returns when a sweep has completed."""
    for _ in client.watch(sweep_id):
        pass
    assert client.get_sweep(sweep_id)["status"] == "completed"


@pytest.fixture(scope="package")
def site(live_cluster: Cluster) -> str:
    """The dashboard's address on the cluster."""
    return live_cluster.info.url


@pytest.fixture(scope="package")
def leaders(live_cluster: Cluster) -> list[Json]:
    """The rows of sweep 1, best first."""
    with live_cluster.client() as client:
        return [dict(row) for row in client.leaderboard(1)]


@pytest.fixture(scope="package")
def trained(live_cluster: Cluster) -> list[Json]:
    """The ended trainings of sweep 1: its two best networks, three epochs each."""
    wanted = {"select": {"by": "rank", "count": 2}, "recipe": {"epochs": 3, "augment": "none"}}
    with live_cluster.client() as client:
        client.create_trainings(1, wanted)
        wait_for(lambda: len(client.list_trainings(1, "completed")) == 2, "the trainings' end")
        return client.list_trainings(1)


@pytest.fixture(scope="package")
def invalid_job(live_cluster: Cluster) -> int:
    """A job of sweep 1 whose kernels do not fit."""
    with live_cluster.client() as client:
        return int(next(iter(client.leaderboard(1, where=["status=invalid"], limit=1)))["id"])


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    """Call it to hold that axe-core finds nothing serious on a page."""

    def check(page: Page) -> None:
        found = Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"][:3]
        ]
        assert serious == []

    return check
