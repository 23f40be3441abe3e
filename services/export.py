"""Results as files: one row per architecture, streamed."""

import csv
from collections.abc import Iterator

from sqlalchemy.orm import Session

from services.sweeps import get_sweep
from shared.db.models import Job
from shared.db.queries import leaderboard as leaderboard_queries

BLOCK_LINES = 1000  # one at a time costs more than the rows themselves
_LAYER_FIELDS = ("channels", "kernel_size", "stride", "dilation", "padding", "activation")
_JOB_FIELDS = (
    "status", "reason", "ratio", "parameters", "flops", "trials_done", "accuracy", "accuracy_sd",
    "accuracy_min", "accuracy_max", "train_accuracy", "throughput", "throughput_min",
    "throughput_measured", "fit_s", "error",
)  # fmt: skip


class _Line:
    """What csv.writer writes to: keeps the line it was given."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def export_csv(session: Session, sweep_id: int) -> Iterator[str]:
    """Yields blocks of lines of a CSV file with one row per architecture of a sweep.

    Layers are numbered from 0 in the column names (``kernel_size_0``). Accuracies are fractions,
    throughput is in images per second. The sweep is looked up at once, the rows while iterating.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    space = get_sweep(session, sweep_id).sweep.space
    return _csv_lines(session, sweep_id, len(space["layers"]))


def _csv_lines(session: Session, sweep_id: int, depth: int) -> Iterator[str]:
    line = _Line()
    writer = csv.writer(line)
    layer_columns = [f"{name}_{layer}" for layer in range(depth) for name in _LAYER_FIELDS]
    writer.writerow(["job_id", "architecture", *layer_columns, *_JOB_FIELDS, "device"])
    block = [line.text]
    for job, device in leaderboard_queries.stream_jobs(session, sweep_id):
        values = [getattr(job, name) for name in _JOB_FIELDS]
        writer.writerow(
            [job.id, job.architecture_hash.hex(), *_layer_values(job, depth), *values, device]
        )
        block.append(line.text)
        if len(block) >= BLOCK_LINES:
            yield "".join(block)
            block.clear()
    yield "".join(block)


def _layer_values(job: Job, depth: int) -> list[int | str | None]:
    lists = [getattr(job, name) for name in _LAYER_FIELDS]
    return [
        values[layer] if layer < len(values) else None for layer in range(depth) for values in lists
    ]
