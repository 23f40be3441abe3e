"""What each kind of process may do in the database, where it has a role of its own.

``deploy/postgres/roles.sql`` makes the roles. Where they are not there nothing is granted: the
embedded cluster has one owner of everything. Which rows a role may change is a matter of triggers
and row security (migrations/versions/0015_what_workers_may_change.py).
"""

from sqlalchemy import Connection, text

from shared.db.models import Base
from shared.db.session import make_engine
from shared.settings import get_settings

Grants = dict[str, dict[str, frozenset[str]]]
Columns = dict[str, dict[str, tuple[str, ...]]]

EVERY_TABLE = frozenset(Base.metadata.tables)
# changed by triggers, with the owner's rights
COUNTED_BY_TRIGGER = frozenset({"sweep_environments", "sweep_devices", "throughputs"})
SWEEPS = frozenset({"sweeps", "sweep_progress", "groups", "jobs"})
RESULTS = frozenset({
    "trials", "timings", "environments", "workers", "dataset_labels", "reference_runs",
})  # fmt: skip
WANTED = frozenset({"wanted_timings"})
CALIBRATED = frozenset({"throughputs", "calibrations"})
TRAININGS = frozenset({"trainings", "training_epochs"})
PROBLEMS = frozenset({"worker_problems"})

GRANTS: Grants = {
    "convsweep_api": {
        "SELECT": EVERY_TABLE,
        "INSERT": SWEEPS | WANTED | CALIBRATED | {"attempts", "api_keys", "trainings"},
        "DELETE": WANTED | CALIBRATED,
        "UPDATE": SWEEPS | {"leases", "api_keys", "trainings"},
    },
    "convsweep_dispatcher": {
        "SELECT": SWEEPS | TRAININGS | PROBLEMS | {"leases", "attempts", "workers"},
        "INSERT": frozenset({"attempts"}),
    },
    "convsweep_worker": {
        "SELECT": SWEEPS | RESULTS | TRAININGS | PROBLEMS | WANTED | COUNTED_BY_TRIGGER
        | {"leases", "attempts", "device_leases"},
        "INSERT": RESULTS | PROBLEMS | WANTED
        | {"attempts", "leases", "device_leases", "training_epochs"},
        "DELETE": PROBLEMS | WANTED | {"device_leases", "training_epochs"},
    },
}  # fmt: skip

_FINISHED_SWEEPS = {
    "sweeps": ("status", "updated_at", "completed_at"),
    # A lock needs a column that may change. This one cannot: every sweep has its row already.
    "sweep_progress": ("sweep_id",),
    "groups": ("hinted_at",),
}
_LOST_JOBS = ("status", "reason", "error", "lease_token", "finished_at")
_LOST_TRAININGS = ("status", "error", "lease_token", "hinted_at", "finished_at")
# It lets timings lose their validity and makes their jobs pending, with the owner's rights.
FUNCTIONS = {"convsweep_worker": ("invalidate_timings",)}
UPDATED_COLUMNS: Columns = {
    "convsweep_dispatcher": _FINISHED_SWEEPS
    | {
        "jobs": _LOST_JOBS,
        "trainings": _LOST_TRAININGS,
        "leases": ("ended_at", "outcome"),
        "worker_problems": ("hinted_at",),
    },
    "convsweep_worker": _FINISHED_SWEEPS
    | {
        "sweeps": (*_FINISHED_SWEEPS["sweeps"], "dataset_hash"),
        "jobs": (
            *_LOST_JOBS, "attempt", "trials_done", "accuracy", "accuracy_sd", "accuracy_min",
            "accuracy_max", "train_accuracy", "throughput", "throughput_min", "throughput_max",
            "throughput_measured", "fit_s", "environment_id",
        ),
        "trainings": (
            *_LOST_TRAININGS, "attempt", "parameters", "epochs_done", "note", "weights",
            "environment_id",
        ),
        "leases": ("expires_at", "ended_at", "outcome"),
        "environments": ("fingerprint",),  # to lock the row of a known one
        "workers": (
            "device", "datasets", "problem", "problem_sweep_id", "problem_at", "last_seen_at",
            "stopped_at",
        ),
        "worker_problems": ("problem", "since"),
        "reference_runs": ("invalidated",),
        "device_leases": ("worker_id", "expires_at"),
    },
}  # fmt: skip


def grant_roles(connection: Connection) -> list[str]:
    """Gives the roles that are there exactly what they need; returns their names."""
    known = connection.execute(
        text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)"), {"names": list(GRANTS)}
    )
    roles = sorted(known.scalars())
    for role in roles:
        # names are our own, from this file; rights on columns end with those on their table
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"))
        for privilege, tables in GRANTS[role].items():
            names = ", ".join(sorted(tables))
            connection.execute(text(f"GRANT {privilege} ON {names} TO {role}"))
        for table, columns in UPDATED_COLUMNS.get(role, {}).items():
            connection.execute(text(f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {role}"))
        for function in FUNCTIONS.get(role, ()):
            connection.execute(text(f"GRANT EXECUTE ON FUNCTION {function} TO {role}"))
    return roles


def grant_in_database() -> None:
    """Grants in the settings' database, all at once or nothing."""
    engine = make_engine(get_settings(), pool_size=1)
    with engine.begin() as connection:
        grant_roles(connection)
    engine.dispose()
