"""What goes out about ranked jobs."""

from typing import Any

from pydantic import BaseModel, Field

from api.schemas.columns import NETWORK_COLUMNS, THROUGHPUT_COLUMNS, make_columns_model
from api.schemas.jobs import JobOut, job_fields
from api.schemas.paging import NEXT_PAGE
from services.analysis.statistics.intervals import trial_interval
from services.leaderboard.leaders import LeaderPage
from shared.db.queries.leaderboard.leaders import LeaderRow

_OF_DEVICE = [column.name for column in THROUGHPUT_COLUMNS]


class NetworkOut(make_columns_model("NetworkColumns", NETWORK_COLUMNS, JobOut), JobOut):  # type: ignore[misc]
    """A job with all columns of the registry: also its throughput on one device model."""

    @classmethod
    def of_row(cls, row: LeaderRow) -> "NetworkOut":
        return cls.model_validate(network_fields(row))


class LeaderOut(NetworkOut):
    """A ranked job."""

    rank: int = Field(description="Rank in the listing, counted from 1 on its first page.")


def network_fields(row: LeaderRow) -> dict[str, Any]:
    """Returns what ``NetworkOut`` describes."""
    error, low, high = trial_interval(row.accuracy, row.accuracy_sd, row.trials_done)
    return {
        "accuracy_se": error,
        "accuracy_low": low,
        "accuracy_high": high,
        "fitness": row.fitness,
        "device": row.device,
        **{name: getattr(row, name) for name in _OF_DEVICE},
        **job_fields(row),
    }


class LeaderboardOut(BaseModel):
    sweep_id: int
    throughput_device: str | None = Field(
        description="The device model whose throughputs and fitness are shown; null while nothing "
        "was timed. Networks that it has not timed have none here."
    )
    timed: dict[str, int] = Field(
        description="Networks by the device model that timed them, most first."
    )
    measured: dict[str, int] = Field(
        description="Ranked networks by the device model of their last trials, most first."
    )
    min_throughput: float | None = Field(
        description="Networks that are slower than this on the device model, in images per second, "
        "are left out unless a filter names a status or a throughput; null where the protocol has "
        "no such gate."
    )
    rows: list[LeaderOut]
    next_page_token: str | None = NEXT_PAGE


def leaderboard_fields(sweep_id: int, page: LeaderPage) -> dict[str, Any]:
    """Returns what ``LeaderboardOut`` describes: a model of each row would take as long as SQL."""
    ranked = enumerate(page.rows, start=page.first_rank)
    return {
        "sweep_id": sweep_id,
        "throughput_device": page.choice.device,
        "timed": page.choice.timed,
        "measured": page.choice.measured,
        "min_throughput": page.choice.min_throughput,
        "rows": [{"rank": rank, **network_fields(row)} for rank, row in ranked],
        "next_page_token": page.next_page_token,
    }
