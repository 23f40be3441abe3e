"""From a hint to results in Postgres: claim a group, evaluate it, complete it."""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol as Interface

import structlog
import torch
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from structlog.contextvars import bound_contextvars

from services.leasing import group_leases
from services.leasing.group_leases import Claim
from shared.domain.architecture import Architecture
from shared.domain.errors import (
    DatasetMismatchError,
    DevicePoisonedError,
    StaleLeaseError,
    SweepNotFoundError,
)
from shared.domain.measurements import Environment, JobOutcome
from shared.domain.protocol import Protocol
from shared.domain.status import JobStatus
from shared.settings import Settings
from shared.version import code_version
from worker.device import Device
from worker.engine.data.datasets import Dataset
from worker.engine.evaluate import evaluate_group
from worker.heartbeat import Heartbeat
from worker.metrics import WorkerMetrics
from worker.preparation import Readiness, Ready

log = structlog.get_logger(__name__)

COMPLETION_RETRY_S = 0.5
GIVE_WAY_S = 1.0
FIRST_CLAIM_JOBS = 4  # what a job of a sweep costs here is not known before


class HandBack(BaseException):
    """The worker is asked to stop: the group goes back unharmed."""


class Evaluate(Interface):
    """What turns architectures into outcomes: the engine, or a stand-in that costs nothing."""

    def __call__(
        self,
        architectures: Sequence[Architecture],
        trials: Sequence[range],
        dataset: Dataset,
        protocol: Protocol,
        device: torch.device,
        *,
        memory_budget_bytes: int,
        on_progress: Callable[[], None],
        device_lock: Path | None,
    ) -> list[JobOutcome]: ...


def describe_environment(device: Device, dataset: str, dataset_hash: str) -> Environment:
    """Returns where results are made, and of which images."""
    return Environment(
        code_version=code_version(),
        device_class=device.device_class,
        device=device.model,
        dataset=dataset,
        dataset_hash=dataset_hash,
        versions=device.versions,
    )


