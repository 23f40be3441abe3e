"""The worker's way from a hint to results, on a real Postgres that loses answers."""

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from services.sweeps.control import cancel_sweep, pause_sweep
from services.sweeps.creation import create_sweep
from shared.domain.measurements import JobOutcome
from shared.domain.protocol import DeviceClass, Protocol, Timing
from shared.settings import Settings
from tests.conftest import SessionFactory
from tests.integration.database.cutting_proxy import Cut, CuttingProxy
from tests.integration.scenario import (
    GROUP_SIZE,
    add_worker,
    assert_counts_add_up,
    small_protocol,
    small_space,
    success,
    trial,
)
from worker import device_lock
from worker.device import open_device
from worker.device_lock import DeviceLock
from worker.evaluation import executor as executor_module
from worker.evaluation.executor import Executor
from worker.evaluation.request import Evaluate, GroupRequest
from worker.heartbeat import Heartbeat
from worker.lease_runner import LeaseRunner
from worker.metrics import WorkerMetrics
from worker.process import make_duties

OWN_SHAPE = (3, 8, 8)


def evaluate(request: GroupRequest) -> list[JobOutcome]:
    """An engine that returns at once."""
    return [success([trial(number) for number in trials]) for trials in request.trials]


class Site:
    """What a worker needs, and what it has done."""

    def __init__(self, settings: Settings, session: Session) -> None:
        self.settings, self.session = settings, session

    def executor(
        self,
        factory: sessionmaker[Session],
        data_dir: Path | None = None,
        engine: Evaluate = evaluate,
        resend_s: float = 1e-6,  # the worker looks again at every hint
    ) -> Executor:
        settings = self.settings.model_copy(
            update={
                "data_dir": data_dir or self.settings.data_dir,
                "lease_s": 30.0,
                "resend_s": resend_s,
            }
        )
        self.worker_id = add_worker(self.session)
        beat = Heartbeat(factory, self.worker_id, lease_s=30, progress_deadline_s=600)
        device = open_device("cpu", settings.runtime_dir)
        self.metrics = WorkerMetrics(str(self.worker_id), device)
        runner = LeaseRunner(
            settings, factory, beat, self.metrics, lambda: False,
            retry_pause_s=0.01,
        )  # fmt: skip
        return make_duties(
            settings, factory, device, self.worker_id, runner, self.metrics, engine
        ).executor

    def add_sweep(self, protocol: Protocol) -> int:
        sweep = create_sweep(self.session, small_space(1), protocol)
        self.session.commit()
        return sweep.id

    def scalar(self, query: str) -> Any:
        found = self.session.execute(text(query)).scalar_one()
        self.session.commit()
        return found

    def problem(self) -> str | None:
        """Returns the only problem of the newest worker; None where it has none."""
        problems = text("SELECT problem FROM worker_problems WHERE worker_id = :id")
        rows = self.session.execute(problems, {"id": self.worker_id})
        problem: str | None = rows.scalar_one_or_none()
        self.session.commit()
        return problem


@pytest.fixture
def site(migrated: Settings, session: Session) -> Site:
    return Site(migrated, session)


def cutting_engine(proxy: CuttingProxy, cut: Cut) -> Evaluate:
    """An engine after which the commit of the results is cut."""

    def evaluate_then_cut(request: GroupRequest) -> list[JobOutcome]:
        proxy.cut = cut
        return evaluate(request)

    return evaluate_then_cut


