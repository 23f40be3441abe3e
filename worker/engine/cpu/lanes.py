"""Lanes: independent pieces of CPU work side by side, each on its own threads.

One operation spread over all cores waits for the slowest of them; with thousands of small
convolutions beside other processes, that waiting costs more than the work.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from types import TracebackType
from typing import TypeVar

import torch

MAX_LANES = 4  # more would wait for Python's lock

Item = TypeVar("Item")


class Lanes:
    """Runs work on CPU lanes; on any other device one after the other in the caller's thread.

    ``threads`` is how many the lanes share. A context manager: leaving it ends the lanes.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._threads = threads
        self.count = min(self._threads, MAX_LANES) if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Lanes":
        self._threads_before = torch.get_num_threads()
        if self.count > 1:
            own = self._threads // self.count
            self._pool = ThreadPoolExecutor(
                self.count, "engine-lane", initializer=torch.set_num_threads, initargs=(own,)
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self._threads_before)  # lanes changed what new threads start with

    def each(
        self, work: Callable[[Item], None], items: Iterable[Item], on_progress: Callable[[], None]
    ) -> None:
        """Calls ``work`` with every item, in any order, without gradients.

        ``on_progress`` is called in the caller's thread after each. What either raises is raised
        here, after the work under way has ended; what has not begun is dropped.
        """
        if self._pool is None:
            for item in items:
                _without_gradients(work, item)
                on_progress()
            return
        futures = [self._pool.submit(_without_gradients, work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                on_progress()
        finally:
            _drop(futures)


def _without_gradients(work: Callable[[Item], None], item: Item) -> None:
    with torch.inference_mode():  # a property of the thread
        work(item)


def _drop(futures: list[Future[None]]) -> None:
    for future in futures:
        future.cancel()
    wait(futures)
