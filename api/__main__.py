"""``python -m api``: serves the API on the host and port of the settings."""

from contextlib import suppress

from shared.logs import configure_logging
from shared.process import run_main
from shared.settings import get_settings


def serve() -> None:
    """Serves until SIGTERM or SIGINT."""
    from api.server import Server  # the processes that compute load this file, not the server

    settings = get_settings()
    configure_logging(settings)
    with suppress(KeyboardInterrupt):
        Server(settings).run()


if __name__ == "__main__":
    run_main(serve)
