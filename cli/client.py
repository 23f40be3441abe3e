"""A client of the HTTP API. Answers are what the API sends, errors are ``ApiError``."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
from httpx_sse import EventSource

from cli.leaderboard import Leaderboard
from services.leaderboard.filters import parse_assignments
from shared.domain.errors import ConvsweepError
from shared.domain.events import EVENTS, End, Event
from shared.settings import LOOPBACK_NAMES

Json = dict[str, Any]

SILENCE_S = 40.0  # a stream that has nothing to say says so every 15 s
PATIENCE_S = 30.0  # what only reads is asked again so long while the API says when to


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
    """Speaks to the API at ``url`` with an API key, where one is needed; a context manager.

    Where the API is busy or its database away, what only reads waits for it, for half a minute;
    downloads and streams of events do not.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        host = httpx.URL(self.url).host
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            trust_env=host not in LOOPBACK_NAMES,  # no proxy stands between this machine and itself
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back; leaving the context does it too."""
        self._http.close()

    def preview(self, wanted: Json) -> Json:
        """Returns what a sweep would hold."""
        return self._json("POST", "/v1/sweeps/preview", json=wanted)

    def create_sweep(self, wanted: Json, *, idempotency_key: str | None = None) -> Json:
        """Creates a sweep and returns it; with a key it is created once however often asked."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._json("POST", "/v1/sweeps", json=wanted, headers=headers)

    def list_sweeps(self, page_size: int = 50) -> list[Json]:
        """Returns the newest sweeps, newest first."""
        answer = self._json("GET", "/v1/sweeps", params={"page_size": page_size})
        sweeps: list[Json] = answer["sweeps"]
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

    def leaderboard(
        self,
        sweep_id: int,
        *,
        where: Iterable[str] = (),
        sort: str = "-accuracy",
        limit: int | None = None,
        fitness_weight: float | None = None,
    ) -> Leaderboard:
        """Returns ranked networks, fetched page by page while they are read.

        Args:
            where: filters as ``accuracy=0.3..`` or ``kernel_size[0]=5|7``; see docs/filters.md.
            sort: fields, comma-separated, a minus before one puts its largest first.
            limit: most networks; all without it.
            fitness_weight: what throughput counts beside accuracy; 0.3 without it.
        """
        params = [*parse_assignments(where), ("sort", sort)]
        if fitness_weight is not None:
            params.append(("fitness_weight", str(fitness_weight)))

        def fetch(page: Iterable[tuple[str, str]]) -> Json:
            url = f"/v1/sweeps/{sweep_id}/leaderboard"
            return self._json("GET", url, params=[*params, *page])

        return Leaderboard(fetch, limit)

    def get_job(self, job_id: int) -> Json:
        """Returns a job with its trials."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def list_workers(self) -> list[Json]:
        """Returns the workers seen lately."""
        workers: list[Json] = self._answer("GET", "/v1/workers").json()
        return workers

    def correlations(self, sweep_id: int, *, where: Iterable[str] = (), **options: Any) -> Json:
        """Returns the correlation of every two parameters and results.

        All analyses take filters as ``leaderboard`` does, and the API's parameters as options;
        here ``method`` (``pearson`` or ``spearman``) and ``fitness_weight``.
        """
        return self._analysis(sweep_id, "correlations", where, options)

    def pareto(self, sweep_id: int, *, where: Iterable[str] = (), **options: Any) -> Json:
        """Returns the networks that no other beats in accuracy and throughput."""
        return self._analysis(sweep_id, "pareto", where, options)

    def effects(self, sweep_id: int, *, where: Iterable[str] = (), **options: Any) -> Json:
        """Returns the mean of a ``target`` at every level of every parameter."""
        return self._analysis(sweep_id, "effects", where, options)

    def interactions(self, sweep_id: int, *, where: Iterable[str] = (), **options: Any) -> Json:
        """Returns the mean of a ``target`` for every two levels of every two parameters.

        ``parameter`` takes a list of those to pair.
        """
        return self._analysis(sweep_id, "interactions", where, options)

    def importance(self, sweep_id: int, *, where: Iterable[str] = (), **options: Any) -> Json:
        """Returns which share of a ``target``'s variance parameters and pairs explain."""
        return self._analysis(sweep_id, "importance", where, options)

    def compare_sweeps(self, first_id: int, second_id: int) -> Json:
        """Returns how the accuracies of the architectures that two sweeps share agree."""
        return self._analysis(first_id, f"comparison/{second_id}", (), {})

    def compare_jobs(self, first_id: int, second_id: int) -> Json:
        """Returns how two networks answer on the same images."""
        return self._json("GET", f"/v1/jobs/{first_id}/comparison/{second_id}")

    def plot(
        self, sweep_id: int, kind: str, file: Path, *, where: Iterable[str] = (), **options: Any
    ) -> None:
        """Writes a picture of a sweep; the file's ending, .png or .svg, is its format."""
        path = f"/v1/sweeps/{sweep_id}/plots/{kind}{file.suffix}"
        self.download(path, file, params=_params(where, options))

    def _analysis(self, sweep_id: int, kind: str, where: Iterable[str], options: Json) -> Json:
        path = f"/v1/sweeps/{sweep_id}/analysis/{kind}"
        return self._json("GET", path, params=_params(where, options))

    def create_trainings(self, sweep_id: int, wanted: Json) -> Json:
        """Trains networks of a sweep; ``wanted`` has ``select``, ``recipe``, ``channels``, ...

        What was asked for before is returned and not trained again.
        """
        return self._json("POST", f"/v1/sweeps/{sweep_id}/trainings", json=wanted)

    def list_trainings(self, sweep_id: int, status: str | None = None) -> list[Json]:
        """Returns all trainings of a sweep with their results so far."""
        rows: list[Json] = []
        params: Json = {"page_size": 1000} | ({"status": status} if status else {})
        while True:
            page = self._json("GET", f"/v1/sweeps/{sweep_id}/trainings", params=params)
            rows += page["trainings"]
            if page["next_page_token"] is None:
                return rows
            params["page_token"] = page["next_page_token"]

    def get_training(self, training_id: int) -> Json:
        """Returns a training with its curve, and code that loads its weights."""
        return self._json("GET", f"/v1/trainings/{training_id}")

    def steer_trainings(self, sweep_id: int, action: str) -> int:
        """Does ``pause``, ``resume``, ``cancel`` or ``retry`` to all that can; returns how many."""
        answer = self._json("POST", f"/v1/sweeps/{sweep_id}/trainings/{action}")
        return int(answer["changed"])

    def steer_training(self, training_id: int, action: str) -> Json:
        """Does ``pause``, ``resume``, ``cancel`` or ``retry`` to one and returns it."""
        return self._json("POST", f"/v1/trainings/{training_id}/{action}")

    def training_table(self, sweep_id: int, file: Path) -> None:
        """Writes the table of trained networks; the file's ending, .md or .csv, is its format."""
        self.download(f"/v1/sweeps/{sweep_id}/trainings{file.suffix}", file)

    def training_weights(self, training_id: int, file: Path) -> None:
        """Writes a training's best weights as safetensors."""
        self.download(f"/v1/trainings/{training_id}/weights", file)

    def probe_vs_trained(self, sweep_id: int, k: int | None = None) -> list[Json]:
        """Returns, per recipe, how well the probe and trivial baselines foretell training."""
        params = {} if k is None else {"k": k}
        answer = self._json("GET", f"/v1/sweeps/{sweep_id}/probe-vs-trained", params=params)
        recipes: list[Json] = answer["recipes"]
        return recipes

    def download(
        self,
        path: str,
        file: Path,
        *,
        params: Sequence[tuple[str, str]] = (),
        on_bytes: Callable[[bytes], object] = len,
    ) -> None:
        """Streams an answer into a file, which appears whole or not at all.

        Args:
            on_bytes: is told of every piece as it comes.
        """
        partial = file.with_name(file.name + ".part")
        try:
            with self._http.stream("GET", path, params=list(params)) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                with partial.open("wb") as sink:
                    for piece in answer.iter_bytes():
                        sink.write(piece)
                        on_bytes(piece)
            partial.replace(file)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            partial.unlink(missing_ok=True)

    def _json(self, method: str, path: str, **request: Any) -> Json:
        body: Json = self._answer(method, path, **request).json()
        return body

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        patience_s = PATIENCE_S if method == "GET" else 0.0
        while (answer := self._ask(method, path, **request)).is_error:
            told = answer.headers.get("Retry-After", "")
            wait_s = max(1, int(told)) if told.isdecimal() else math.inf
            if wait_s > patience_s:
                raise _refusal(answer)
            patience_s -= wait_s
            time.sleep(wait_s)
        return answer

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

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


def _params(where: Iterable[str], options: Json) -> list[tuple[str, str]]:
    """Returns filters and options as parameters; a list gives one for each of its values."""
    pairs = parse_assignments(where)
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(one)) for one in values if one is not None]
    return pairs


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
