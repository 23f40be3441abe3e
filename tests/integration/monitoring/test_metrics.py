"""Metrics of API and worker: what they say, held against the database, and what the page says."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from api import metrics
from api.metrics import render
from services.dispatching.dispatch import reap_expired_leases, send_hints
from services.monitoring.workers import note_worker_problem, note_worker_waiting
from services.sweeps.control import cancel_sweep, pause_sweep
from shared.messaging.queue import HintQueue
from shared.settings import Settings
from tests.conftest import free_port, serving
from tests.integration.leasing.test_execution import Site, evaluate
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    add_worker,
    claim,
    claimed,
    complete,
    expire,
    small_protocol,
    successes,
)
from worker.device import Device, open_device
from worker.evaluation.request import GroupRequest
from worker.metrics import DeviceCollector, WorkerMetrics, serve_metrics

Values = dict[tuple[str, ...], float]


def families(exposition: str) -> dict[str, Metric]:
    """Returns the metrics of an exposition by the names that their samples go by."""
    found = text_string_to_metric_families(exposition)
    return {one.name + ("_total" if one.type == "counter" else ""): one for one in found}


def values(exposition: str) -> Values:
    """Returns every sample by its name and the values of its labels, in the labels' order."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept from one scrape to the next."""
    monkeypatch.setattr(metrics, "KEPT_S", 0.02)


@pytest.fixture
def scrape(
    migrated: Settings, broker_url: str, session: Session, fresh: None
) -> Iterator[Callable[[], str]]:
    """Call it for what the API exposes, on an empty database."""
    with serving(migrated.model_copy(update={"broker_url": broker_url})) as url:

        def ask() -> str:
            time.sleep(0.05)
            answer = httpx.get(f"{url}/metrics", timeout=30)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            return answer.text

        yield ask


def test_the_api_shows_the_cluster_as_the_database_has_it(
    scrape: Callable[[], str], session: Session, celery_app: Celery
) -> None:
    first, second = add_sweep(session), add_sweep(session)
    complete(session, claimed(session, first))
    lost = claimed(session, first, 1)
    claimed(session, first, 2)
    expire(session, lost)
    reap_expired_leases(session, max_attempts=3)
    pause_sweep(session, second)
    note_worker_waiting(session, add_worker(session), "no GPU is free")
    note_worker_problem(session, add_worker(session), second, "no images")  # it is paused
    session.commit()
    send_hints(session, HintQueue(celery_app), backlog=8, resend_s=60)
    session.commit()
    shown = values(scrape())
    assert shown["convsweep_database_up",] == shown["convsweep_broker_up",] == 1
    assert shown["convsweep_sweeps", "running"] == shown["convsweep_sweeps", "paused"] == 1
    for status, count in {"completed": 4, "running": 4, "pending": 4, "failed": 0}.items():
        assert shown["convsweep_sweep_jobs", status, str(first)] == count
    assert shown["convsweep_sweep_jobs", "pending", str(second)] == GROUPS * GROUP_SIZE
    assert shown["convsweep_jobs", "pending"] == 4 + GROUPS * GROUP_SIZE
    assert shown["convsweep_groups_pending",] == 1  # those of the paused sweep rest
    assert shown["convsweep_groups_hinted",] == shown["convsweep_queue_hints",] == 1
    assert shown["convsweep_leases_open",] == 1
    assert shown["convsweep_leases_expired_total",] == 1
    states = [shown["convsweep_workers", state] for state in ("busy", "idle", "blocked")]
    assert states == [1, 3, 1]


def test_a_worker_that_cannot_serve_one_sweep_is_blocked_only_while_it_does_nothing_else(
    scrape: Callable[[], str], session: Session
) -> None:
    served, other = add_sweep(session), add_sweep(session)
    worker_id = add_worker(session)
    note_worker_problem(session, worker_id, other, "no images")
    session.commit()
    assert values(scrape())["convsweep_workers", "blocked"] == 1
    claim(session, served, worker_id=worker_id)
    assert values(scrape())["convsweep_workers", "busy"] == 1


