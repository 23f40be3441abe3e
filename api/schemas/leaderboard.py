"""What goes out about ranked jobs."""

from typing import Any

from pydantic import BaseModel, Field

from api.schemas.columns import LEADER_COLUMNS, make_columns_model
from api.schemas.jobs import JobOut, job_fields
from api.schemas.paging import NEXT_PAGE
from services.analysis.statistics.intervals import trial_interval
from services.leaderboard.leaders import LeaderPage
from shared.db.queries.leaderboard.leaders import LeaderRow


class LeaderOut(make_columns_model("LeaderColumns", LEADER_COLUMNS, JobOut), JobOut):  # type: ignore[misc]
    """A ranked job: all columns of the registry, the layers and the rank."""

    rank: int = Field(description="Rank in the listing, counted from 1 on its first page.")


def leader_fields(rank: int, row: LeaderRow) -> dict[str, Any]:
    """Returns what ``LeaderOut`` describes."""
    error, low, high = trial_interval(row.accuracy, row.accuracy_sd, row.trials_done)
    return {
        "rank": rank,
        "accuracy_se": error,
        "accuracy_low": low,
        "accuracy_high": high,
        "fitness": row.fitness,
        "device": row.device,
        "throughput_device": row.throughput_device,
        **job_fields(row),
    }


class LeaderboardOut(BaseModel):
    sweep_id: int
    throughput_device: str | None = Field(
        description="The device model whose throughputs, fit times and fitness are shown; null "
        "while nothing was measured. Networks that another one measured have none here."
    )
    devices: dict[str, int] = Field(description="Ranked jobs by device model, most first.")
    rows: list[LeaderOut]
    next_page_token: str | None = NEXT_PAGE


def leaderboard_fields(sweep_id: int, page: LeaderPage) -> dict[str, Any]:
    """Returns what ``LeaderboardOut`` describes: a model of each row would take as long as SQL."""
    ranked = enumerate(page.rows, start=page.first_rank)
    return {
        "sweep_id": sweep_id,
        "throughput_device": page.choice.device,
        "devices": page.choice.devices,
        "rows": [leader_fields(rank, row) for rank, row in ranked],
        "next_page_token": page.next_page_token,
    }
