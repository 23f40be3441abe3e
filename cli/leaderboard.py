"""Ranked networks as the API sends them: rows to iterate, or a pandas frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from shared.domain.errors import ConvsweepError

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS_OF_A_PAGE = 1000

Page = dict[str, Any]
Fetch = Callable[[Iterable[tuple[str, str]]], Page]


class Layer(TypedDict):
    """One convolution and what follows it."""

    channels: int
    kernel_size: int
    stride: int
    dilation: int
    padding: int
    activation: str


class Leader(TypedDict):
    """One ranked network. Accuracies are fractions, throughput is images per second."""

    rank: int
    id: int
    sweep_id: int
    architecture_hash: str
    layers: list[Layer]
    ratio: float | None
    parameters: int | None
    flops: int | None
    status: str
    reason: str | None
    error: str | None
    attempt: int
    trials_done: int
    trials_target: int
    accuracy: float | None
    accuracy_sd: float | None
    accuracy_se: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    accuracy_min: float | None
    accuracy_max: float | None
    train_accuracy: float | None
    throughput: float | None
    throughput_min: float | None
    throughput_max: float | None
    throughput_measured: bool | None
    fit_seconds: float | None
    fitness: float | None
    device: str | None
    finished_at: str | None


class PandasMissingError(ConvsweepError):
    code = "pandas_missing"


class Leaderboard:
    """Ranked networks, fetched page by page while they are iterated.

    ``device`` says whose results are shown, ``devices`` how many networks each device model has
    completed. The first page is asked for at once, so a filter that is refused raises here.
    """

    def __init__(self, fetch: Fetch, limit: int | None = None) -> None:
        self._fetch = fetch
        self._limit = limit
        self._first = self._page(None, limit)
        self.device: list[str] = self._first["device"]
        self.devices: dict[str, int] = self._first["devices"]

    def __iter__(self) -> Iterator[Leader]:
        page, left = self._first, self._limit
        while True:
            rows: list[Leader] = page["rows"]
            yield from rows
            left = None if left is None else left - len(rows)
            if page["next_page_token"] is None or left == 0:
                return
            page = self._page(page["next_page_token"], left)

    def _page(self, token: str | None, left: int | None) -> Page:
        size = MOST_ROWS_OF_A_PAGE if left is None else min(left, MOST_ROWS_OF_A_PAGE)
        place = [("page_token", token)] if token else []
        return self._fetch([("page_size", str(size)), *place])

    def to_pandas(self) -> pd.DataFrame:
        """Returns all rows as a frame by rank; layers become columns such as ``kernel_size_0``.

        Raises:
            PandasMissingError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise PandasMissingError(
                "pandas is not installed; install it with: pip install 'convsweep[pandas]'"
            ) from error
        frame = pd.DataFrame([_flat(row) for row in self])
        return frame.set_index("rank") if len(frame) else frame


def _flat(row: Leader) -> dict[str, Any]:
    layers = {
        f"{name}_{number}": value
        for number, layer in enumerate(row["layers"])
        for name, value in layer.items()
    }
    return {name: value for name, value in row.items() if name != "layers"} | layers
