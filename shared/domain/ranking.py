"""What ranked results are chosen and ordered by: conditions, sort keys, places, fitness."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from shared.domain.architecture import LayerConfig
from shared.domain.measurements import Reason
from shared.domain.status import JobStatus

FITNESS_WEIGHT = 0.3  # as published
MAX_FITNESS_WEIGHT = 1000.0


class Kind(Enum):
    """What a field's values are."""

    FRACTION = "a fraction from 0 to 1"
    NUMBER = "a number"
    COUNT = "a whole number"
    STATUS = "a status"
    REASON = "a reason"
    TEXT = "text"


FIELDS: Mapping[str, Kind] = {
    "id": Kind.COUNT,
    "accuracy": Kind.FRACTION,
    "train_accuracy": Kind.FRACTION,
    "throughput": Kind.NUMBER,
    "ratio": Kind.NUMBER,
    "parameters": Kind.COUNT,
    "flops": Kind.COUNT,
    "fit_seconds": Kind.NUMBER,
    "trials": Kind.COUNT,
    "fitness": Kind.NUMBER,
    "status": Kind.STATUS,
    "reason": Kind.REASON,
}
LAYER_FIELDS: Mapping[str, Kind] = {
    name: Kind.TEXT if name == "activation" else Kind.COUNT for name in LayerConfig._fields
}
CHOICES: Mapping[Kind, type[StrEnum]] = {Kind.STATUS: JobStatus, Kind.REASON: Reason}
SORT_FIELDS = tuple(name for name, kind in FIELDS.items() if kind not in CHOICES)

Value = float | int | str


@dataclass(frozen=True, slots=True)
class Range:
    """Values from ``low`` to ``high``, both of them in it; None leaves an end open."""

    low: float | int | None
    high: float | int | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A field, of layer ``layer`` where it is a layer's, that has one of some values.

    A field without a value never meets a condition.
    """

    field: str
    values: tuple[Value | Range, ...]
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class SortKey:
    """A field of ``SORT_FIELDS`` to sort by; rows without a value come last either way."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a sorted listing: the row with these values of its sort keys, and its id."""

    values: tuple[float | int | None, ...]
    id: int


@dataclass(frozen=True, slots=True)
class FitnessScale:
    """What makes a fitness of an accuracy and a throughput, for jobs of these environments.

    fitness = (accuracy - least) / span + weight * (throughput - least) / span. A span of zero
    normalises to zero. None where nothing is there to normalise by: nobody has a fitness then.
    """

    environment_ids: tuple[int, ...]
    weight: float
    least_accuracy: float | None
    greatest_accuracy: float | None
    least_throughput: float | None
    greatest_throughput: float | None
