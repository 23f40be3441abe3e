"""Conditions that Postgres itself holds; migrations/ has the same text."""

from enum import StrEnum

from sqlalchemy import CheckConstraint

# NaN is greater than every number in Postgres, so an upper bound refuses it
_MEASURED = {
    "jobs": (
        "ratio BETWEEN 0 AND 1e15 AND accuracy BETWEEN 0 AND 1 AND accuracy_sd BETWEEN 0 AND 1 "
        "AND accuracy_min BETWEEN 0 AND 1 AND accuracy_max BETWEEN 0 AND 1 "
        "AND train_accuracy BETWEEN 0 AND 1 AND throughput BETWEEN 1e-15 AND 1e15 "
        "AND throughput_min BETWEEN 1e-15 AND 1e15 AND throughput_max BETWEEN 1e-15 AND 1e15 "
        "AND fit_s BETWEEN 0 AND 1e15 AND parameters >= 0 AND flops >= 0"
    ),
    "trials": (
        "fit_s BETWEEN 0 AND 1e15 AND images_per_s BETWEEN 1e-15 AND 1e15 "
        "AND images_per_s_spread BETWEEN 0 AND 1e15 AND timing_runs >= 0"
    ),
    "timings": "images_per_s BETWEEN 1e-15 AND 1e15 AND spread BETWEEN 0 AND 1e15 AND runs >= 0",
    "throughputs": (
        "throughput BETWEEN 1e-15 AND 1e15 AND throughput_min BETWEEN 1e-15 AND 1e15 "
        "AND throughput_max BETWEEN 1e-15 AND 1e15"
    ),
    "reference_runs": (
        "1e-15 <= ALL(images_per_s) AND 1e15 >= ALL(images_per_s) "
        "AND speed_change BETWEEN -1 AND 1e15"
    ),
    "training_epochs": (
        "train_loss BETWEEN -1e300 AND 1e300 AND validation_loss BETWEEN -1e300 AND 1e300 "
        "AND learning_rate BETWEEN 0 AND 1e15 AND seconds BETWEEN 0 AND 1e15 "
        "AND images_per_s BETWEEN 1e-15 AND 1e15"
    ),
}


def measured(table: str) -> CheckConstraint:
    """Returns the constraint that a table's measurements are finite and in their range."""
    return CheckConstraint(_MEASURED[table], name=f"{table}_measured")


def one_of(column: str, values: type[StrEnum]) -> str:
    """Returns the condition that a column holds one of the values."""
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"