@pytest.mark.parametrize("cut", Cut)
def test_completion_whose_commit_gets_no_answer_is_written_once_and_known_as_done(
    cut: Cut,
    site: Site,
    proxy: CuttingProxy,
    far_sessions: SessionFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sweep_id = site.add_sweep(small_protocol())
    executor = site.executor(far_sessions, engine=cutting_engine(proxy, cut))
    executor.execute_group(sweep_id, 0)
    assert proxy.cuts == 1
    assert assert_counts_add_up(site.session, sweep_id) == {"completed": GROUP_SIZE}
    assert site.scalar("SELECT count(*) FROM trials") == 2 * GROUP_SIZE
    assert site.scalar("SELECT array_agg(outcome)::text FROM leases") == "{completed}"
    assert site.scalar("SELECT count(*) FROM attempts") == GROUP_SIZE
    assert site.scalar("SELECT max(attempt) FROM jobs") == 1
    assert "group_dropped" not in caplog.text


@pytest.mark.parametrize("cut", Cut)
def test_claim_whose_commit_gets_no_answer_consumes_no_attempt(
    cut: Cut, site: Site, proxy: CuttingProxy, far_sessions: SessionFactory
) -> None:
    sweep_id = site.add_sweep(small_protocol())
    executor = site.executor(far_sessions)
    executor.execute_group(sweep_id, 99)  # knows the sweep by now; the group has no jobs
    proxy.cut = cut
    with pytest.raises(OperationalError):
        executor.execute_group(sweep_id, 0)
    assert proxy.cuts == 1
    assert assert_counts_add_up(site.session, sweep_id) == {"pending": GROUP_SIZE}
    assert site.scalar("SELECT max(attempt) FROM jobs") == 0
    executor.execute_group(sweep_id, 0)
    assert assert_counts_add_up(site.session, sweep_id) == {"completed": GROUP_SIZE}


def test_completion_of_a_lease_that_was_ended_is_dropped(
    site: Site, sessions: SessionFactory
) -> None:
    sweep_id = site.add_sweep(small_protocol())

    def expire_meanwhile(request: GroupRequest) -> list[JobOutcome]:
        from services.dispatching.dispatch import reap_expired_leases

        with sessions.begin() as other:
            other.execute(text("UPDATE leases SET expires_at = now() - interval '1 s'"))
            reap_expired_leases(other, max_attempts=3)
        return evaluate(request)

    site.executor(sessions, engine=expire_meanwhile).execute_group(sweep_id, 0)
    assert assert_counts_add_up(site.session, sweep_id) == {"pending": GROUP_SIZE}
    assert site.scalar("SELECT count(*) FROM trials") == 0


def write_dataset(folder: Path, seed: int, shape: tuple[int, int, int] = OWN_SHAPE) -> Path:
    """Writes a dataset called ``mine`` whose images depend on the seed."""
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 256, (600, *shape), dtype=np.uint8)
    labels = np.arange(600) % 10
    np.savez(folder / "mine.npz", train_x=images, train_y=labels, test_x=images, test_y=labels)
    return folder


def own_protocol() -> Protocol:
    return Protocol(dataset="mine", input_shape=OWN_SHAPE, trials=1)


def test_worker_with_other_images_than_the_first_trials_claims_nothing(
    site: Site, sessions: SessionFactory, tmp_path: Path
) -> None:
    sweep = create_sweep(site.session, small_space(2), own_protocol())
    site.session.commit()
    first = site.executor(sessions, write_dataset(tmp_path / "a", seed=1))
    first.execute_group(sweep.id, 0)
    pinned = site.scalar("SELECT dataset_hash FROM sweeps")
    assert pinned == site.scalar("SELECT dataset_hash FROM environments")
    other = site.executor(sessions, write_dataset(tmp_path / "b", seed=2))
    other.execute_group(sweep.id, 1)
    counts = assert_counts_add_up(site.session, sweep.id)
    assert counts == {"completed": GROUP_SIZE, "pending": GROUP_SIZE}
    assert site.scalar("SELECT count(*) FROM leases") == 1
    problem = site.problem()
    assert problem is not None
    assert pinned[:12] in problem
    write_dataset(tmp_path / "b", seed=1)  # the right file is put there
    other.execute_group(sweep.id, 1)
    assert site.problem() is None
    assert assert_counts_add_up(site.session, sweep.id) == {"completed": 2 * GROUP_SIZE}


