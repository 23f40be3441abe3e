"""A sweep with results of every kind, and what its listings must be, computed in Python."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.environments import environment_row
from services.sweeps.creation import create_sweep
from shared.db.queries.leasing.environments import upsert_environment
from shared.domain.protocol import Protocol
from shared.domain.results.ranking import FITNESS_WEIGHT, Range
from shared.domain.space import LayerSpace, SearchSpace
from tests.integration.scenario import environment

DEVICES = ("H100", "A100", "a processor")  # by number of completed jobs, about 6 : 3 : 1
PER_DEVICE = ("throughput", "throughput_min", "throughput_max", "throughput_measured")
STATUSES = ("completed", "rejected", "failed", "invalid", "pending", "cancelled")
SPACE = SearchSpace(
    layers=(
        LayerSpace(channels=(1, 2), kernel_size=(3, 5), stride=(1, 2), activation=("relu", "tanh")),
        LayerSpace(channels=(4,), kernel_size=(3, 5, 7), stride=(1, 3), padding=(0, 1)),
    )
)  # 192 networks


_TIMINGS = """
    INSERT INTO timings (job_id, environment_id, images_per_s, spread, runs, source, attempt)
    SELECT :job, :environment, :images_per_s * factor, 0.01, 9, :source, 1
    FROM (VALUES (CAST(1 AS float8)), (1.01), (0.995)) AS timings(factor)
