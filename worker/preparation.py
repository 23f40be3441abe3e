"""Preparing this worker for sweeps and trainings: its device, its datasets, its problems."""

import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from services.leasing import datasets, group_leases
from services.leasing.group_leases import Requirements
from services.leasing.training_leases import TrainingRequirements
from services.monitoring import workers
from shared.domain.errors import DatasetError, DatasetMismatchError, DeviceUnavailableError
from shared.domain.protocol import DeviceClass, Protocol
from worker.device import Device
from worker.engine.data.datasets import (
    Dataset,
    list_datasets,
    load_dataset,
    load_training_images,
)
from worker.problems import Problems, Work

Key = TypeVar("Key", bound=Hashable)

KEPT_DATASETS = 2
KEPT_REQUIREMENTS = 64


@dataclass(frozen=True, slots=True)
class PreparedSweep:
    """What the evaluation of a sweep's groups needs on this worker."""

    protocol: Protocol
    dataset: Dataset


class Preparation:
    """Prepares this worker for sweeps and records in the database what it has and lacks."""

    def __init__(
        self,
        session_factory: sessionmaker[Session],
        worker_id: uuid.UUID,
        device: Device,
        data_dir: Path,
        problems: Problems,
        *,
        max_dataset_bytes: int,
        shares_device: bool = False,
    ) -> None:
        self._session_factory = session_factory
        self._worker_id = worker_id
        self._device = device
        self._data_dir = data_dir
        self._shares_device = shares_device
        self._requirements: dict[int, Requirements] = {}
        self._loaded: dict[Protocol, Dataset] = {}
        self._training_images: dict[object, Dataset] = {}
        self._max_bytes = max_dataset_bytes
        self._advertised = available_datasets(data_dir, max_dataset_bytes)
        self._problems = problems

    def is_hindered(self, sweep_id: int) -> bool:
        """Returns whether this worker could not serve the sweep a moment ago."""
        return self._problems.recent(Work(sweep_id)) is not None

    def find_requirements(self, sweep_id: int) -> Requirements | None:
        """Returns a sweep's requirements; None where nothing is to be done for it.

        Of a sweep that this worker is ready for they are remembered: they never change, and the
        claim finds out whether it still runs.
        """
        known = self._requirements.get(sweep_id)
        if known is not None and known.protocol in self._loaded:
            return known
        with self._session_factory() as session:
            requirements = group_leases.find_requirements(session, sweep_id)
        if requirements is not None and requirements.dataset_hash is not None:
            self._requirements[sweep_id] = requirements
            _forget_oldest(self._requirements, KEPT_REQUIREMENTS)
        return requirements

    def prepare(self, sweep_id: int, requirements: Requirements) -> PreparedSweep | None:
        """Returns what the sweep's groups need; None where this worker cannot serve the sweep."""
        work = Work(sweep_id)
        dataset = self._examine(
            work, work, requirements.protocol, lambda: self._load_pinned(sweep_id, requirements)
        )
        if dataset is None:
            return None
        return PreparedSweep(self._measurable(requirements.protocol), dataset)

    def _examine(
        self, work: Work, cause: Hashable, protocol: Protocol, load: Callable[[], Dataset]
    ) -> Dataset | None:
        """Returns the images of some work; None where they, or the device, do not fit it.

        The reason is recorded with the worker and cleared once the worker can do the work.
        """
        try:
            self._check_device(protocol)
            images = load()
        except (DatasetError, DeviceUnavailableError) as error:
            self._problems.note(work, error.message, cause)
            return None
        except (RuntimeError, MemoryError, OSError) as error:
            # PyTorch raises RuntimeError where the images do not fit into memory
            whole = "" if work.training_id is None else " whole"
            self._problems.note(
                work, f"Dataset {protocol.dataset!r} cannot be loaded{whole}: {error}", cause
            )
            return None
        self._problems.clear(work, cause)
        return images

    def _measurable(self, protocol: Protocol) -> Protocol:
        """Returns the protocol, without timing where other workers compute on this device."""
        return protocol.model_copy(update={"timing": None}) if self._shares_device else protocol

    def prepare_training(self, requirements: TrainingRequirements) -> Dataset | None:
        """Returns the images that a training needs; None where this worker cannot serve it.

        Trainings that need the same are examined together.
        """
        work = Work(requirements.sweep_id, requirements.training_id)
        cause = (
            requirements.protocol,
            requirements.recipe.train_images,
            requirements.recipe.validation_images,
            requirements.dataset_hash,
        )
        if (problem := self._problems.recent(cause)) is not None:
            self._problems.note(work, problem)
            return None
        return self._examine(
            work, cause, requirements.protocol, lambda: self._load_training_images(requirements)
        )

    def _load_training_images(self, requirements: TrainingRequirements) -> Dataset:
        protocol, recipe = requirements.protocol, requirements.recipe
        numbers = recipe.train_images, recipe.validation_images
        key = protocol.dataset, protocol.input_shape, *numbers
        if key not in self._training_images:
            self._training_images.clear()  # whole splits are large
            self._training_images[key] = load_training_images(
                self._data_dir, protocol, *numbers, self._max_bytes
            )
        return _check_content(
            self._training_images, key, requirements.sweep_id, requirements.dataset_hash
        )

    def note_problem(self, sweep_id: int, problem: str) -> None:
        """Records why this worker cannot serve a sweep's networks."""
        work = Work(sweep_id)
        self._problems.note(work, problem, work)

    def _check_device(self, protocol: Protocol) -> None:
        if protocol.device_class not in (DeviceClass.ANY, self._device.device_class):
            raise DeviceUnavailableError(
                f"The sweep wants a {protocol.device_class} device; this worker has "
                f"{self._device.model}. Start a worker on such a device."
            )

    def _load_pinned(self, sweep_id: int, requirements: Requirements) -> Dataset:
        protocol = requirements.protocol
        if protocol not in self._loaded:
            self._loaded[protocol] = load_dataset(self._data_dir, protocol, self._max_bytes)
            _forget_oldest(self._loaded, KEPT_DATASETS)
            self._advertise(self._loaded[protocol])
        return _check_content(self._loaded, protocol, sweep_id, requirements.dataset_hash)

    def _advertise(self, dataset: Dataset) -> None:
        known = self._advertised.get(dataset.name, [])
        hashes = sorted({*known, dataset.content_hash})
        self._advertised = available_datasets(self._data_dir, self._max_bytes) | self._advertised
        self._advertised[dataset.name] = hashes
        with self._session_factory.begin() as session:
            workers.note_worker_datasets(session, self._worker_id, self._advertised)
            datasets.note_labels(session, dataset.content_hash, dataset.validation_labels.tolist())


def _check_content(
    loaded: dict[Key, Dataset], key: Key, sweep_id: int, pinned: str | None
) -> Dataset:
    """Returns loaded images whose content is the pinned one, if there is one; else drops them.

    Raises:
        DatasetMismatchError: they have other content. The file may be replaced by the right one.
    """
    images = loaded[key]
    if pinned is not None:
        try:
            datasets.check_dataset_hash(sweep_id, images.name, images.content_hash, pinned)
        except DatasetMismatchError:
            del loaded[key]
            raise
    return images


def available_datasets(data_dir: Path, max_bytes: int) -> dict[str, list[str]]:
    """Returns the datasets that can be read here, without content hashes."""
    return {info.name: [] for info in list_datasets(data_dir, max_bytes) if info.available}


def _forget_oldest(kept: dict[Any, Any], limit: int) -> None:
    while len(kept) > limit:
        del kept[next(iter(kept))]
