"""Ranked networks: rows to iterate over, or a pandas data frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from convsweep.answers import LeaderboardPage, RankedNetwork
from convsweep.errors import PandasMissingError
from convsweep.filters import Parameters

if TYPE_CHECKING:
    import pandas as pd

MAX_PAGE_SIZE = 1000

FetchPage = Callable[[Parameters], LeaderboardPage]


class Leaderboard:
    """Ranked networks; iterating fetches them page by page.

    The first page is fetched at once, so a filter that the API refuses raises when the leaderboard
    is requested.

    Attributes:
        throughput_device: the device model whose throughputs and fitness are shown.
        timed: number of networks per device model that timed them.
        measured: number of ranked networks per device model of their last trials.
        min_throughput: images per second below which networks are left out by default.
    """

    throughput_device: str | None
    timed: dict[str, int]
    measured: dict[str, int]
    min_throughput: float | None

    def __init__(self, fetch_page: FetchPage, limit: int | None = None) -> None:
        self._fetch_page = fetch_page
        self._limit = limit
        self._first = self._page(None, limit)
        self.throughput_device = self._first["throughput_device"]
        self.timed = self._first["timed"]
        self.measured = self._first["measured"]
        self.min_throughput = self._first["min_throughput"]

    def __iter__(self) -> Iterator[RankedNetwork]:
        """Yields the networks from rank 1 on."""
        page, left = self._first, self._limit
        while True:
            yield from page["rows"]
            left = None if left is None else left - len(page["rows"])
            if page["next_page_token"] is None or left == 0:
                return
            page = self._page(page["next_page_token"], left)

    def to_pandas(self) -> pd.DataFrame:
        """Returns all rows as a data frame indexed by rank.

        Each setting of a layer is a column, such as ``kernel_size_0`` for the first layer.

        Raises:
            PandasMissingError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise PandasMissingError(
                "pandas is not installed; install it with: pip install 'convsweep-client[pandas]'"
            ) from error
        frame = pd.DataFrame([_flat(row) for row in self])
        return frame.set_index("rank") if len(frame) else frame

    def _page(self, token: str | None, left: int | None) -> LeaderboardPage:
        size = MAX_PAGE_SIZE if left is None else min(left, MAX_PAGE_SIZE)
        start = [("page_token", token)] if token else []
        return self._fetch_page([("page_size", str(size)), *start])


def _flat(row: RankedNetwork) -> dict[str, Any]:
    layers = {
        f"{name}_{number}": value
        for number, layer in enumerate(row["layers"])
        for name, value in layer.items()
    }
    return {name: value for name, value in row.items() if name != "layers"} | layers
