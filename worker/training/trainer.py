"""The worker's way from a hint about a training to its curve and weights."""

import json
import uuid
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session, sessionmaker
from structlog.contextvars import bound_contextvars

from services.leasing import training_leases
from services.leasing.training_leases import TrainingRequirements
from shared.domain.errors import (
    CheckpointError,
    InvalidInputError,
    NonFiniteError,
    TrainingNotFoundError,
)
from shared.domain.recipe import EpochResult, best_epoch
from shared.domain.status import TrainingStatus
from shared.settings import Settings
from worker.device import Device
from worker.device_lock import DeviceLock, ReportWaiting
from worker.engine.cpu.allocator import freed_memory_kept
from worker.engine.data.datasets import Dataset
from worker.engine.training.loop import Training
from worker.lease_runner import LeaseRunner
from worker.metrics import WorkerMetrics, WorkKind
from worker.preparation import Preparation
from worker.training.checkpoints import (
    TrainingFiles,
    drop_leftovers,
    fingerprint,
    trainings_with_checkpoint,
)

log = structlog.get_logger(__name__)


@dataclass
class TrainingLease:
    """A lease of one training."""

    training_id: int
    worker_id: uuid.UUID
    lease_s: float
    token: uuid.UUID = field(default_factory=uuid.uuid4)
    kind: WorkKind = "training"
    permanent_errors: tuple[type[Exception], ...] = (NonFiniteError, InvalidInputError)

    @property
    def facts(self) -> dict[str, object]:
        return {}  # the log already has the training's id

    def claim(self, session: Session) -> bool:
        return training_leases.claim_training(
            session,
            self.training_id,
            worker_id=self.worker_id,
            token=self.token,
            lease_s=self.lease_s,
        )

    def decline(self, session: Session) -> None:
        training_leases.decline_training(session, self.training_id)

    def release(self, session: Session) -> None:
        training_leases.release_training(session, self.token)

    def fail(self, session: Session, error: str, max_attempts: int) -> None:
        training_leases.fail_training(session, self.token, error=error, max_attempts=max_attempts)


