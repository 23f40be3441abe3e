"""What each kind of process may do in the database, where it has a role of its own.

``deploy/postgres/roles.sql`` makes the roles. Where they are not there nothing is granted: the
embedded cluster has one owner of everything.
"""

from sqlalchemy import Connection, text

from shared.db.models import Base
from shared.db.session import make_engine
from shared.settings import get_settings

Grants = dict[str, dict[str, frozenset[str]]]

EVERY_TABLE = frozenset(Base.metadata.tables)
# a role that changes jobs also changes the counts that a trigger keeps, with its own rights
COUNTED = frozenset({"sweeps", "sweep_progress", "sweep_environments", "groups", "jobs", "leases"})
RESULTS = frozenset({"trials", "environments", "workers", "dataset_labels"})
TRAININGS = frozenset({"trainings", "training_epochs"})
PROBLEMS = frozenset({"worker_problems"})

GRANTS: Grants = {
    "convsweep_api": {
        "SELECT": EVERY_TABLE,
        "INSERT": COUNTED - {"leases"} | {"attempts", "api_keys", "trainings"},
        "UPDATE": COUNTED | {"api_keys", "trainings"},
    },
    "convsweep_dispatcher": {
        "SELECT": COUNTED | TRAININGS | PROBLEMS | {"attempts", "workers"},
        "INSERT": frozenset({"attempts", "sweep_environments"}),
        "UPDATE": COUNTED | PROBLEMS | {"trainings"},
    },
    "convsweep_worker": {
        "SELECT": COUNTED | RESULTS | TRAININGS | PROBLEMS | {"attempts", "device_leases"},
        "INSERT": RESULTS
        | PROBLEMS
        | {"attempts", "leases", "sweep_environments", "device_leases", "training_epochs"},
        "UPDATE": COUNTED | TRAININGS | PROBLEMS | {"environments", "workers", "device_leases"},
        "DELETE": PROBLEMS | {"device_leases", "training_epochs"},
    },
}


def grant_roles(connection: Connection) -> list[str]:
    """Gives the roles that are there exactly what they need; returns their names."""
    found = connection.execute(
        text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)"), {"names": list(GRANTS)}
    )
    roles = sorted(found.scalars())
    for role in roles:
        # names are our own, from this file
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"))
        for privilege, tables in GRANTS[role].items():
            names = ", ".join(sorted(tables))
            connection.execute(text(f"GRANT {privilege} ON {names} TO {role}"))
    return roles


def grant_in_database() -> None:
    """Grants in the settings' database, all at once or nothing."""
    engine = make_engine(get_settings(), pool_size=1)
    with engine.begin() as connection:
        grant_roles(connection)
    engine.dispose()
