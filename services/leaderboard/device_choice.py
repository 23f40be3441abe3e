"""Whose results are shown: those of one device model, unless somebody asks for more."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.leaderboard import devices as device_queries
from shared.domain.errors import InvalidInputError, SweepNotFoundError

ANY_DEVICE = "any"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device models whose results an answer is about, and all that there are."""

    device: tuple[str, ...]  # empty while nothing was measured
    devices: dict[str, int]  # completed jobs by device model, most first
    environment_ids: tuple[int, ...]  # where the chosen ones measured


def choose_devices(session: Session, sweep_id: int, wanted: Sequence[str] = ()) -> DeviceChoice:
    """Returns the devices whose results may be ranked or pooled together.

    That is the device model with the most completed jobs of the sweep, the first by name where
    several have as many. Whoever names others in ``wanted`` gets those, and ``any`` mixes all.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: no result of the sweep was measured on a device of that name.
    """
    found = device_queries.select_environments(session, sweep_id)
    if found is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    counts: Counter[str] = Counter()
    for row in found:
        counts[row.device] += row.completed
    devices = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    chosen = _chosen(list(devices), wanted)
    return DeviceChoice(chosen, devices, tuple(row.id for row in found if row.device in chosen))


def _chosen(devices: list[str], wanted: Sequence[str]) -> tuple[str, ...]:
    if not wanted:
        return tuple(devices[:1])
    if ANY_DEVICE in wanted:
        return tuple(devices)
    for name in wanted:
        if name not in devices:
            known = ", ".join(map(repr, devices)) or "none yet"
            raise InvalidInputError(
                f"device: no result of this sweep was measured on {name!r}; there are: {known}. "
                "Ask for one of them, or for `any`.",
                field="device",
            )
    return tuple(name for name in devices if name in wanted)
