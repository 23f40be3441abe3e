"""``python -m api``: serves the API on the host and port of the settings."""

import uvicorn

from api.app import create_app
from shared.logs import configure_logging
from shared.process import run_main
from shared.settings import get_settings


def serve() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = get_settings()
    configure_logging(settings)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    run_main(serve)
