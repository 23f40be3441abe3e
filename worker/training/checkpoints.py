"""Files of a training in the shared folder: its checkpoint and its best weights."""

import hashlib
import io
import json
import pickle
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from shared.domain.architecture import Architecture
from shared.domain.errors import CheckpointError, EngineError
from shared.domain.measurements import Reason
from shared.domain.recipe import Recipe
from shared.files import replace_file
from worker.engine.faults import classify

LEFTOVER_S = 24 * 3600.0  # no writer takes this long

log = structlog.get_logger(__name__)

_MAGIC = b"convsweep checkpoint 1\n"
_DIGEST_BYTES = 64  # sha256 in hexadecimal
_NAME = "training-{id}-{fingerprint:.12}"
_ANY = "training-*"
_CHECKPOINT = re.compile(r"training-(\d+)-[0-9a-f]{12}\.checkpoint")


def fingerprint(architecture: Architecture, recipe: Recipe, dataset_hash: str) -> str:
    """Returns what a checkpoint is for: the same network, recipe and images, and nothing else."""
    parts = [str(architecture), recipe.model_dump(mode="json"), dataset_hash]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TrainingFiles:
    """The checkpoint and the weights of one training in ``folder``; no file is ever partial."""

    def __init__(self, folder: Path, training_id: int, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        name = _NAME.format(id=training_id, fingerprint=fingerprint)
        self.checkpoint = folder / f"{name}.checkpoint"
        self.weights = folder / f"{name}.safetensors"

    def save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint.

        Raises:
            OSError: it cannot be written, for example on a full disk; the previous one stays.
        """
        buffer = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "state": state}, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest().encode()
        with replace_file(self.checkpoint) as file:
            file.write(_MAGIC + digest + content)

    def load(self) -> dict[str, Any] | None:
        """Returns the state of the last checkpoint, tensors on the CPU; None where there is none.

        Raises:
            CheckpointError: it is damaged or belongs to another training.
            EngineError: there is no memory for it now.
            OSError: it cannot be read.
        """
        try:
            stored = self.checkpoint.read_bytes()
        except FileNotFoundError:
            return None
        head, content = len(_MAGIC) + _DIGEST_BYTES, stored[len(_MAGIC) + _DIGEST_BYTES :]
        digest = hashlib.sha256(content).hexdigest().encode()
        if stored[:head] != _MAGIC + digest:
            raise CheckpointError(f"{self.checkpoint.name} is damaged or no checkpoint.")
        try:
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            _check_memory(error)
            raise CheckpointError(f"{self.checkpoint.name} cannot be read: {error}") from error
        if loaded["fingerprint"] != self._fingerprint:
            raise CheckpointError(
                f"{self.checkpoint.name} belongs to another architecture, recipe or dataset."
            )
        state: dict[str, Any] = loaded["state"]
        return state

    def set_aside(self) -> None:
        """Renames a checkpoint that cannot be used, and keeps it for inspection."""
        self.checkpoint.replace(self.checkpoint.with_suffix(".unusable"))

    def write_weights(self, weights: dict[str, Tensor], facts: dict[str, str]) -> None:
        """Writes weights as safetensors, with facts about them in its header.

        Raises:
            OSError: they cannot be written.
        """
        whole = {name: tensor.contiguous() for name, tensor in weights.items()}
        with replace_file(self.weights) as file:
            file.write(to_safetensors(whole, metadata=facts))

    def drop_checkpoint(self) -> None:
        """Deletes the checkpoint of a training that has completed."""
        self.checkpoint.unlink(missing_ok=True)


def _check_memory(error: Exception) -> None:
    """Raises an EngineError where an error only says that there is no memory for a state now."""
    if isinstance(error, RuntimeError):
        fault = classify(error, torch.device("cpu"))
        if fault is not None and fault.reason is Reason.OUT_OF_MEMORY:
            raise EngineError(f"{fault.reason}: {fault.cause}") from error


def drop_leftovers(folder: Path) -> None:
    """Deletes partial files of writers that were killed long ago.

    Raises:
        OSError: it cannot be deleted.
    """
    for partial in folder.glob(f".{_ANY}.*.part"):
        if time.time() - partial.stat().st_mtime > LEFTOVER_S:
            partial.unlink(missing_ok=True)


def trainings_with_checkpoint(folder: Path) -> Iterator[int]:
    """Yields the ids of trainings that have left a checkpoint in ``folder``, of any database."""
    for path in folder.glob(f"{_ANY}.checkpoint"):
        if found := _CHECKPOINT.fullmatch(path.name):
            yield int(found[1])
