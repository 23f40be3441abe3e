"""Tasks for the processes that compute, which import them by name."""

import os
import time


def allocate(bytes_: int) -> bytes:
    return bytes(len(bytearray(bytes_)).bit_length())


def sleep_as(path: str) -> bytes:
    """Writes this process's id to a file, then takes a minute."""
    with open(path, "w") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    time.sleep(60)
    return b""


def own_niceness() -> bytes:
    return str(os.getpriority(os.PRIO_PROCESS, 0)).encode()