def test_of_two_first_completions_with_different_images_one_is_released(
    site: Site, sessions: SessionFactory, tmp_path: Path
) -> None:
    sweep = create_sweep(site.session, small_space(2), own_protocol())
    site.session.commit()
    faster = site.executor(sessions, write_dataset(tmp_path / "a", seed=1))

    def overtaken(request: GroupRequest) -> list[JobOutcome]:
        faster.execute_group(sweep.id, 1)
        return evaluate(request)

    slower = site.executor(sessions, write_dataset(tmp_path / "b", seed=2), engine=overtaken)
    slower.execute_group(sweep.id, 0)
    counts = assert_counts_add_up(site.session, sweep.id)
    assert counts == {"completed": GROUP_SIZE, "pending": GROUP_SIZE}
    assert site.scalar("SELECT max(attempt) FROM jobs WHERE group_index = 0") == 0
    assert site.scalar("SELECT count(DISTINCT dataset_hash) FROM environments") == 1
    assert "mine" in (site.problem() or "")


def test_worker_that_lacks_the_device_or_the_dataset_claims_nothing_and_passes_the_hint_on(
    site: Site, sessions: SessionFactory
) -> None:
    wants_cuda = small_protocol().model_copy(update={"device_class": DeviceClass.CUDA})
    for protocol, word in [(wants_cuda, "cuda"), (own_protocol(), "mine.npz")]:
        sweep_id = site.add_sweep(protocol)
        site.session.execute(text("UPDATE groups SET hinted_at = now()"))
        site.session.commit()
        site.executor(sessions).execute_group(sweep_id, 0)
        assert word in (site.problem() or "")
        assert assert_counts_add_up(site.session, sweep_id) == {"pending": GROUP_SIZE}
        waiting = "SELECT count(*) FROM groups WHERE hinted_at < now() - interval '1 day'"
        assert site.scalar(f"{waiting} AND sweep_id = {sweep_id}") == 1
    assert site.scalar("SELECT count(*) FROM leases") == 0


def test_worker_probes_for_another_device_model_and_then_passes_the_timing_on(
    site: Site, sessions: SessionFactory
) -> None:
    timing = Timing(device_model="NVIDIA H100 80GB HBM3")
    sweep_id = site.add_sweep(small_protocol().model_copy(update={"timing": timing}))
    asked: list[bool] = []

    def probe(request: GroupRequest) -> list[JobOutcome]:
        asked.extend(request.timed)
        return [
            success([trial(number, images_per_s=None) for number in trials])
            for trials in request.trials
        ]

    executor = site.executor(sessions, engine=probe)
    executor.execute_group(sweep_id, 0)
    assert asked == [True] * GROUP_SIZE  # nothing for this device to time
    assert site.problem() is None
    executor.execute_group(sweep_id, 0)
    assert len(asked) == GROUP_SIZE
    assert "waits to be timed on NVIDIA H100 80GB HBM3" in (site.problem() or "")
    assert assert_counts_add_up(site.session, sweep_id) == {"pending": GROUP_SIZE}
    waiting = "SELECT count(*) FROM groups WHERE hinted_at < now() - interval '1 day'"
    assert site.scalar(waiting) == 1


def test_work_for_another_sweep_leaves_a_problem_that_is_still_there(
    site: Site, sessions: SessionFactory, tmp_path: Path
) -> None:
    lacking, served = site.add_sweep(own_protocol()), site.add_sweep(small_protocol())
    executor = site.executor(sessions, tmp_path)
    executor.execute_group(lacking, 0)
    executor.execute_group(served, 0)
    assert assert_counts_add_up(site.session, served) == {"completed": GROUP_SIZE}
    assert "mine" in (site.problem() or "")
    assert site.scalar("SELECT sweep_id FROM worker_problems") == lacking
    write_dataset(tmp_path, seed=1)  # the cause is gone
    executor.execute_group(lacking, 0)
    assert site.problem() is None


def test_worker_advertises_a_dataset_with_its_hash_once_loaded(
    site: Site, sessions: SessionFactory, tmp_path: Path
) -> None:
    executor = site.executor(sessions, write_dataset(tmp_path / "a", seed=1))
    executor.execute_group(site.add_sweep(own_protocol()), 0)
    row = text("SELECT datasets FROM workers WHERE id = :id")
    datasets = site.session.execute(row, {"id": site.worker_id}).scalar_one()
    assert datasets == {"digits": [], "mine": [site.scalar("SELECT dataset_hash FROM sweeps")]}


