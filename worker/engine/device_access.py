"""Access to a device that several processes may compute on, and its state, as the engine asks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol as Interface

from shared.domain.measurements import Conditions, DeviceReading

Progress = Callable[[], None]


class DeviceAccess(Interface):
    """Grants access to a device; both methods call ``on_progress`` while they wait."""

    def shared(self, on_progress: Progress) -> AbstractContextManager[None]:
        """Held during computation that is not timed; others may compute at the same time."""

    def exclusive(self, on_progress: Progress) -> AbstractContextManager[None]:
        """Held while the device is timed; no other process computes on it."""


class SoleAccess:
    """Access to a device that no other process uses."""

    def shared(self, _on_progress: Progress) -> AbstractContextManager[None]:
        return nullcontext()

    def exclusive(self, _on_progress: Progress) -> AbstractContextManager[None]:
        return nullcontext()


class DeviceMeter(Interface):
    """Reads the state of the device that a process computes on."""

    def read(self) -> DeviceReading:
        """Returns the state at this moment; cheap enough to be read around every timing."""

    def conditions(self, before: DeviceReading, after: DeviceReading) -> Conditions:
        """Returns what is recorded with a timing between two readings."""
