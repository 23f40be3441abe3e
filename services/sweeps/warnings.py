"""What keeps every running worker from a sweep, said before it starts: it may be a misspelling."""

from collections.abc import Iterable
from difflib import get_close_matches

from sqlalchemy.orm import Session

from services.monitoring.workers import SEEN_WITHIN_S
from shared.db.queries.monitoring import workers as worker_queries
from shared.domain.protocol import DeviceClass, Protocol


def find_warnings(session: Session, protocol: Protocol) -> list[str]:
    """Returns what a protocol asks for and no running worker has; none where no worker runs.

    These are no errors: a worker that has it may start later.
    """
    offers = worker_queries.select_offers(session, seen_within_s=SEEN_WITHIN_S)
    if not offers:
        return []
    warnings = [
        _missing("dataset", protocol.dataset, {name for offer in offers for name in offer.datasets})
    ]
    if protocol.device_class is not DeviceClass.ANY:
        classes = {offer.device_class for offer in offers}
        warnings.append(_missing("device class", protocol.device_class.value, classes))
    if protocol.timing_model is not None:
        models = {offer.device for offer in offers}
        warnings.append(_missing("device model", protocol.timing_model, models))
    return [warning for warning in warnings if warning]


def _missing(what: str, wanted: str, offered: Iterable[str]) -> str | None:
    known = sorted(offered)
    if wanted in known:
        return None
    near = get_close_matches(wanted, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    there = ", ".join(map(repr, known)) or "none"
    return f"No running worker has the {what} {wanted!r}; they have: {there}.{hint}"