def test_a_sweep_that_is_over_has_no_series_of_its_own(
    scrape: Callable[[], str], session: Session
) -> None:
    sweep_id = add_sweep(session)
    cancel_sweep(session, sweep_id)
    session.commit()
    shown = values(scrape())
    assert not any(key[0] == "convsweep_sweep_jobs" for key in shown)
    assert shown["convsweep_jobs", "cancelled"] == GROUPS * GROUP_SIZE


def test_requests_are_counted_by_template_and_never_by_what_a_client_makes_up(
    migrated: Settings, session: Session
) -> None:
    sweep_id = add_sweep(session)
    with serving(migrated) as url, httpx.Client(base_url=url) as client:
        client.get(f"/v1/sweeps/{sweep_id}")
        client.get("/v1/sweeps/999")
        client.get("/v1/whatever/1")
        client.request("BREW", "/v1/whatever/2")
        shown = values(client.get("/metrics").text)
    name = "convsweep_http_request_duration_seconds_count"
    counted = {key[1:]: value for key, value in shown.items() if key[0] == name}
    assert counted == {
        ("GET", "/v1/sweeps/{sweep_id}", "200"): 1,
        ("GET", "/v1/sweeps/{sweep_id}", "404"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "unmatched", "404"): 1,
    }


@pytest.mark.parametrize("database", ["refusing", "silent"])
def test_a_scrape_succeeds_while_postgres_and_redis_are_away(
    database: str, silent_url: str, server_dir: Path
) -> None:
    port = free_port() if database == "refusing" else int(silent_url.split(":")[2][:-2])
    settings = Settings(
        database_url=f"postgresql://127.0.0.1:{port}/x", api_keys="off", reads_per_minute=0,
        broker_url=f"redis://127.0.0.1:{port}/0", data_dir=server_dir / "data",
    )  # fmt: skip
    with serving(settings) as url:
        started = time.monotonic()
        answer = httpx.get(f"{url}/metrics", timeout=30)
        assert time.monotonic() - started < 2 * metrics.PATIENCE_S + 1
    assert answer.status_code == 200
    shown = values(answer.text)
    assert shown == {("convsweep_database_up",): 0, ("convsweep_broker_up",): 0}


@pytest.fixture
def counting(migrated: Settings, session: Session, sessions: Any) -> Callable[..., WorkerMetrics]:
    """Call it with an engine: a worker evaluates one group of a sweep with it."""

    def work(engine: Any) -> WorkerMetrics:
        site = Site(migrated, session)
        executor = site.executor(sessions, engine=engine)
        executor.execute_group(site.add_sweep(small_protocol()), 0)
        return site.metrics

    return work


def worker_values(counted: WorkerMetrics) -> Values:
    return values(render(counted.registry).decode())


def test_a_worker_counts_its_jobs_and_the_time_of_their_trials(
    counting: Callable[..., WorkerMetrics],
) -> None:
    shown = worker_values(counting(evaluate))
    assert shown["convsweep_worker_jobs_total", "completed"] == GROUP_SIZE
    assert shown["convsweep_worker_groups_total", "completed"] == 1
    assert shown["convsweep_worker_stale_completions_total",] == 0
    assert shown["convsweep_worker_busy",] == 0
    for stage, trials in {"probe": 2, "fit": 2, "write": 2, "timing": 0}.items():
        assert shown["convsweep_worker_trial_seconds_count", stage] == trials * GROUP_SIZE
    assert shown["convsweep_worker_trial_seconds_sum", "fit"] == 0.25 * 2 * GROUP_SIZE
    assert shown["convsweep_worker_trial_seconds_sum", "write"] > 0


def test_a_worker_counts_results_that_came_too_late(
    counting: Callable[..., WorkerMetrics], session: Session
) -> None:
    def cancelled(request: GroupRequest) -> Any:
        cancel_sweep(session, 1)
        session.commit()
        return evaluate(request)

    shown = worker_values(counting(cancelled))
    assert shown["convsweep_worker_stale_completions_total",] == 1
    assert shown["convsweep_worker_groups_total", "stale"] == 1
    assert not any(key[0] == "convsweep_worker_jobs_total" for key in shown)


