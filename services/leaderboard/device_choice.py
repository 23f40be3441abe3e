"""Chooses the device model whose throughputs are shown (default: the one with most jobs).

Accuracy does not depend on the device, so views of it have the results of all devices.
"""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.leaderboard import devices as device_queries
from shared.domain.errors import InvalidInputError, SweepNotFoundError


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device model whose throughputs are shown, and all that measured the sweep."""

    device: str | None  # None while nothing was measured
    devices: dict[str, int]  # ranked jobs by device model, most first
    environment_ids: tuple[int, ...]  # of the chosen model


def choose_device(session: Session, sweep_id: int, name: str | None = None) -> DeviceChoice:
    """Returns the device model whose throughputs are comparable with each other.

    Without a ``name`` this is the model with the most ranked jobs of the sweep; of several with
    equally many, the first by name.

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
    if name is not None and name not in devices:
        known = ", ".join(map(repr, devices)) or "none yet"
        raise InvalidInputError(
            f"device: no result of this sweep was measured on {name!r}; there are: {known}.",
            field="device",
        )
    device = name or next(iter(devices), None)
    ids = tuple(place.id for place in environments if place.device == device)
    return DeviceChoice(device, devices, ids)
