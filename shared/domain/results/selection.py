"""Which networks with results to train: by id, rank, on the Pareto front or a random sample."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.ids import MAX_ID

Count = Annotated[
    int, Field(strict=True, ge=1, le=10_000, description="Number of networks to choose.")
]
Where = Annotated[
    dict[str, str],
    Field(
        max_length=64,
        description='Filters, as for the leaderboard, e.g. {"accuracy": "0.3.."}.',
    ),
]


class _Selection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ByIds(_Selection):
    """These jobs, all with results."""

    by: Literal["ids"]
    job_ids: Annotated[
        list[Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]],
        Field(min_length=1, max_length=10_000),
    ]


class ByRank(_Selection):
    """The first ``count`` networks of the leaderboard."""

    by: Literal["rank"]
    count: Count
    where: Where = {}
    sort: Annotated[str, Field(max_length=200)] = "-accuracy"


class ByPareto(_Selection):
    """The Pareto front: networks that no other beats in both accuracy and throughput."""

    by: Literal["pareto"]
    where: Where = {}


class BySample(_Selection):
    """A stratified random sample: ``count`` networks, even over the range of probe accuracies."""

    by: Literal["sample"]
    count: Count
    strata: Annotated[int, Field(strict=True, ge=1, le=1000)] = 10
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    where: Where = {}


Selection = Annotated[ByIds | ByRank | ByPareto | BySample, Field(discriminator="by")]
