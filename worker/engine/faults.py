"""What an error of PyTorch means: no memory, a network that cannot be computed, a dead device."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from shared.domain.errors import DevicePoisonedError, EngineError
from shared.domain.measurements import Reason

_TORCH_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)
_NO_ENGINE = "unable to find an engine"  # cuDNN: for lack of memory, or of a kernel for this layer
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    _NO_ENGINE,
    "overflow",
)
_POISON = (
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "device-side assert",
    "unspecified launch failure",
    "uncorrectable ECC error",
    "hardware stack error",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job cannot be evaluated, and the cause in PyTorch's words."""

    reason: Reason
    cause: str


def classify(error: RuntimeError, device: torch.device) -> Fault | None:
    """Returns what an error means for the job it met; None where it is not PyTorch's.

    Raises:
        DevicePoisonedError: the context of the device is damaged. Nothing it says later counts.
    """
    if type(error) is not RuntimeError and not isinstance(error, _TORCH_ERRORS):
        return None
    lines = str(error).strip().splitlines()
    cause = lines[0] if lines else type(error).__name__
    if device.type == "cuda" and any(mark in str(error) for mark in _POISON):
        raise DevicePoisonedError(f"{device} is unusable after: {cause}") from error
    if isinstance(error, torch.OutOfMemoryError) or any(mark in cause for mark in _OUT_OF_MEMORY):
        return Fault(Reason.OUT_OF_MEMORY, cause)
    if device.type == "cuda":
        _check_alive(device, cause)
    return Fault(Reason.ENGINE_ERROR, cause)


def lacks_engine(error: RuntimeError) -> bool:
    """Returns whether cuDNN found no way to compute a layer."""
    return _NO_ENGINE in str(error)


@contextlib.contextmanager
def engine_errors(device: torch.device) -> Iterator[None]:
    """Turns what PyTorch says of the work within into errors of the engine.

    Raises:
        EngineError: PyTorch cannot do it here, for want of memory for example.
        DevicePoisonedError: the device is unusable; the process must end.
    """
    try:
        yield
    except RuntimeError as error:
        fault = classify(error, device)
        if fault is None:
            raise
        raise EngineError(f"{fault.reason}: {fault.cause}") from error


def _check_alive(device: torch.device, cause: str) -> None:
    """An error that is still there after waiting for the device is permanent."""
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise DevicePoisonedError(f"{device} is unusable after: {cause}") from error


def release_memory(device: torch.device) -> None:
    """Hands memory that PyTorch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