class Executor:
    """Evaluates groups on one device, one after another."""

    def __init__(
        self,
        settings: Settings,
        session_factory: sessionmaker[Session],
        device: Device,
        worker_id: uuid.UUID,
        heartbeat: Heartbeat,
        should_stop: Callable[[], bool],
        evaluate: Evaluate = evaluate_group,
    ) -> None:
        self._settings = settings
        self._session_factory = session_factory
        self._device = device
        self.worker_id = worker_id
        self._heartbeat = heartbeat
        self.should_stop = should_stop
        self._evaluate = evaluate
        self.readiness = Readiness(
            session_factory,
            worker_id,
            device,
            settings.data_dir,
            shares_device=device.uuid is not None and settings.workers_per_device > 1,
        )
        self._claim_limits: dict[int, int] = {}  # by sweep, once its jobs' cost is known
        self.metrics = WorkerMetrics(str(worker_id), device)

    def execute_group(self, sweep_id: int, group: int) -> None:
        """Claims and evaluates what is pending in a group until nothing is left to claim.

        A worker that cannot serve the sweep claims nothing, notes the reason and gives way.

        Raises:
            DevicePoisonedError: the process must end; its jobs go back with an attempt burnt.
        """
        with bound_contextvars(sweep_id=sweep_id, group=group):
            self._work_on(sweep_id, group)

    def _work_on(self, sweep_id: int, group: int) -> None:
        try:
            ready = self.readiness.prepare(sweep_id)
        except SweepNotFoundError:
            log.info("hint_ignored")
            return
        if ready is None:
            self._give_way(sweep_id, group)
            return
        while not self.should_stop():
            claim = self._claim(sweep_id, group)
            if claim is None:
                return
            with bound_contextvars(lease=str(claim.token)):
                self._run_claim(claim, ready)
            if not claim.leaves_some:
                return

    def _give_way(self, sweep_id: int, group: int) -> None:
        """Passes a hint on and waits a little, so that a worker that can serve it is faster."""
        with self._session_factory.begin() as session:
            group_leases.decline_group(session, sweep_id, group)
        time.sleep(GIVE_WAY_S)

    def _claim(self, sweep_id: int, group: int) -> Claim | None:
        token = uuid.uuid4()
        try:
            with self._session_factory.begin() as session:
                return group_leases.claim_group(
                    session,
                    sweep_id=sweep_id,
                    group=group,
                    worker_id=self.worker_id,
                    lease_s=self._settings.lease_s,
                    limit=self._claim_limit(sweep_id),
                    token=token,
                )
        except (OperationalError, InterfaceError):
            # it may have been committed without an answer; nobody else would hand it back
            with suppress(OperationalError, InterfaceError), self._session_factory.begin() as again:
                group_leases.release_claim(again, Claim(token, sweep_id, group, ()))
                group_leases.decline_group(again, sweep_id, group)
            raise

    def _run_claim(self, claim: Claim, ready: Ready) -> None:
        started = time.monotonic()
        facts = {"job_ids": [job.id for job in claim.jobs]}
        self._heartbeat.hold(claim.token)
        self.metrics.note_busy(True)
        try:
            outcomes = self._evaluate(
                [job.architecture for job in claim.jobs],
                [job.trials for job in claim.jobs],
                ready.dataset,
                ready.protocol,
                self._device.torch_device,
                memory_budget_bytes=self._device.memory_budget_bytes,
                on_progress=self._on_progress,
                device_lock=self._device.lock_path,
            )
            self._complete(claim, outcomes, self._environment(ready))
            seconds = time.monotonic() - started
            self._fit_claims(claim.sweep_id, seconds / len(claim.jobs))
            self.metrics.note_end("completed")
            log.info("group_completed", jobs=len(claim.jobs), seconds=round(seconds, 3))
        except HandBack:
            self._release(claim)
            log.info("group_handed_back", **facts)
        except StaleLeaseError as error:
            self.metrics.note_end("stale")
            log.warning("group_dropped", **facts, reason=error.message)
        except DatasetMismatchError as error:
            self._release(claim)
            self.readiness.note_problem(claim.sweep_id, error.message)
        except DevicePoisonedError as error:
            self._fail(claim, error)
            raise
        except Exception as error:
            log.exception("group_failed", **facts)
            self._fail(claim, error)
        finally:
            self.metrics.note_busy(False)
            self._heartbeat.drop()

    def _claim_limit(self, sweep_id: int) -> int:
        first = min(FIRST_CLAIM_JOBS, self._settings.claim_jobs)
        return self._claim_limits.get(sweep_id, first)

    def _fit_claims(self, sweep_id: int, job_s: float) -> None:
        """Sizes a sweep's next claim by what its jobs take on this device."""
        fitting = int(self._settings.claim_s / max(job_s, 1e-6))
        self._claim_limits[sweep_id] = max(1, min(self._settings.claim_jobs, fitting))

    def _on_progress(self) -> None:
        self._heartbeat.progress()
        self._heartbeat.check()
        if self.should_stop():
            raise HandBack

    def _environment(self, ready: Ready) -> Environment:
        dataset = ready.dataset
        return describe_environment(self._device, dataset.name, dataset.content_hash)

    def _complete(self, claim: Claim, outcomes: list[JobOutcome], environment: Environment) -> None:
        """Writes results, trying again for as long as the lease lasts while Postgres is away.

        Raises:
            StaleLeaseError: the lease ended before; nothing was written.
            DatasetMismatchError: earlier trials used other images; nothing was written.
        """
        started = time.monotonic()
        deadline = started + self._settings.lease_s
        while True:
            try:
                self._complete_once(claim, outcomes, environment)
                self._note_written(claim, outcomes, time.monotonic() - started)
                return
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("completion_retried", error=str(error).splitlines()[0])
                time.sleep(COMPLETION_RETRY_S)

    def _note_written(self, claim: Claim, outcomes: list[JobOutcome], write_s: float) -> None:
        self.metrics.note_outcomes(outcomes, write_s)
        for job, outcome in zip(claim.jobs, outcomes, strict=True):
            if outcome.status is JobStatus.FAILED:
                log.warning("job_failed", job_id=job.id, reason=outcome.reason, error=outcome.error)

    def _complete_once(
        self, claim: Claim, outcomes: list[JobOutcome], environment: Environment
    ) -> None:
        """Writes results, or finds that an earlier commit, whose answer got lost, wrote them."""
        try:
            with self._session_factory.begin() as session:
                group_leases.complete_claim(session, claim, outcomes, environment)
        except StaleLeaseError:
            with self._session_factory() as session:
                if not group_leases.has_completed(session, claim.token):
                    self.metrics.note_stale_completion()
                    raise
            log.info("completion_found_written")

    def _release(self, claim: Claim) -> None:
        self.metrics.note_end("handed_back")
        with self._session_factory.begin() as session:
            group_leases.release_claim(session, claim)

    def _fail(self, claim: Claim, error: Exception) -> None:
        self.metrics.note_end("failed")
        text = f"{type(error).__name__}: {error}"[:2000]
        with self._session_factory.begin() as session:
            group_leases.fail_claim(
                session, claim, error=text, max_attempts=self._settings.max_attempts
            )
