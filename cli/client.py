"""A client of the HTTP API. Answers are what the API sends, errors are ``ApiError``."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
from httpx_sse import EventSource

from shared.errors import ConvsweepError
from shared.events import EVENTS, End, Event

Json = dict[str, Any]

SILENCE_S = 40.0  # a stream that has nothing to say says so every 15 s
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ApiError(ConvsweepError):
    """The API refused; ``status`` and ``code`` say why."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ApiUnreachableError(ConvsweepError):
    code = "api_unreachable"


class Told(NamedTuple):
    """An event of a stream, and the id that a later stream goes on after."""

    event: Event
    id: str


class Client:
    """Speaks to the API at ``url``; use it as a context manager."""

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        host = httpx.URL(self.url).host
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            trust_env=host not in LOOPBACK,  # no proxy stands between this machine and itself
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def preview(self, wanted: Json) -> Json:
        """Returns what a sweep would hold."""
        return self._json("POST", "/v1/sweeps/preview", json=wanted)

    def create_sweep(self, wanted: Json, *, idempotency_key: str | None = None) -> Json:
        """Creates a sweep and returns it; with a key it is created once however often asked."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._json("POST", "/v1/sweeps", json=wanted, headers=headers)

    def list_sweeps(self, limit: int = 50) -> list[Json]:
        """Returns sweeps, newest first."""
        sweeps: list[Json] = self._json("GET", "/v1/sweeps", params={"limit": limit})["sweeps"]
        return sweeps

    def get_sweep(self, sweep_id: int) -> Json:
        """Returns a sweep with its jobs by state."""
        return self._json("GET", f"/v1/sweeps/{sweep_id}")

    def steer_sweep(self, sweep_id: int, action: str) -> Json:
        """Does ``pause``, ``resume``, ``cancel`` or ``retry`` and returns the sweep."""
        return self._json("POST", f"/v1/sweeps/{sweep_id}/{action}")

    def extend_sweep(self, sweep_id: int, trials: int, top: int | None = None) -> Json:
        """Asks for more trials of all jobs or of the leaders and returns the sweep."""
        wanted = {"trials": trials, "top": top}
        return self._json("POST", f"/v1/sweeps/{sweep_id}/extend", json=wanted)

    def watch(self, sweep_id: int, *, last_event_id: str = "") -> Iterator[Told]:
        """Yields a sweep's events as they happen, up to its end.

        Args:
            last_event_id: of an earlier stream, to go on after the event that it came with.

        Raises:
            ApiUnreachableError: the stream was cut before the end of the sweep.
        """
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        path = f"/v1/sweeps/{sweep_id}/events"
        try:
            with self._http.stream("GET", path, headers=headers, timeout=SILENCE_S) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                for message in EventSource(answer).iter_sse():
                    last_event_id = message.id or last_event_id
                    if message.event in EVENTS:  # others are of a newer API
                        event = EVENTS[message.event].model_validate_json(message.data)
                        yield Told(event, last_event_id)
                        if isinstance(event, End):
                            return
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        raise ApiUnreachableError(f"The API at {self.url} has ended the stream; it stops.")

    def leaderboard(self, sweep_id: int, **filters: Any) -> list[Json]:
        """Returns ranked networks; filters are those of the API, None leaves one out."""
        params = {name: value for name, value in filters.items() if value is not None}
        answer = self._json("GET", f"/v1/sweeps/{sweep_id}/leaderboard", params=params)
        rows: list[Json] = answer["rows"]
        return rows

    def get_job(self, job_id: int) -> Json:
        """Returns a job with its trials."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def list_workers(self) -> list[Json]:
        """Returns the workers seen lately."""
        workers: list[Json] = self._answer("GET", "/v1/workers").json()
        return workers

    def download(self, path: str, file: Path) -> None:
        """Streams an answer into a file, which appears whole or not at all."""
        partial = file.with_name(file.name + ".part")
        try:
            with self._http.stream("GET", path) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                with partial.open("wb") as sink:
                    for chunk in answer.iter_bytes():
                        sink.write(chunk)
            partial.replace(file)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            partial.unlink(missing_ok=True)

    def _json(self, method: str, path: str, **request: Any) -> Json:
        body: Json = self._answer(method, path, **request).json()
        return body

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if answer.is_error:
            raise _refusal(answer)
        return answer

    def _unreachable(self, error: Exception) -> ApiUnreachableError:
        if isinstance(error, httpx.ReadTimeout):
            return ApiUnreachableError(
                f"The API at {self.url} took too long to answer; what was asked may still happen. "
                "Look before you ask again."
            )
        return ApiUnreachableError(
            f"No API answers at {self.url} ({error}). Start one with `convsweep up`, "
            "or name another with --url or CONVSWEEP_API_URL."
        )


def _refusal(answer: httpx.Response) -> ApiError:
    try:
        problem = answer.json()
        return ApiError(problem["detail"], status=answer.status_code, code=problem["code"])
    except (ValueError, KeyError, TypeError):
        return ApiError(
            f"The server answered {answer.status_code} without saying why; "
            "is this a convsweep API?",
            status=answer.status_code,
            code="unexpected_answer",
        )
