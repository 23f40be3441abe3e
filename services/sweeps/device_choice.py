"""Chooses the device model whose throughputs are shown, and says which networks are too slow.

Accuracy does not depend on the device, so views of it have the results of all devices. A gate on
throughput that no device model is named for counts on the model that is shown.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.sweeps import devices as device_queries
from shared.domain.calibration import is_calibrated_scale
from shared.domain.errors import InvalidInputError, SweepNotFoundError


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device model whose throughputs are shown, and all that measured or timed the sweep.

    A model's calibrated scale stands beside it, under a name of its own.
    """

    device: str | None  # None while nothing was timed
    timed: dict[str, int]  # jobs by the model that timed them, most first, then by calibrated scale
    measured: dict[str, int]  # ranked jobs by the model that measured their last trials, most first
    min_throughput: float | None  # networks slower than this are hidden by default


def choose_device(session: Session, sweep_id: int, name: str | None = None) -> DeviceChoice:
    """Returns the device model whose throughputs are comparable with each other.

    Without a ``name`` this is the model that the protocol names, or else the one that timed most
    jobs of the sweep; of several with equally many, the first by name.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: no job of the sweep was timed on a device of that name.
    """
    found = device_queries.count_by_device(session, sweep_id)
    if found is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    timed, measured = _most_first(found.timed), _most_first(found.measured)
    if name is not None and name not in timed:
        known = ", ".join(map(repr, timed)) or "none yet"
        raise InvalidInputError(
            f"device: no network of this sweep was timed on {name!r}; there are: {known}.",
            field="device",
        )
    own = (model for model in timed if not is_calibrated_scale(model))
    preferred = found.timing_model if found.timing_model in timed else next(own, None)
    rejected = found.timing_model is not None
    return DeviceChoice(
        name or preferred, timed, measured, None if rejected else found.min_throughput
    )


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    ordered = sorted(
        counts.items(), key=lambda item: (is_calibrated_scale(item[0]), -item[1], item[0])
    )
    return {device: count for device, count in ordered if count}
