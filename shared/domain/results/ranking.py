"""How results are filtered and ranked: conditions, sort keys, places in a listing, fitness."""

from dataclasses import dataclass

FITNESS_WEIGHT = 0.3  # as published
MAX_FITNESS_WEIGHT = 1000.0
Value = float | int | str


@dataclass(frozen=True, slots=True)
class Range:
    """Values from ``low`` to ``high``, both included; None leaves an end open."""

    low: float | int | None
    high: float | int | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A column that has one of these values; ``layer`` is set for a column of a layer.

    A row without a value in the column never meets the condition.
    """

    field: str
    values: tuple[Value | Range, ...]
    layer: int | None = None


RANKED = Condition("ranked", ())  # every job that keeps at least one complete trial
NOT_SLOW = "not_slow"  # a job whose throughput, if it is known, is in the range


def not_slower_than(images_per_s: float) -> Condition:
    """Returns the condition that a job is not known to be slower."""
    return Condition(NOT_SLOW, (Range(images_per_s, None),))


@dataclass(frozen=True, slots=True)
class SortKey:
    """A sortable column; rows without a value come last in either direction."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a sorted listing: a row's values of the sort keys, and its id."""

    values: tuple[float | int | None, ...]
    id: int


@dataclass(frozen=True, slots=True)
class FitnessScale:
    """How accuracy and throughput make a fitness, with throughputs of one device model.

    fitness = (accuracy - least) / span + weight * (throughput - least) / span. A span of zero
    normalizes to zero. Accuracies are those of all devices. Figures are None where no job has one;
    then no job has a fitness.
    """

    device: str | None  # model; None while nothing was timed
    min_throughput: float | None  # slower networks do not count
    weight: float
    least_accuracy: float | None
    greatest_accuracy: float | None
    least_throughput: float | None
    greatest_throughput: float | None
