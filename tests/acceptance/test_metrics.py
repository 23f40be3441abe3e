"""What API and worker expose after a real sweep, held against the database."""

import httpx

from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.site import Site
from tests.acceptance.faults.test_api import start_api
from tests.conftest import free_port
from tests.integration.monitoring.test_metrics import Values, values


def test_what_api_and_worker_count_is_what_the_database_has_after_a_real_sweep(
    site: Site,
) -> None:
    port = free_port()
    sweep_id = site.add_sweep(small_sweep(timing={"max_s": 0.02}))
    site.start_dispatcher()
    site.start_worker(CONVSWEEP_METRICS_PORT=str(port))
    _, url = start_api(site)
    site.wait_completed(sweep_id)

    def scrape_worker() -> Values:
        return values(httpx.get(f"http://127.0.0.1:{port}/metrics").text)

    # what the worker counts, it counts after its commit
    site.wait(lambda: not scrape_worker()["convsweep_worker_busy",], "the end of the last claim")
    worker = scrape_worker()
    api = values(httpx.get(f"{url}/metrics").text)

    counts = site.counts(sweep_id)
    assert counts["completed"] > 30
    for status, count in counts.items():
        assert api["convsweep_jobs", status] == count
        assert worker.get(("convsweep_worker_jobs_total", status), 0) == count
    [trials] = site.rows("""
        SELECT count(*) AS n, (SELECT count(*) FROM timings) AS timed, sum(fit_s) AS fit_s
        FROM trials
    """)
    for stage, expected in {"probe": trials.n, "fit": trials.n, "write": trials.n}.items():
        assert worker["convsweep_worker_trial_seconds_count", stage] == expected
    assert worker["convsweep_worker_trial_seconds_count", "timing"] == trials.timed > 0
    fit_s = worker["convsweep_worker_trial_seconds_sum", "fit"]
    assert abs(fit_s - trials.fit_s) < 1e-6 * trials.fit_s
    assert worker["convsweep_worker_trial_seconds_sum", "probe"] >= fit_s
    assert worker["convsweep_worker_trial_seconds_sum", "timing"] > 0
    [leases] = site.rows("SELECT count(*) AS n FROM leases WHERE outcome = 'completed'")
    assert worker["convsweep_worker_groups_total", "completed"] == leases.n
    assert worker["convsweep_worker_stale_completions_total",] == 0
    assert api["convsweep_leases_expired_total",] == 0
    assert (api["convsweep_sweeps", "completed"], api["convsweep_sweeps", "running"]) == (1, 0)
    assert (api["convsweep_groups_pending",], api["convsweep_leases_open",]) == (0, 0)
    assert api["convsweep_workers", "idle"] == 1
    assert api["convsweep_database_up",] == api["convsweep_broker_up",] == 1
