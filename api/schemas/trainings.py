"""Bodies of requests and answers about trainings.

Accuracies are fractions, rates are images per second."""

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.schemas.paging import NEXT_PAGE
from services.trainings.probe_vs_trained import ProbeVsTrained
from services.trainings.reading import TrainingPage
from services.trainings.tables import write_snippet
from shared.db.queries.trainings.trainings import EpochRow, TrainingRow
from shared.domain.recipe import MAX_REPEATS, Recipe
from shared.domain.results.selection import Selection
from shared.domain.status import TrainingStatus

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Width = Annotated[int, Field(strict=True, ge=1, le=8192)]


class TrainingsIn(BaseModel):
    """Which networks to train, and how: one training per network, width and seed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"select": {"by": "rank", "count": 10}, "channels": [32, 128]},
                {"select": {"by": "sample", "count": 20}, "recipe": {"epochs": 30}, "repeats": 3},
            ]
        },
    )

    select: Selection
    recipe: Recipe = Recipe()
    channels: Annotated[list[Width], Field(min_length=1, max_length=16)] | None = Field(
        default=None, description="Train at each of these widths instead of the recipe's."
    )
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_REPEATS)] | None = Field(
        default=None, description="Train once with each seed instead of the recipe's."
    )
    repeats: Annotated[int, Field(strict=True, ge=1, le=MAX_REPEATS)] | None = Field(
        default=None,
        description="Train this many times, with the recipe's seed and the seeds after it.",
    )

    @model_validator(mode="after")
    def _seeds_or_repeats(self) -> "TrainingsIn":
        if self.seeds is not None and self.repeats is not None:
            raise ValueError("repeats: give seeds or repeats, not both")
        return self

    def recipes(self) -> list[Recipe]:
        """Returns the recipes of the request, each once."""
        first = self.recipe.seed
        repeated = [(first + n) % 2**63 for n in range(self.repeats or 1)]
        seeds = self.seeds or repeated
        widths: list[int | None] = [*self.channels] if self.channels else [self.recipe.channels]
        changes = [{"channels": width, "seed": seed} for width in widths for seed in seeds]
        return list(dict.fromkeys(self.recipe.model_copy(update=change) for change in changes))


class TrainingOut(BaseModel):
    id: int
    sweep_id: int
    job_id: int
    status: TrainingStatus
    layers: list[dict[str, int | str]] = Field(description="At the recipe's channels.")
    recipe: Recipe
    parameters: int | None = Field(description="With the linear head; null before it began.")
    epochs: int
    epochs_done: int
    best_epoch: int | None
    best_accuracy: float | None = Field(description="Validation accuracy of the best epoch.")
    best_loss: float | None = Field(description="Validation loss of that epoch.")
    last_accuracy: float | None
    last_loss: float | None
    probe_accuracy: float | None
    minutes: float | None = Field(
        description="The time of all epochs, each on the device that it ran on."
    )
    images_per_s: float | None = Field(
        description="The speed of training; null on a shared device or after a change of device."
    )
    device: str | None
    dataset_hash: str | None
    attempt: int
    error: str | None
    note: str | None = Field(description="A problem that did not end the training.")
    weights: str | None = Field(description="Address of the best weights; null without any.")
    created_at: dt.datetime
    finished_at: dt.datetime | None

    @classmethod
    def of(cls, row: TrainingRow) -> "TrainingOut":
        return cls.model_validate(_fields(row))


_OWN_FIELDS = ("layers", "minutes", "weights")  # computed from other columns
_SAME_FIELDS = tuple(name for name in TrainingOut.model_fields if name not in _OWN_FIELDS)


def _fields(row: TrainingRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _SAME_FIELDS} | {
        "layers": [layer._asdict() for layer in row.network.layers],
        "minutes": None if row.seconds is None else row.seconds / 60,
        "weights": row.weights and f"/v1/trainings/{row.id}/weights",
    }


class TrainingsOut(BaseModel):
    created: int = Field(description="Number of new trainings.")
    trainings: list[TrainingOut]


class TrainingPageOut(BaseModel):
    trainings: list[TrainingOut]
    counts: dict[TrainingStatus, int]
    next_page_token: str | None = NEXT_PAGE

    @classmethod
    def of(cls, page: TrainingPage) -> "TrainingPageOut":
        rows = [TrainingOut.of(row) for row in page.trainings]
        return cls(trainings=rows, counts=page.counts, next_page_token=page.next_page_token)


class ControlledOut(BaseModel):
    changed: int = Field(description="Number of trainings that changed their state.")


class EpochOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    images_per_s: float | None
    device: str | None = Field(description="Its model; null for epochs of older versions.")


class TrainingDetailOut(TrainingOut):
    curve: list[EpochOut]
    snippet: str | None = Field(description="PyTorch code that loads the weights.")

    @classmethod
    def detailed(
        cls, row: TrainingRow, epochs: list[EpochRow], input_channels: int
    ) -> "TrainingDetailOut":
        curve = [EpochOut.model_validate(epoch) for epoch in epochs]
        own = {"curve": curve, "snippet": write_snippet(row, input_channels)}
        return cls.model_validate(_fields(row) | own)


class EstimateOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    value: float | None
    low: float | None = Field(description="Where the 95 % bootstrap interval begins.")
    high: float | None


class PredictionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    spearman: EstimateOut
    kendall: EstimateOut
    precision_at_k: EstimateOut


class TrainedNetworkOut(BaseModel):
    job_id: int
    trained_accuracy: float
    probe_accuracy: float


class ProbeVsTrainedOut(BaseModel):
    recipe: dict[str, Any] = Field(description="The recipe of the trainings, without the seed.")
    networks: int
    k: int
    predictions: dict[str, PredictionOut]
    points: list[TrainedNetworkOut]

    @classmethod
    def of(cls, found: ProbeVsTrained) -> "ProbeVsTrainedOut":
        trained = found.trained
        columns = (trained.job_ids, trained.accuracies, trained.known["probe_accuracy"])
        return cls(
            recipe=trained.recipe,
            networks=len(trained.job_ids),
            k=found.k,
            predictions={
                name: PredictionOut.model_validate(one) for name, one in found.predictions.items()
            },
            points=[
                TrainedNetworkOut(job_id=job, trained_accuracy=accuracy, probe_accuracy=probe)
                for job, accuracy, probe in zip(*columns, strict=True)
            ],
        )


class ProbeVsTrainedList(BaseModel):
    recipes: list[ProbeVsTrainedOut] = Field(description="Most networks first.")
