"""The worker's way from a hint about a training to its curve and weights."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from structlog.contextvars import bound_contextvars

from services.leasing import group_leases, training_leases
from services.leasing.training_leases import TrainingTerms
from shared.domain.errors import (
    CheckpointError,
    DevicePoisonedError,
    InvalidInputError,
    NonFiniteError,
    StaleLeaseError,
    TrainingNotFoundError,
)
from shared.domain.recipe import best_epoch
from shared.domain.status import TrainingStatus
from shared.settings import Settings
from worker.device import Device
from worker.engine.cpu.memory import freed_memory_kept
from worker.engine.data.datasets import TrainingImages
from worker.engine.timing import DeviceLock
from worker.engine.training.loop import Training
from worker.evaluation.executor import (
    COMPLETION_RETRY_S,
    GIVE_WAY_S,
    HandBack,
    describe_environment,
)
from worker.heartbeat import Heartbeat
from worker.metrics import WorkerMetrics
from worker.preparation import Readiness
from worker.training.checkpoints import (
    TrainingFiles,
    drop_leftovers,
    fingerprint,
    trainings_with_checkpoint,
)

log = structlog.get_logger(__name__)


class Trainer:
    """Trains networks on one device, one after another."""

    def __init__(
        self,
        settings: Settings,
        session_factory: sessionmaker[Session],
        device: Device,
        worker_id: uuid.UUID,
        heartbeat: Heartbeat,
        should_stop: Callable[[], bool],
        readiness: Readiness,
        metrics: WorkerMetrics,
    ) -> None:
        self._settings = settings
        self._session_factory = session_factory
        self._device = device
        self._worker_id = worker_id
        self._heartbeat = heartbeat
        self.should_stop = should_stop
        self._readiness = readiness
        self._metrics = metrics
        self._lock = DeviceLock(device.lock_path)

    def train(self, training_id: int) -> None:
        """Claims a training and works on it until it ends, one way or another.

        A worker that cannot serve it claims nothing, notes the reason and gives way.

        Raises:
            DevicePoisonedError: the process must end; the training goes back, an attempt burnt.
        """
        with bound_contextvars(training_id=training_id):
            try:
                terms = self._terms(training_id)
            except TrainingNotFoundError:
                log.info("hint_ignored")
                return
            if terms.status is not TrainingStatus.PENDING:
                return
            images = self._readiness.prepare_training(terms)
            if images is None:
                time.sleep(GIVE_WAY_S)  # so that a worker that can serve it is faster
                return
            token = uuid.uuid4()
            if self._claim(training_id, token):
                with bound_contextvars(lease=str(token)), self._memory():
                    self._work(terms, images, token)
                if not self.should_stop():
                    self._tidy()

    def _memory(self) -> AbstractContextManager[object]:
        on_cpu = self._device.torch_device.type == "cpu"
        return freed_memory_kept() if on_cpu else nullcontext()

    def _terms(self, training_id: int) -> TrainingTerms:
        with self._session_factory() as session:
            return training_leases.get_training_terms(session, training_id)

    def _claim(self, training_id: int, token: uuid.UUID) -> bool:
        with self._session_factory.begin() as session:
            return training_leases.claim_training(
                session, training_id,
                worker_id=self._worker_id, token=token, lease_s=self._settings.lease_s,
            )  # fmt: skip

    def _work(self, terms: TrainingTerms, images: TrainingImages, token: uuid.UUID) -> None:
        self._heartbeat.hold(token)
        self._metrics.note_busy(True)
        try:
            self._run(terms, images, token)
            log.info("training_completed")
        except HandBack:
            with self._session_factory.begin() as session:
                training_leases.release_training(session, token)
            log.info("training_handed_back")
        except StaleLeaseError as error:
            log.warning("training_dropped", reason=error.message)
        except (NonFiniteError, InvalidInputError) as error:
            self._fail(token, error, attempts=1)  # it would end the same way again
        except DevicePoisonedError as error:
            self._fail(token, error)
            raise
        except Exception as error:
            log.exception("training_failed")
            self._fail(token, error)
        finally:
            self._metrics.note_busy(False)
            self._heartbeat.drop()

    def _tidy(self) -> None:
        """Deletes files of which nobody has any use; one that cannot be deleted stays."""
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
            terms = self._terms(training_id)
        except TrainingNotFoundError:
            return  # of a sweep that is no more, or another service's
        if terms.status in (TrainingStatus.COMPLETED, TrainingStatus.CANCELLED):
            self._files(terms, str(terms.dataset_hash)).drop_checkpoint()

    def _files(self, terms: TrainingTerms, dataset_hash: str) -> TrainingFiles:
        mark = fingerprint(terms.architecture, terms.recipe, dataset_hash)
        return TrainingFiles(self._settings.trainings, terms.training_id, mark)

    def _run(self, terms: TrainingTerms, images: TrainingImages, token: uuid.UUID) -> None:
        files = self._files(terms, images.content_hash)
        training, note = self._resume(terms, images, files)
        environment = describe_environment(self._device, images.name, images.content_hash)
        parameters = sum(part.numel() for part in training.network.parameters())
        self._write(
            lambda session: training_leases.begin_training(
                session, token, training.results, environment, parameters=parameters, note=note
            )
        )
        while not training.is_complete:
            with self._alone(terms):
                result = training.run_epoch(self._on_progress)
            self._write(lambda session: training_leases.append_epoch(session, token, result))  # noqa: B023
            log.info("epoch_completed", epoch=result.epoch)
            if result.epoch % terms.recipe.checkpoint_epochs == 0:
                self._save(training, files, token)
        weights = self._write_weights(terms, training, files, token)
        self._complete(token, weights)
        files.drop_checkpoint()

    def _resume(
        self, terms: TrainingTerms, images: TrainingImages, files: TrainingFiles
    ) -> tuple[Training, str | None]:
        """Returns the training where its checkpoint left it; from its start without a usable one.

        The note says what was wrong with the checkpoint.
        """
        try:
            return self._from_checkpoint(terms, images, files), None
        except CheckpointError as error:
            wrong = error.message
        log.warning("checkpoint_unusable", error=wrong)
        training = self._new(terms, images)  # the other one is no more: there is room for one
        files.set_aside()
        return training, f"Begun anew: {wrong}"

    def _from_checkpoint(
        self, terms: TrainingTerms, images: TrainingImages, files: TrainingFiles
    ) -> Training:
        training, state = self._new(terms, images), files.load()
        if state is not None:
            training.load_state(state)
            log.info("training_resumed", epoch=len(training.results))
        return training

    def _new(self, terms: TrainingTerms, images: TrainingImages) -> Training:
        device = self._device
        return Training(terms.architecture, terms.recipe, images, device.torch_device, device.model)

    @contextmanager
    def _alone(self, terms: TrainingTerms) -> Iterator[None]:
        """Holds the device for an epoch: alone where its rate is reported, else with others.

        Between epochs whoever waits to time a network has its turn.
        """
        share = terms.recipe.share_device
        hold = self._lock.shared if share else self._lock.exclusive
        with hold(self._on_progress):
            yield

    def _on_progress(self) -> None:
        self._heartbeat.progress()
        self._heartbeat.check()
        if self.should_stop():
            raise HandBack

    def _save(self, training: Training, files: TrainingFiles, token: uuid.UUID) -> None:
        """Writes a checkpoint; the training goes on where there is no room for it."""
        try:
            files.save(training.state())
        except OSError as error:
            self._note(token, f"No checkpoint could be written after epoch "
                              f"{len(training.results)}: {error}")  # fmt: skip

    def _write_weights(
        self, terms: TrainingTerms, training: Training, files: TrainingFiles, token: uuid.UUID
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
            self._note(token, f"The best weights could not be written: {error}")
            return None
        return files.weights.name

    def _note(self, token: uuid.UUID, note: str) -> None:
        log.warning("training_noted", note=note)
        self._write(lambda session: training_leases.note_training(session, token, note))

    def _complete(self, token: uuid.UUID, weights: str | None) -> None:
        """Ends the training, or finds that an earlier commit, whose answer got lost, ended it."""
        try:
            self._write(lambda session: training_leases.complete_training(session, token, weights))
        except StaleLeaseError:
            with self._session_factory() as session:
                if not group_leases.has_completed(session, token):
                    raise
            log.info("completion_found_written")

    def _write(self, change: Callable[[Session], None]) -> None:
        """Changes the database, trying again for as long as the lease lasts while it is away."""
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                with self._session_factory.begin() as session:
                    change(session)
                return
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("epoch_retried", error=str(error).splitlines()[0])
                time.sleep(COMPLETION_RETRY_S)

    def _fail(self, token: uuid.UUID, error: Exception, attempts: int | None = None) -> None:
        text = f"{type(error).__name__}: {error}"[:2000]
        with self._session_factory.begin() as session:
            training_leases.fail_training(
                session, token, error=text, max_attempts=attempts or self._settings.max_attempts
            )
