"""The architectures of a sweep that differ from a given one in a single setting."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy.orm import Session

from services.leaderboard.leaders import get_job, select_scale
from services.sweeps.device_choice import choose_device
from services.sweeps.reading import load_sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.db.queries.leaderboard.leaders import LeaderRow, select_networks
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.space import Parameter, SearchSpace

MAX_NEIGHBOURS = 500


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A job whose architecture has ``now`` where the given one has ``was``."""

    network: LeaderRow
    parameter: Parameter
    was: int | str
    now: int | str


def find_neighbours(session: Session, job_id: int) -> list[Neighbour]:
    """Returns the jobs of the same sweep that are one setting away, layer by layer.

    At most 500: the first ones in the order of layers and choices. Their throughputs are those of
    the device model that timed most networks.

    Raises:
        JobNotFoundError: there is no such job.
    """
    job = get_job(session, job_id)
    space = SearchSpace.model_validate(load_sweep(session, job.sweep_id).space)
    steps = list(islice(_steps(job.architecture, space), MAX_NEIGHBOURS))
    jobs = array_queries.select_jobs_by_hash(
        session, job.sweep_id, [architecture.hash for architecture, *_ in steps]
    )
    scale = select_scale(session, job.sweep_id, choose_device(session, job.sweep_id))
    networks = select_networks(session, [neighbour.id for neighbour in jobs.values()], scale)
    return [
        Neighbour(networks[jobs[architecture.hash].id], parameter, was, now)
        for architecture, parameter, was, now in steps
        if architecture.hash in jobs
    ]


def _steps(
    here: Architecture, space: SearchSpace
) -> Iterator[tuple[Architecture, Parameter, int | str, int | str]]:
    for number, layer in enumerate(here.layers):
        for field in LayerConfig._fields:
            was = getattr(layer, field)
            for now in getattr(space.layers[number], field):
                if now != was:
                    changed = list(here.layers)
                    changed[number] = layer._replace(**{field: now})
                    yield Architecture(tuple(changed)), Parameter(field, number), was, now
