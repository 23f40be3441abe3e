"""SQL that adds the groups and jobs of a new sweep with COPY, and the text format that it reads."""

from collections.abc import Iterable, Iterator, Sequence
from operator import add

from sqlalchemy.orm import Session

from shared.db.queries.statements import copy_rows
from shared.domain.architecture import LayerConfig
from shared.domain.space import SpaceTable


def insert_groups(session: Session, sweep_id: int, positions: Iterable[int]) -> None:
    """Adds a sweep's groups; the n-th position belongs to group n."""
    lines = (f"{sweep_id}\t{index}\t{position}\n" for index, position in enumerate(positions))
    copy_rows(session, "COPY groups (sweep_id, index, position) FROM STDIN", lines)


def insert_jobs(session: Session, sweep_id: int, trials: int, table: SpaceTable) -> None:
    """Adds a pending job with a target of ``trials`` per architecture of a table."""
    statement = """
        COPY jobs (sweep_id, space_index, group_index, architecture_hash, channels, kernel_size,
            stride, dilation, padding, activation, ratio, parameters, flops, trials_target)
        FROM STDIN
    """
    copy_rows(session, statement, _job_lines(sweep_id, trials, table))


def _job_lines(sweep_id: int, trials: int, table: SpaceTable) -> Iterator[str]:
    """Yields a line per job, its columns in the order of ``insert_jobs``.

    The layers' arrays are put together from texts that are made once: of all layers but the last
    per group, and of each choice for the last layer.
    """
    columns = (table.index, table.group, table.fits, table.ratio, table.parameters, table.flops)
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    ends = {layer: [f"{value}}}" for value in layer] for layer in table.options[-1]}
    group_first, starts = None, []
    for (first, last, digest), (index, group, fits, ratio, parameters, flops) in zip(
        table.rows(), numbers, strict=True
    ):
        if first is not group_first:
            group_first, starts = first, _array_starts(first)
        layers = "\t".join(map(add, starts, ends[last]))
        measures = f"{ratio}\t{parameters}\t{flops}" if fits else "\\N\t\\N\t\\N"
        yield (
            f"{sweep_id}\t{index}\t{group}\t\\\\x{digest.hex()}\t{layers}\t{measures}\t{trials}\n"
        )


def _array_starts(layers: Sequence[LayerConfig]) -> list[str]:
    """Returns, per field of a layer, the text of its array up to the last layer's value."""
    return [
        "{" + "".join(f"{layer[field]}," for layer in layers)
        for field in range(len(LayerConfig._fields))
    ]