"""


def add_results(session: Session, seed: int = 0, *, completed: float = 0.7) -> int:
    """Creates and commits a sweep whose jobs have random figures, with ties and gaps."""
    protocol = Protocol(dataset="digits", input_shape=(1, 32, 32), trials=3)
    sweep_id = create_sweep(session, SPACE, protocol).id
    ids = session.execute(text("SELECT id FROM jobs WHERE sweep_id = :id"), {"id": sweep_id})
    environments = [upsert_environment(session, environment_row(environment(d))) for d in DEVICES]
    choose = random.Random(seed)
    rows = [_random_job(choose, job_id, environments, completed) for job_id in ids.scalars()]
    timings = [timing for row in rows if (timing := row.pop("timing"))]
    names = [name for name in rows[0] if name != "id"]
    assignments = ", ".join(f"{name} = :{name}" for name in names)
    session.execute(text(f"UPDATE jobs SET {assignments} WHERE id = :id"), rows)
    session.execute(text(_TIMINGS), timings)
    session.commit()
    return sweep_id


def _random_job(
    choose: random.Random, job_id: int, environments: Sequence[int], completed: float
) -> dict[str, Any]:
    done = choose.random() < completed
    status = "completed" if done else choose.choice(STATUSES[1:])
    measured = status in ("completed", "rejected")
    accuracy = choose.randrange(10, 40) / 100 if measured else None
    timed = measured and choose.random() < 0.8
    throughput = choose.randrange(1, 60) * 37.7 if timed else None
    environment_id = choose.choices(environments, (6, 3, 1))[0]
    trials = 3 if done else choose.randrange(4) if measured else 0
    return {
        "id": job_id,
        "status": status,
        "reason": {"rejected": "accuracy_below_minimum", "failed": "non_finite"}.get(status),
        "error": 'it said "no",\nthen: ü \\ \t' if status == "failed" else None,
        "trials_done": trials,
        "accuracy": accuracy,
        "accuracy_sd": choose.random() / 10 if trials > 1 else None,
        "train_accuracy": choose.random() if measured else None,
        "fit_s": choose.randrange(1, 9) / 1000 if measured else None,
        "environment_id": environment_id if measured else None,
        "timing": throughput and {
            "job": job_id, "environment": environment_id, "images_per_s": throughput,
            "source": choose.choice(["measured", "screened"]),
        },
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reference:
    """The rows of a sweep as the database has them, and listings of them in plain Python."""

    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, session: Session, sweep_id: int) -> "Reference":
        rows = session.execute(
            text("SELECT j.*, j.fit_s AS fit_seconds, e.device "
                 "FROM jobs j LEFT JOIN environments e ON e.id = j.environment_id "
                 "WHERE sweep_id = :id ORDER BY j.id"),
            {"id": sweep_id},
        ).mappings()  # fmt: skip
        timed = session.execute(
            text("SELECT job_id, device, throughput, throughput_min, throughput_max, "
                 "throughput_measured FROM throughputs WHERE sweep_id = :id"),
            {"id": sweep_id},
        ).mappings()  # fmt: skip
        throughputs = {(row["job_id"], row["device"]): dict(row) for row in timed}
        found = [dict(row) | throughputs.get((row["id"], row["device"]), {}) for row in rows]
        session.commit()
        return cls(found)

    def most_used_device(self) -> str:
        """Returns the device model that timed most."""
        counts = Counter(str(row["device"]) for row in self.rows if row["throughput"])
        return min(counts, key=lambda name: (-counts[name], name))

    def on_device(
        self, device: str | None = None, weight: float = FITNESS_WEIGHT
    ) -> list[dict[str, Any]]:
        """Returns the rows as they are shown with the throughputs of one device model.

        Without a name it is the most used one. ``fitness`` is by the published formula.
        """
        chosen = device or self.most_used_device()
        elsewhere = dict.fromkeys(PER_DEVICE)
        rows = [r if r["device"] == chosen else r | elsewhere for r in self.rows]
        pool = [row for row in rows if row["status"] == "completed"]

        def ends(name: str) -> tuple[float, float]:
            values = [row[name] for row in pool if row[name] is not None]
            return min(values), max(values) - min(values)

        (least_a, span_a), (least_t, span_t) = ends("accuracy"), ends("throughput")

        def fitness(row: dict[str, Any]) -> float | None:
            if row["status"] != "completed" or row["throughput"] is None:
                return None
            normalized = (row["accuracy"] - least_a) / span_a
            return float(normalized + weight * ((row["throughput"] - least_t) / span_t))

        return [
            row
            | {
                "fitness": fitness(row),
                "throughput_device": None if row["throughput"] is None else chosen,
            }
            for row in rows
        ]

    def ranked(
        self,
        filters: dict[str, list[Any]],
        sort: Sequence[str] = ("-accuracy",),
        device: str | None = None,
        weight: float = FITNESS_WEIGHT,
    ) -> list[int]:
        """Returns the ids that a leaderboard must show, in order."""
        filters = {"status": ["completed"]} | filters
        rows = [
            row
            for row in self.on_device(device, weight)
            if all(meets(row, name, values) for name, values in filters.items())
        ]
        return [row["id"] for row in in_order(rows, sort)]


def meets(row: dict[str, Any], name: str, values: Sequence[Any]) -> bool:
    """Says whether a row has one of these values, or is in one of these ranges."""
    field, _, layer = name.rstrip("]").partition("[")
    value = row[field]
    if layer:
        value = value[int(layer)] if int(layer) < len(value) else None
    return value is not None and any(_is_in(value, wanted) for wanted in values)


def _is_in(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Range):
        return bool(value == wanted)
    return (wanted.low is None or value >= wanted.low) and (
        wanted.high is None or value <= wanted.high
    )


def in_order(rows: list[dict[str, Any]], sort: Sequence[str]) -> list[dict[str, Any]]:
    """Returns rows sorted by keys such as ``-accuracy``, gaps last, ties by id."""

    def key(row: dict[str, Any]) -> list[Any]:
        parts: list[Any] = []
        for name in sort:
            value = row[name.removeprefix("-")]
            signed = 0 if value is None else -value if name.startswith("-") else value
            parts.append((value is None, signed))
        return [*parts, row["id"]]

    return sorted(rows, key=key)


def as_text(values: Sequence[Any]) -> str:
    """Returns values and ranges as the grammar writes them."""
    return "|".join(
        f"{'' if v.low is None else v.low}..{'' if v.high is None else v.high}"
        if isinstance(v, Range)
        else str(v)
        for v in values
    )
