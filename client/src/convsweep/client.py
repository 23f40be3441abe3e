"""The client: one class with a method per question to the API."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from httpx_sse import EventSource

from convsweep.answers import CreatedSweep, LeaderboardPage, Preview, Sweep, WorkerState
from convsweep.connection import Connection
from convsweep.errors import ApiUnreachableError
from convsweep.events import EndEvent, StreamedEvent, parse_event
from convsweep.filters import Parameters, to_parameters
from convsweep.leaderboard import Leaderboard
from convsweep.output_files import open_output

Json = dict[str, Any]
Where = str | Iterable[str]

SILENCE_S = 40.0  # the API sends a comment every 15 s when a stream has no event


class Client:
    """A client of the API at ``url``; use it in a ``with`` block, or call ``close``.

    While the API is busy or its database is down, methods that only read wait up to half a minute
    and try again; downloads and streams do not.

    Args:
        url: address of the API, such as ``http://127.0.0.1:8000``.
        key: API key; a cluster that ``convsweep up`` started needs none.
        timeout_s: time limit of each step of a request, in seconds.

    Every method raises ``ApiError`` when the API refuses the request and ``ApiUnreachableError``
    when no API answers.
    """

    url: str

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 60.0) -> None:
        self._connection = Connection(url, key, timeout_s)
        self.url = self._connection.url

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
        """Closes the connections; the end of a ``with`` block does it too."""
        self._connection.close()

    # Sweeps

    def preview(self, sweep: Mapping[str, Any]) -> Preview:
        """Returns the size and cost of a sweep without creating it.

        Args:
            sweep: as for ``create_sweep``.
        """
        answer: Preview = self._connection.post("/v1/sweeps/preview", json=sweep)
        return answer

    def create_sweep(
        self, sweep: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> CreatedSweep:
        """Creates a sweep and returns it.

        Args:
            sweep: ``{"preset": "quick"}``, or ``space`` and ``protocol``, or a preset with changes
                of its protocol; ``name`` is optional.
            idempotency_key: repeated requests with the same key create one sweep.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        created: CreatedSweep = self._connection.post("/v1/sweeps", json=sweep, headers=headers)
        return created

    def list_sweeps(self, page_size: int = 50) -> list[Sweep]:
        """Returns the newest sweeps, newest first."""
        sweeps: list[Sweep] = self._connection.get("/v1/sweeps", {"page_size": page_size})["sweeps"]
        return sweeps

    def get_sweep(self, sweep_id: int) -> Sweep:
        """Returns a sweep with its number of jobs in each state."""
        sweep: Sweep = self._connection.get(f"/v1/sweeps/{sweep_id}")
        return sweep

    def control_sweep(self, sweep_id: int, action: str) -> Sweep:
        """Pauses, resumes, cancels or retries a sweep, and returns it.

        Args:
            action: ``pause``, ``resume``, ``cancel`` or ``retry`` (its failed jobs).
        """
        sweep: Sweep = self._connection.post(f"/v1/sweeps/{sweep_id}/{action}")
        return sweep

    def extend_sweep(self, sweep_id: int, trials: int, top: int | None = None) -> Sweep:
        """Requests more trials and returns the sweep.

        Args:
            trials: trials per job in total, including those already measured.
            top: limit to the most accurate jobs; default: all.
        """
        body = {"trials": trials, "top": top}
        sweep: Sweep = self._connection.post(f"/v1/sweeps/{sweep_id}/extend", json=body)
        return sweep

    def watch(self, sweep_id: int, *, last_event_id: str = "") -> Iterator[StreamedEvent]:
        """Yields a sweep's events as they happen; the last one is an ``EndEvent``.

        Args:
            last_event_id: continues after this event of an earlier stream.

        Raises:
            ApiUnreachableError: the connection was lost before the sweep ended. Call ``watch``
                again with the last event's id: no leader is repeated or missed.
        """
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        path = f"/v1/sweeps/{sweep_id}/events"
        with self._connection.stream(path, headers=headers, timeout=SILENCE_S) as response:
            for message in EventSource(response).iter_sse():
                last_event_id = message.id or last_event_id
                event = parse_event(message.event, message.data)
                if event is not None:
                    yield StreamedEvent(event, last_event_id)
                if isinstance(event, EndEvent):
                    return
        raise ApiUnreachableError(
            f"The API at {self.url} closed the stream before the sweep ended, probably because it "
            "stops. Watch again with the last event's id."
        )

    def list_workers(self) -> list[WorkerState]:
        """Returns the workers that were recently alive."""
        workers: list[WorkerState] = self._connection.get("/v1/workers")
        return workers

    # Results

    def leaderboard(
        self,
        sweep_id: int,
        *,
        where: Where = (),
        sort: str = "-accuracy",
        limit: int | None = None,
        fitness_weight: float | None = None,
    ) -> Leaderboard:
        """Returns ranked networks, fetched page by page during iteration.

        Args:
            where: filters such as ``accuracy=0.3..`` or ``kernel_size[0]=5|7``, one or several.
            sort: comma-separated fields; a minus before a field puts its largest values first.
            limit: maximum number of networks; default: all.
            fitness_weight: weight of throughput relative to accuracy in ``fitness``; default 0.3.

        Raises:
            InvalidFilterError: a filter is not written as ``NAME=VALUES``.
        """
        options = {"sort": sort, "fitness_weight": fitness_weight}
        params = to_parameters(where, options)

        def fetch_page(page: Parameters) -> LeaderboardPage:
            path = f"/v1/sweeps/{sweep_id}/leaderboard"
            answer: LeaderboardPage = self._connection.get(path, [*params, *page])
            return answer

        return Leaderboard(fetch_page, limit)

    def get_job(self, job_id: int) -> Json:
        """Returns one network with its trials and attempts."""
        return self._get(f"/v1/jobs/{job_id}")

    def correlations(self, sweep_id: int, *, where: Where = (), **options: Any) -> Json:
        """Returns the correlation of every pair of parameters and results.

        Args:
            where: filters, as in ``leaderboard``.
            options: the API's parameters: ``method`` (``pearson`` or ``spearman``), ``device``,
                ``fitness_weight``.
        """
        return self._analysis(sweep_id, "correlations", where, options)

    def pareto(self, sweep_id: int, *, where: Where = (), **options: Any) -> Json:
        """Returns the networks that no other network beats in both accuracy and throughput.

        Args:
            where: filters, as in ``leaderboard``.
            options: the API's parameters: ``device``, ``fitness_weight``.
        """
        return self._analysis(sweep_id, "pareto", where, options)

    def effects(self, sweep_id: int, *, where: Where = (), **options: Any) -> Json:
        """Returns the mean of a result at every level of every parameter.

        Args:
            where: filters, as in ``leaderboard``.
            options: the API's parameters: ``target`` (the result, such as ``accuracy``),
                ``device``, ``fitness_weight``.
        """
        return self._analysis(sweep_id, "effects", where, options)

    def interactions(self, sweep_id: int, *, where: Where = (), **options: Any) -> Json:
        """Returns the mean of a result for every two levels of every pair of parameters.

        Args:
            where: filters, as in ``leaderboard``.
            options: the API's parameters: ``target``, ``parameter`` (a list of those to pair),
                ``device``, ``fitness_weight``.
        """
        return self._analysis(sweep_id, "interactions", where, options)

    def importance(self, sweep_id: int, *, where: Where = (), **options: Any) -> Json:
        """Returns the share of a result's variance that parameters and pairs of them explain.

        Args:
            where: filters, as in ``leaderboard``.
            options: the API's parameters: ``target``, ``device``, ``fitness_weight``.
        """
        return self._analysis(sweep_id, "importance", where, options)

    def devices(self, sweep_id: int, *, reference_version: int | None = None) -> Json:
        """Returns how the devices of a sweep compare: references, units, drift, other models."""
        version = {} if reference_version is None else {"reference_version": reference_version}
        return self._get(f"/v1/sweeps/{sweep_id}/analysis/devices", version)

    def build_bridge(
        self,
        sweep_id: int,
        devices: Sequence[str] = (),
        *,
        share: float | None = None,
        seed: int = 0,
    ) -> Json:
        """Asks device models to time the same random networks; returns what was asked for.

        Args:
            devices: models; without any, those of all workers that run now.
            share: of the networks; by default 3 %.
        """
        body = {"devices": list(devices), "seed": seed}
        more = {} if share is None else {"share": share}
        answer: Json = self._connection.post(f"/v1/sweeps/{sweep_id}/bridges", json=body | more)
        return answer

    def calibrate(self, sweep_id: int, device: str, *, seed: int = 0) -> Json:
        """Computes the throughputs of all timed networks on a device model.

        The answer's ``scale`` is what ``device=`` takes to show them.
        """
        body = {"device": device, "seed": seed}
        answer: Json = self._connection.post(f"/v1/sweeps/{sweep_id}/calibrations", json=body)
        return answer

    def compare_sweeps(self, first_id: int, second_id: int) -> Json:
        """Returns how well two sweeps agree on the accuracies of the architectures they share."""
        return self._analysis(first_id, f"comparison/{second_id}", (), {})

    def compare_jobs(self, first_id: int, second_id: int) -> Json:
        """Returns how two networks classify the same images, with a test of the difference."""
        return self._get(f"/v1/jobs/{first_id}/comparison/{second_id}")

    def plot(
        self, sweep_id: int, kind: str, file: Path, *, where: Where = (), **options: Any
    ) -> None:
        """Writes a plot of a sweep.

        Args:
            kind: ``scatter``, ``correlations``, ``effects`` or ``parallel``.
            file: ends in ``.png`` or ``.svg``, which is the format.
            where: filters, as in ``leaderboard``.
            options: the API's parameters for this plot.
        """
        path = f"/v1/sweeps/{sweep_id}/plots/{kind}{file.suffix}"
        self.download(path, file, params=to_parameters(where, options))

    # Trainings

    def create_trainings(self, sweep_id: int, trainings: Mapping[str, Any]) -> Json:
        """Trains networks of a sweep; a training that already exists is returned, not repeated.

        Args:
            trainings: ``select`` (the networks), and optionally ``recipe``, ``channels`` and
                ``repeats``.
        """
        answer: Json = self._connection.post(f"/v1/sweeps/{sweep_id}/trainings", json=trainings)
        return answer

    def list_trainings(self, sweep_id: int, status: str | None = None) -> list[Json]:
        """Returns all trainings of a sweep with their results so far."""
        rows: list[Json] = []
        params: Json = {"page_size": 1000} | ({"status": status} if status else {})
        while True:
            page = self._connection.get(f"/v1/sweeps/{sweep_id}/trainings", params)
            rows += page["trainings"]
            if page["next_page_token"] is None:
                return rows
            params["page_token"] = page["next_page_token"]

    def get_training(self, training_id: int) -> Json:
        """Returns a training with its curve, and code that loads its weights."""
        return self._get(f"/v1/trainings/{training_id}")

    def control_trainings(self, sweep_id: int, action: str) -> int:
        """Controls every training of a sweep that can change; returns the number that changed.

        Args:
            action: ``pause``, ``resume``, ``cancel`` or ``retry`` (failed trainings).
        """
        answer = self._connection.post(f"/v1/sweeps/{sweep_id}/trainings/{action}")
        return int(answer["changed"])

    def control_training(self, training_id: int, action: str) -> Json:
        """Controls one training, as ``control_trainings`` does, and returns it."""
        training: Json = self._connection.post(f"/v1/trainings/{training_id}/{action}")
        return training

    def training_table(self, sweep_id: int, file: Path) -> None:
        """Writes the table of trained networks; ``file`` ends in ``.md`` or ``.csv``."""
        self.download(f"/v1/sweeps/{sweep_id}/trainings{file.suffix}", file)

    def training_weights(self, training_id: int, file: Path) -> None:
        """Writes a training's best weights in the safetensors format."""
        self.download(f"/v1/trainings/{training_id}/weights", file)

    def probe_vs_trained(self, sweep_id: int, k: int | None = None) -> list[Json]:
        """Returns, per recipe, how well the probe and trivial baselines predict trained accuracy.

        Args:
            k: number of networks for precision@k; default: a quarter of them.
        """
        params = {} if k is None else {"k": k}
        recipes: list[Json] = self._get(f"/v1/sweeps/{sweep_id}/probe-vs-trained", params)[
            "recipes"
        ]
        return recipes

    # Anything else

    def download(
        self,
        path: str,
        file: Path,
        *,
        params: Sequence[tuple[str, str]] = (),
        on_bytes: Callable[[bytes], object] = len,
    ) -> None:
        """Writes the answer to a GET to a file, which appears only when it is complete.

        Args:
            path: such as ``/v1/sweeps/1/export.csv``.
            file: replaced if it exists; a device or a pipe is written directly.
            params: query parameters.
            on_bytes: called with every piece, for a progress display.

        Raises:
            OutputFileError: the file cannot be written.
        """
        with (
            open_output(file) as sink,
            self._connection.stream(path, params=list(params)) as response,
        ):
            for piece in response.iter_bytes():
                sink.write(piece)
                on_bytes(piece)

    def _get(self, path: str, params: Any = None) -> Json:
        answer: Json = self._connection.get(path, params)
        return answer

    def _analysis(self, sweep_id: int, kind: str, where: Where, options: Json) -> Json:
        path = f"/v1/sweeps/{sweep_id}/analysis/{kind}"
        return self._get(path, to_parameters(where, options))
