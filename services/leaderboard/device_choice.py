"""Chooses which device models' results to show (default: one)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.leaderboard import devices as device_queries
from shared.domain.errors import InvalidInputError, SweepNotFoundError

ANY_DEVICE = "any"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device models whose results are shown, and all that measured the sweep."""

    device: tuple[str, ...]  # empty while nothing was measured
    devices: dict[str, int]  # ranked jobs by device model, most first
    environment_ids: tuple[int, ...]  # of the chosen models


def choose_devices(session: Session, sweep_id: int, names: Sequence[str] = ()) -> DeviceChoice:
    """Returns the device models whose results may be ranked or pooled together.

    Without ``names`` this is the model with the most ranked jobs of the sweep; of several with
    equally many, the first by name. ``any`` among the names mixes all models.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: no result of the sweep was measured on a device of that name.
    """
    environments = device_queries.select_environments(session, sweep_id)
    if environments is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    counts: Counter[str] = Counter()
    for environment in environments:
        counts[environment.device] += environment.ranked
    devices = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    chosen = _chosen(list(devices), names)
    ids = tuple(place.id for place in environments if place.device in chosen)
    return DeviceChoice(chosen, devices, ids)


def _chosen(devices: list[str], names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return tuple(devices[:1])
    if ANY_DEVICE in names:
        return tuple(devices)
    for name in names:
        if name not in devices:
            known = ", ".join(map(repr, devices)) or "none yet"
            raise InvalidInputError(
                f"device: no result of this sweep was measured on {name!r}; there are: {known}. "
                "Ask for one of them, or for `any`.",
                field="device",
            )
    return tuple(name for name in devices if name in names)
