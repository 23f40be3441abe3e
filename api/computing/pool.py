"""A few processes for heavy work with a bounded queue: no request waits for another's arithmetic.

Threads would share one interpreter: a plot in one of them delays every other request.
"""

from collections.abc import Callable
from typing import Annotated, TypeVarTuple

import structlog
from anyio import BrokenWorkerProcess, CapacityLimiter, fail_after, to_process
from fastapi import Depends, Request, Response

from api.computing.places import Places
from api.computing.process import MEMORY_BYTES, run_task
from shared.domain.errors import BusyError, TooLargeError, UnavailableError
from shared.settings import Settings

log = structlog.get_logger(__name__)

Arguments = TypeVarTuple("Arguments")

HEAVY = (BusyError, TooLargeError)  # what every route that computes may answer
MAX_UNDER_WAY = 32  # running and waiting
MAX_OF_CLIENT = 16


class ComputingPool:
    """Runs tasks in processes. Work that takes too long, or too much memory, ends there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes = CapacityLimiter(settings.api_processes)
        self.places = Places(
            "previews, analyses and plots", total=MAX_UNDER_WAY, per_client=MAX_OF_CLIENT
        )

    async def run(
        self, client: str, task: Callable[[*Arguments], bytes], *arguments: *Arguments
    ) -> bytes:
        """Returns what ``task`` returns in a process.

        Raises:
            BusyError: too much is under way.
            TooLargeError: the task needed more memory than it may use.
            UnavailableError: no result came in time, or the process ended.
            Exception: whatever the task raised.
        """
        limit_s = self._settings.api_compute_s
        with self.places.take(client):
            try:
                with fail_after(limit_s):
                    return await to_process.run_sync(
                        run_task, self._settings, task, arguments,
                        cancellable=True, limiter=self._processes,
                    )  # fmt: skip
            except TimeoutError as error:
                log.warning("computation_too_slow", task=task.__name__, limit_s=limit_s)
                raise UnavailableError(
                    f"No result came in {limit_s:.0f} s, waiting included. Narrow the request, "
                    "or try again."
                ) from error
            except MemoryError as error:
                log.warning("computation_too_large", task=task.__name__)
                raise TooLargeError(
                    f"This needs more than {MEMORY_BYTES / 2**30:.0f} GiB of memory. Narrow it "
                    "with filters."
                ) from error
            except BrokenWorkerProcess as error:
                log.warning("computation_process_ended", task=task.__name__)
                raise UnavailableError("The computation's process ended; try again.") from error


class Computing:
    """The pool for one request's client; its results are responses."""

    def __init__(self, request: Request) -> None:
        self._pool: ComputingPool = request.app.state.computing
        self._client: str = request.scope["convsweep.client"]

    async def json(self, task: Callable[[*Arguments], bytes], *arguments: *Arguments) -> Response:
        """Returns a response with the JSON that ``task`` returns."""
        return await self.file("application/json", task, *arguments)

    async def file(
        self, media_type: str, task: Callable[[*Arguments], bytes], *arguments: *Arguments
    ) -> Response:
        """Returns a response with the bytes that ``task`` returns."""
        content = await self._pool.run(self._client, task, *arguments)
        return Response(content, media_type=media_type)


async def _computing(request: Request) -> Computing:
    return Computing(request)


Computations = Annotated[Computing, Depends(_computing)]
