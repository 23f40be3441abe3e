"""How a process of the project ends: quietly, or with one line that says what is wrong."""

import sys
from collections.abc import Callable

from shared.errors import ConvsweepError


def run_main(main: Callable[[], int | None]) -> None:
    """Runs ``main`` and exits with its status; a domain error is one line and status 1."""
    try:
        sys.exit(main())
    except ConvsweepError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(1)
