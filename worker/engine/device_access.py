"""Access to a device that several processes may compute on, as the engine asks for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol as Interface

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
