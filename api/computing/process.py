"""A process that computes: its priority, its memory limit, and its one database connection."""

import os
import resource
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVarTuple

import psutil
from sqlalchemy.orm import Session, sessionmaker

from shared.db.session import make_engine, make_session_factory
from shared.settings import Settings

Arguments = TypeVarTuple("Arguments")

NICENESS = 5  # leaderboards and Postgres come first
MEMORY_BYTES = 2 * 2**30  # beyond what the process has at its start

_current: list[Settings] = []


def run_task(
    settings: Settings, task: Callable[[*Arguments], bytes], arguments: tuple[*Arguments]
) -> bytes:
    """Runs a task in this process, which is prepared once."""
    _limit_process()
    _current[:] = [settings]
    return task(*arguments)


def open_session() -> Session:
    """Returns a session for statements that only read, on this process's one connection."""
    return _session_factory(_current[0])()


@lru_cache(maxsize=1)
def _session_factory(settings: Settings) -> sessionmaker[Session]:
    return make_session_factory(make_engine(settings, pool_size=1, autocommit=True))


@lru_cache(maxsize=1)
def _limit_process() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    if sys.platform == "linux":  # elsewhere this limit has no effect
        limit = psutil.Process().memory_info().data + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
