"""How long the transactions of this process take, by what they do, as their caller waits."""

import time
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import Pool

# what only this kind of transaction says
KINDS = {"INSERT INTO leases": "claim", "INSERT INTO trials": "complete"}


def watch_transactions() -> dict[str, list[float]]:
    """Returns lists of seconds by kind that grow from now on, from checkout to the connection's
    return, so with every round trip and the commit."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS.values()}

    def begin(_connection: Any, record: Any, _proxy: Any) -> None:
        record.info["since"], record.info["kind"] = time.perf_counter(), None

    def classify(
        connection: Connection, _cursor: Any, statement: str, _p: Any, _c: Any, _many: bool
    ) -> None:
        for words, kind in KINDS.items():
            if words in statement:
                connection.info["kind"] = kind

    def end(_connection: Any, record: Any) -> None:
        kind = record.info.get("kind")
        if kind is not None:
            times[kind].append(time.perf_counter() - record.info["since"])

    event.listen(Pool, "checkout", begin)
    event.listen(Pool, "checkin", end)
    event.listen(Engine, "before_cursor_execute", classify)
    return times
