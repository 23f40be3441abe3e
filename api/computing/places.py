"""Limited places, in total and per client: what one client takes leaves some for others."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.domain.errors import BusyError


class Places:
    """Counts what is under way; used in one event loop."""

    def __init__(self, kind: str, *, total: int, per_client: int) -> None:
        self._kind = kind
        self._total = total
        self._per_client = per_client
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, client: str) -> Iterator[None]:
        """Takes a place for the duration of the block.

        Raises:
            BusyError: all places are taken, or all that one client may have.
        """
        self.check(client)
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]

    def check(self, client: str) -> None:
        """Returns if there is a place for a client.

        Raises:
            BusyError: all places are taken, or all that one client may have.
        """
        if self._taken[client] >= self._per_client:
            raise BusyError(
                f"This client has {self._per_client} {self._kind} under way already; wait for one "
                "of them, then try again."
            )
        if self._taken.total() >= self._total:
            raise BusyError(f"This API has {self._total} {self._kind} under way; try again soon.")
