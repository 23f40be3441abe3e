"""A worker times the reference networks between other work."""

import socket

from shared.domain.reference_set import NETWORKS, VERSION
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.site import Site

TIMING = {"batch_size": 4, "max_s": 0.01}


def test_a_worker_times_the_references_after_its_first_timings_and_once_it_is_idle(
    site: Site,
) -> None:
    site.start_worker()
    site.start_dispatcher()
    site.wait_completed(site.add_sweep(small_sweep(trials=1, timing=TIMING)))
    site.wait(lambda: len(site.rows("SELECT FROM reference_runs")) == 2, "both runs")
    first, last = site.rows("SELECT * FROM reference_runs ORDER BY id")
    for run in (first, last):
        assert run.reference_version == VERSION
        assert len(run.images_per_s) == len(NETWORKS)
        assert run.unit == socket.gethostname()
        assert run.conditions["after"]["load"] is not None
        assert run.invalidated == 0  # a processor's drift is recorded and has no consequence
    assert first.speed_change is None
    assert last.speed_change is not None
    [found] = site.rows(
        "SELECT count(*) AS all, count(*) FILTER (WHERE unit = :unit) AS of_unit FROM timings",
        unit=socket.gethostname(),
    )
    assert found.all == found.of_unit > 0


def test_a_worker_times_the_references_a_last_time_when_it_is_asked_to_stop(site: Site) -> None:
    worker = site.start_worker()
    site.start_dispatcher()
    site.wait_completed(site.add_sweep(small_sweep(trials=1, timing=TIMING)))
    assert worker.stop() == 0
    assert len(site.rows("SELECT FROM reference_runs")) == 2


def test_a_worker_that_times_nothing_times_no_references(site: Site) -> None:
    worker = site.start_worker()
    site.start_dispatcher()
    site.wait_completed(site.add_sweep(small_sweep(trials=1)))
    assert worker.stop() == 0
    assert site.rows("SELECT FROM reference_runs") == []
