"""How a process ends: without output, or with one line that names the error."""

import sys
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

from shared.domain.errors import ConvsweepError


def database_away(error: OperationalError) -> str:
    """Returns the message for users when the database cannot be reached."""
    cause = str(error.orig).strip().splitlines()[0]
    return f"The database cannot be reached: {cause} (see CONVSWEEP_DATABASE_URL)"


def run_main(main: Callable[[], int | None]) -> None:
    """Runs ``main`` and exits with its status; a known error prints one line and exits with 1."""
    try:
        sys.exit(main())
    except ConvsweepError as error:
        message = error.message
    except OperationalError as error:
        message = database_away(error)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
