"""How a process ends: without output, or with one line that names the error."""

import sys
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

from shared.db.availability import explain_unreachable
from shared.domain.errors import ConvsweepError


def run_main(main: Callable[[], int | None]) -> None:
    """Runs ``main`` and exits with its status; a known error prints one line and exits with 1."""
    try:
        sys.exit(main())
    except ConvsweepError as error:
        message = error.message
    except OperationalError as error:
        message = explain_unreachable(error)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
