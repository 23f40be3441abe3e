"""Answers about a whole sweep as columns, and about one network in detail."""

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.leaderboard import NetworkOut
from services.analysis.answers import JobAnswers
from services.analysis.neighbours import Neighbour
from services.analysis.points import Points


class PointsOut(BaseModel):
    """Columns of equal length, one entry per network, in the order of the space."""

    sweep_id: int
    throughput_device: str | None = Field(
        description="The device model whose throughputs and fitness these are; null while nothing "
        "was timed."
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
    id: list[int] = Field(description="The numbers of the jobs.")
    space_index: list[int] = Field(
        description="Place in the sweep's space, from 0: which choices the network is made of."
    )
    columns: dict[str, list[float | None]] = Field(
        description="By field, to seven significant digits; null where a network has no value."
    )

    @classmethod
    def json_of(cls, sweep_id: int, points: Points) -> str:
        """Returns the JSON text; checking it all again would take longer than all else."""
        return cls.model_construct(
            sweep_id=sweep_id,
            throughput_device=points.throughput_device,
            timed=points.timed,
            measured=points.measured,
            min_throughput=points.min_throughput,
            id=points.job_ids,
            space_index=points.space_indices,
            columns={name: column.tolist() for name, column in points.columns.items()},
        ).model_dump_json()


class NeighbourOut(BaseModel):
    parameter: str = Field(description="What is different.", examples=["kernel_size[0]"])
    was: int | str
    now: int | str
    job: NetworkOut

    @classmethod
    def of(cls, neighbour: Neighbour) -> "NeighbourOut":
        return cls(
            parameter=str(neighbour.parameter),
            was=neighbour.was,
            now=neighbour.now,
            job=NetworkOut.of_row(neighbour.network),
        )


class ClassAccuracyOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    label: int
    images: int
    accuracy: float


class AnswersByImageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    trials: int
    right: list[int] = Field(
        description="Per validation image, in order: number of trials that predicted its class."
    )
    labels: list[int] | None = Field(
        description="Per validation image: its class; null where no worker has reported the labels."
    )
    classes: list[ClassAccuracyOut] = Field(description="Empty without labels.")

    @classmethod
    def of(cls, answers: JobAnswers) -> "AnswersByImageOut":
        return cls.model_validate(answers)