def test_a_worker_counts_groups_that_broke(counting: Callable[..., WorkerMetrics]) -> None:
    def broken(_: GroupRequest) -> Any:
        raise ValueError("no")

    shown = worker_values(counting(broken))
    assert shown["convsweep_worker_groups_total", "failed"] == 1


def test_workers_of_one_machine_take_ports_one_after_the_other() -> None:
    port = free_port()
    settings = Settings(metrics_port=port)
    servers = [
        serve_metrics(WorkerMetrics(str(n), open_device("cpu", Settings().runtime_dir)), settings)
        for n in range(2)
    ]
    try:
        found = [server.server_port for server, _ in filter(None, servers)]
        assert found[0] >= port
        assert found[1] > found[0]
        for number, at in enumerate(found):
            text = httpx.get(f"http://127.0.0.1:{at}/metrics").text
            (info,) = families(text)["convsweep_worker_info"].samples
            assert info.labels["worker_id"] == str(number)
    finally:
        for server, thread in filter(None, servers):
            server.shutdown()
            thread.join()
            server.server_close()


def test_a_worker_serves_metrics_only_with_a_port() -> None:
    assert (
        serve_metrics(WorkerMetrics("1", open_device("cpu", Settings().runtime_dir)), Settings())
        is None
    )


def test_without_a_gpu_there_are_no_device_metrics() -> None:
    assert list(DeviceCollector(open_device("cpu", Settings().runtime_dir)).collect()) == []


def test_a_gpu_that_the_driver_does_not_know_has_no_metrics() -> None:
    cpu = open_device("cpu", Settings().runtime_dir)
    unknown = Device(
        cpu.torch_device, "cuda", "a GPU", {}, 1, cpu.lock_path,
        uuid="GPU-00000000-0000-0000-0000-000000000000",
    )  # fmt: skip
    assert list(DeviceCollector(unknown).collect()) == []


@pytest.mark.gpu
def test_a_gpu_has_utilisation_and_memory() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    read = {
        one.name: one.samples[0]
        for one in DeviceCollector(open_device("cuda", Settings().runtime_dir)).collect()
    }
    used = read["convsweep_device_memory_used_bytes"].value
    assert 0 < used <= read["convsweep_device_memory_total_bytes"].value
    assert 0 <= read["convsweep_device_utilization_ratio"].value <= 1


def test_the_page_of_metrics_names_every_metric_and_no_other(
    scrape: Callable[[], str], session: Session
) -> None:
    add_sweep(session)
    scrape()  # so that a request has been counted
    cpu = open_device("cpu", Settings().runtime_dir)
    worker = WorkerMetrics("1", cpu)
    worker.note_outcomes([], 0.0)
    exposed = families(scrape()) | families(render(worker.registry).decode())
    gpu = {one.name for one in DeviceCollector(cpu).show(0.5, 1, 2)}
    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    described = re.findall(r"^\| `(convsweep_\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert {name for name, _ in described} == exposed.keys() | gpu
    types = {name: one.type for name, one in exposed.items()} | dict.fromkeys(gpu, "gauge")
    assert dict(described) == types


def test_names_say_their_unit_and_what_counts_ends_in_total(scrape: Callable[[], str]) -> None:
    for name, family in families(scrape()).items():
        assert name.startswith("convsweep_")
        assert family.documentation
        assert family.type != "histogram" or name.endswith("_seconds")


def test_a_claim_is_no_worker_twice(scrape: Callable[[], str], session: Session) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    held = claim(session, sweep_id, 0, worker_id=worker_id)
    assert held is not None
    assert values(scrape())["convsweep_workers", "busy"] == 1
    complete(session, held, successes(held))
    assert values(scrape())["convsweep_workers", "idle"] == 1
