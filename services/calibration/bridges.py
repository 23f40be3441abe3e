"""Bridges: the same random networks timed on several device models, to compare these."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.monitoring.workers import SEEN_WITHIN_S
from services.sweeps.control import check_not_cancelled, lock_sweep, run_again
from shared.db.queries.calibration import bridges as bridge_queries
from shared.db.queries.monitoring import workers as worker_queries
from shared.domain.calibration import BRIDGE_SHARE
from shared.domain.errors import ConflictError, InvalidInputError


@dataclass(frozen=True, slots=True)
class Bridge:
    """What was asked for."""

    devices: tuple[str, ...]  # models
    networks: int  # that every model times, or has timed
    wanted: int  # timings that were missing and not asked for before


def build_bridge(
    session: Session,
    sweep_id: int,
    devices: Sequence[str] = (),
    *,
    share: float = BRIDGE_SHARE,
    seed: int = 0,
) -> Bridge:
    """Asks device models to time a random share of a sweep's networks.

    Networks that have their trials are pending until they are timed, and keep their results and
    rank; a completed sweep runs again. A repeated request asks for nothing twice.

    Args:
        devices: models; by default those of all workers that run now.
        share: of the networks of the space, up to 1.
        seed: another one chooses other networks.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep was cancelled.
        ConflictError: the sweep times no networks, or no worker runs and no model is named.
        InvalidInputError: a device model that no worker ever had, or a share that chooses nothing.
    """
    sweep = lock_sweep(session, sweep_id)
    check_not_cancelled(sweep)
    if sweep.protocol.get("timing") is None:
        raise ConflictError(
            f"Sweep {sweep_id} does not time its networks: its protocol has no timing. Start a "
            "sweep with `timing` to compare devices."
        )
    models = _checked(session, devices) if devices else _running(session)
    job_ids = bridge_queries.lock_bridge(session, sweep_id, share, seed)
    if not job_ids:
        raise InvalidInputError(
            f"share: {share:g} of the networks of sweep {sweep_id} is none. Ask for more.",
            field="share",
        )
    wanted = bridge_queries.want_timings(session, job_ids, models)
    if wanted:
        run_again(session, sweep)
    return Bridge(tuple(models), len(job_ids), wanted)


def _checked(session: Session, devices: Sequence[str]) -> list[str]:
    known = bridge_queries.select_known_models(session)
    for device in devices:
        if device not in known:
            names = ", ".join(map(repr, known)) or "none yet"
            raise InvalidInputError(
                f"devices: no worker ever had a device model {device!r}; there are: {names}.",
                field="devices",
            )
    return sorted(set(devices))


def _running(session: Session) -> list[str]:
    offers = worker_queries.select_offers(session, seen_within_s=SEEN_WITHIN_S)
    if not offers:
        raise ConflictError("No worker runs now. Start workers, or name the device models.")
    return sorted({offer.device for offer in offers})
