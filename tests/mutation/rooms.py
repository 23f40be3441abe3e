"""Which files are mutated, and which tests must notice."""

from dataclasses import dataclass

INTEGRATION = "tests/integration"
QUERIES = "shared/db/queries"


@dataclass(frozen=True, slots=True)
class Room:
    """Files to mutate, as patterns, and the tests that must notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "ridge": Room(("worker/engine/ridge/*.py",), ("tests/engine/test_ridge.py",)),
    "leasing": Room(
        ("services/leasing/*.py", f"{QUERIES}/leasing/*.py"),
        (
            f"{INTEGRATION}/leasing",
            f"{INTEGRATION}/trainings/test_training_leases.py",
            f"{INTEGRATION}/dispatching",
            f"{INTEGRATION}/sweeps/test_job_states.py",
            f"{INTEGRATION}/sweeps/test_attempts.py",
        ),
    ),
    "dispatching": Room((f"{QUERIES}/dispatching/*.py",), (f"{INTEGRATION}/dispatching",)),
    "sweeps": Room((f"{QUERIES}/sweeps/*.py",), (f"{INTEGRATION}/sweeps", f"{INTEGRATION}/api")),
    "trainings": Room((f"{QUERIES}/trainings/*.py",), (f"{INTEGRATION}/trainings",)),
    "leaderboard": Room(
        (f"{QUERIES}/leaderboard/*.py", f"{QUERIES}/result_columns.py"),
        (f"{INTEGRATION}/leaderboard", f"{INTEGRATION}/exports", "tests/unit/test_filters.py"),
    ),
    "analysis": Room((f"{QUERIES}/analysis/*.py",), (f"{INTEGRATION}/analysis",)),
    "exports": Room((f"{QUERIES}/exports/*.py",), (f"{INTEGRATION}/exports",)),
    "live": Room((f"{QUERIES}/live/*.py",), (f"{INTEGRATION}/live", f"{INTEGRATION}/sweeps")),
    "access": Room((f"{QUERIES}/access/*.py",), (f"{INTEGRATION}/access",)),
    "monitoring": Room(
        (f"{QUERIES}/monitoring/*.py",),
        (f"{INTEGRATION}/monitoring", f"{INTEGRATION}/live", f"{INTEGRATION}/sweeps"),
    ),
}