class Trainer:
    """Trains networks on one device, one after another."""

    def __init__(
        self,
        settings: Settings,
        session_factory: sessionmaker[Session],
        device: Device,
        worker_id: uuid.UUID,
        runner: LeaseRunner,
        preparation: Preparation,
        metrics: WorkerMetrics,
        report_waiting: ReportWaiting,
    ) -> None:
        self._settings = settings
        self._session_factory = session_factory
        self._device = device
        self._worker_id = worker_id
        self._runner = runner
        self._preparation = preparation
        self._metrics = metrics
        self._lock = DeviceLock(device.lock_path, report_waiting)

    def train(self, training_id: int) -> None:
        """Claims a training and works on it until it ends in any way.

        A worker that cannot serve it claims nothing, records the reason and yields to other
        workers.

        Raises:
            DevicePoisonedError: the process must end; the training returned and consumed an
                attempt.
        """
        with bound_contextvars(training_id=training_id):
            try:
                terms = self._requirements(training_id)
            except TrainingNotFoundError:
                log.info("hint_ignored")
                return
            if terms.status is not TrainingStatus.PENDING:
                return
            lease = TrainingLease(training_id, self._worker_id, self._settings.lease_s)
            images = self._preparation.prepare_training(terms)
            if images is None:
                self._runner.decline(lease)
            elif self._runner.claim(lease):
                with bound_contextvars(lease=str(lease.token)), self._memory():
                    self._runner.run(lease, lambda: self._run(terms, images, lease))
                if not self._runner.should_stop():
                    self._tidy()

    def _memory(self) -> AbstractContextManager[object]:
        on_cpu = self._device.torch_device.type == "cpu"
        return freed_memory_kept() if on_cpu else nullcontext()

    def _requirements(self, training_id: int) -> TrainingRequirements:
        with self._session_factory() as session:
            return training_leases.get_training_requirements(session, training_id)

    def _tidy(self) -> None:
        """Deletes files that are no longer needed; one that cannot be deleted stays."""
        folder = self._settings.trainings
        for training_id in trainings_with_checkpoint(folder):
            try:
                self._drop_ended(training_id)
            except (OSError, ValidationError) as error:
                log.warning("checkpoint_not_dropped", training_id=training_id, error=str(error))
        try:
            drop_leftovers(folder)
        except OSError as error:
            log.warning("leftovers_not_dropped", error=str(error))

    def _drop_ended(self, training_id: int) -> None:
        """Deletes the checkpoint of a training that will not go on: cancelled, or completed."""
        try:
            terms = self._requirements(training_id)
        except TrainingNotFoundError:
            return  # its sweep was deleted, or it belongs to another service
        if terms.status in (TrainingStatus.COMPLETED, TrainingStatus.CANCELLED):
            self._files(terms, str(terms.dataset_hash)).drop_checkpoint()

    def _files(self, terms: TrainingRequirements, dataset_hash: str) -> TrainingFiles:
        mark = fingerprint(terms.architecture, terms.recipe, dataset_hash)
        return TrainingFiles(self._settings.trainings, terms.training_id, mark)

    def _run(self, terms: TrainingRequirements, images: Dataset, lease: TrainingLease) -> None:
        files = self._files(terms, images.content_hash)
        training, note = self._resume(terms, images, files)
        environment = self._device.environment(images.name, images.content_hash)
        parameters = sum(part.numel() for part in training.network.parameters())
        self._runner.write(
            lambda session: training_leases.begin_training(
                session, lease.token, training.results, environment,
                parameters=parameters, note=note,
            )
        )  # fmt: skip
        while not training.is_complete:
            hold = self._lock.shared if terms.recipe.share_device else self._lock.exclusive
            # between epochs a worker that waits to time a network gets the device
            with hold(self._runner.report_progress):
                result = training.run_epoch(self._runner.report_progress)
            self._append(result, lease)
            if result.epoch % terms.recipe.checkpoint_epochs == 0:
                self._save(training, files, lease)
        weights = self._write_weights(terms, training, files, lease)
        self._complete(lease, weights)
        files.drop_checkpoint()

    def _append(self, result: EpochResult, lease: TrainingLease) -> None:
        self._runner.write(
            lambda session: training_leases.append_epoch(session, lease.token, result)
        )
        self._metrics.note_epoch(result.seconds)
        log.info("epoch_completed", epoch=result.epoch)

    def _resume(
        self, terms: TrainingRequirements, images: Dataset, files: TrainingFiles
    ) -> tuple[Training, str | None]:
        """Returns the training where its checkpoint left it; from its start without a usable one.

        The note says what was wrong with the checkpoint.
        """
        try:
            return self._from_checkpoint(terms, images, files), None
        except CheckpointError as error:
            wrong = error.message
        log.warning("checkpoint_unusable", error=wrong)
        training = self._new(terms, images)  # the unusable one is gone: memory holds only one
        files.set_aside()
        return training, f"Begun anew: {wrong}"

    def _from_checkpoint(
        self, terms: TrainingRequirements, images: Dataset, files: TrainingFiles
    ) -> Training:
        training, state = self._new(terms, images), files.load()
        if state is not None:
            training.load_state(state)
            log.info("training_resumed", epoch=len(training.results))
        return training

    def _new(self, terms: TrainingRequirements, images: Dataset) -> Training:
        device = self._device
        return Training(terms.architecture, terms.recipe, images, device.torch_device, device.model)

    def _save(self, training: Training, files: TrainingFiles, lease: TrainingLease) -> None:
        """Writes a checkpoint; the training continues where the disk is full."""
        try:
            files.save(training.state())
        except OSError as error:
            self._note(lease, f"No checkpoint could be written after epoch "
                              f"{len(training.results)}: {error}")  # fmt: skip

    def _write_weights(
        self,
        terms: TrainingRequirements,
        training: Training,
        files: TrainingFiles,
        lease: TrainingLease,
    ) -> str | None:
        best = best_epoch(training.results)
        facts = {
            "architecture": str(terms.architecture),
            "input_shape": json.dumps(terms.protocol.input_shape),
            "epoch": str(best.epoch),
            "validation_accuracy": str(best.validation_accuracy),
        }
        try:
            files.write_weights(training.best_weights, facts)
        except OSError as error:
            self._note(lease, f"The best weights could not be written: {error}")
            return None
        return files.weights.name

    def _note(self, lease: TrainingLease, note: str) -> None:
        log.warning("training_noted", note=note)
        self._runner.write(
            lambda session: training_leases.note_training(session, lease.token, note)
        )

    def _complete(self, lease: TrainingLease, weights: str | None) -> None:
        self._runner.complete(
            lease,
            lambda session: training_leases.complete_training(session, lease.token, weights),
        )
        log.info("training_completed")