def test_hint_of_a_paused_or_unknown_sweep_claims_nothing(
    site: Site, sessions: SessionFactory
) -> None:
    sweep_id = site.add_sweep(small_protocol())
    pause_sweep(site.session, sweep_id)
    site.session.commit()
    executor = site.executor(sessions)
    executor.execute_group(sweep_id, 0)
    executor.execute_group(404, 0)
    assert site.scalar("SELECT count(*) FROM leases") == 0


def test_hint_of_a_cancelled_sweep_costs_no_look_at_its_images(
    site: Site, sessions: SessionFactory, tmp_path: Path
) -> None:
    sweep_id = site.add_sweep(own_protocol())  # no worker has its images
    cancel_sweep(site.session, sweep_id)
    site.session.commit()
    site.executor(sessions, tmp_path).execute_group(sweep_id, 0)
    assert site.problem() is None


def test_hints_of_an_unservable_sweep_cost_one_look_until_the_resend_time_and_no_pause(
    site: Site, sessions: SessionFactory, tmp_path: Path
) -> None:
    sweep_id = site.add_sweep(own_protocol())
    executor = site.executor(sessions, tmp_path, resend_s=3.0)
    executor.execute_group(sweep_id, 0)
    started = time.monotonic()
    write_dataset(tmp_path, seed=1)  # a second look would find it
    for _ in range(32):
        executor.execute_group(sweep_id, 0)
    assert time.monotonic() - started < 1.4
    assert assert_counts_add_up(site.session, sweep_id) == {"pending": GROUP_SIZE}
    time.sleep(1.5)
    executor.execute_group(sweep_id, 0)
    assert assert_counts_add_up(site.session, sweep_id) == {"completed": GROUP_SIZE}


def test_only_a_change_of_a_problem_is_logged(
    site: Site, sessions: SessionFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (site.add_sweep(own_protocol()) for _ in range(2))
    executor = site.executor(sessions, tmp_path)
    for _ in range(3):
        executor.execute_group(first, 0)
        executor.execute_group(second, 0)
    assert caplog.text.count("cannot_work") == 2  # once for each sweep
    (tmp_path / "mine.npz").write_bytes(b"no archive")
    executor.execute_group(first, 0)
    assert caplog.text.count("cannot_work") == 3


def test_worker_that_waits_long_for_its_device_is_blocked_until_it_has_it(
    site: Site, sessions: SessionFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "REPORT_AFTER_S", 0.1)
    path = tmp_path / "device.lock"
    problem = "SELECT problem FROM workers"
    seen: list[str | None] = []

    def evaluate_beside_another_process(request: GroupRequest) -> list[JobOutcome]:
        with contextlib.ExitStack() as other:
            other.enter_context(DeviceLock(path).exclusive(request.on_progress))

            def progress() -> None:
                request.on_progress()
                seen.append(site.scalar(problem))
                if seen[-1] is not None:
                    other.close()

            with DeviceLock(path, request.report_waiting).shared(progress):
                seen.append(site.scalar(problem))
        return evaluate(request)

    sweep_id = site.add_sweep(small_protocol())
    site.executor(sessions, engine=evaluate_beside_another_process).execute_group(sweep_id, 0)
    assert seen[0] is None
    assert any(text is not None and str(path) in text for text in seen)
    assert seen[-1] is None


def test_first_claim_of_a_sweep_is_small_and_later_ones_take_seconds(
    site: Site, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job costs is learnt from each sweep anew; cheap jobs go in whole groups."""
    monkeypatch.setattr(executor_module, "FIRST_CLAIM_JOBS", 3)
    claimed: list[int] = []

    def watched(request: GroupRequest) -> list[JobOutcome]:
        claimed.append(len(request.architectures))
        return evaluate(request)

    executor = site.executor(sessions, engine=watched)
    for _ in range(2):
        sweep = create_sweep(site.session, small_space(2), small_protocol())
        site.session.commit()
        executor.execute_group(sweep.id, 0)
        executor.execute_group(sweep.id, 1)
    assert claimed == [3, GROUP_SIZE - 3, GROUP_SIZE] * 2
