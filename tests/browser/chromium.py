"""Finds a Chromium for the tests, or gets one; ``python -m tests.browser.chromium`` does it ahead.

``CHROMIUM_PATH``, then one on PATH, then the one that Playwright fetches, then, as root on
Debian, the package ``chromium``.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# nothing that phones home; WebGL without a GPU
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-gpu-watchdog", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
HELP = (
    "The dashboard's tests need Chromium, and none of these worked: CHROMIUM_PATH, PATH, "
    "`python -m playwright install chromium`, `apt-get install chromium` as root. Install it, e.g. "
    "`sudo apt-get install chromium`, or set CHROMIUM_PATH to one."
)


class ChromiumMissingError(RuntimeError):
    """There is none, and none can be installed."""


def find_chromium() -> str:
    """Returns the path of a Chromium.

    Raises:
        ChromiumMissingError: there is none and none can be installed; the message says what to do.
    """
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        if not Path(named).is_file():
            raise ChromiumMissingError(f"CHROMIUM_PATH={named} leads nowhere. {HELP}")
        return named
    found = _on_path() or _fetched() or _installed()
    if found is None:
        raise ChromiumMissingError(HELP)
    return found


def _on_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _fetched() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if not Path(path).is_file():
        _run([sys.executable, "-m", "playwright", "install", "chromium"], quiet=True)
    return path if _starts(path) else None


def _starts(path: str) -> bool:
    """Says whether there is one and the machine has the libraries that it needs."""
    if not Path(path).is_file():
        return False
    version = subprocess.run([path, "--version"], capture_output=True, check=False, timeout=60)
    return version.returncode == 0


def _installed() -> str | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    _run(["apt-get", "update"])
    _run(["apt-get", "install", "--yes", "--no-install-recommends", "chromium"])
    return _on_path()


def _run(command: list[str], *, quiet: bool = False) -> None:
    """Runs a command; on failure prints one line, because the next way may work.

    A ``quiet`` command prints nothing else.
    """
    if not quiet:
        print("$", *command, file=sys.stderr)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    output = subprocess.DEVNULL if quiet else sys.stderr
    try:
        done = subprocess.run(
            command, env=environment, stdout=output, stderr=output, check=False, timeout=300
        )
        failure = f"exit status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired:
        failure = "no end after 300 s"
    if failure is not None:
        line = shlex.join([Path(command[0]).name, *command[1:]])
        print(f"{line}: {failure}; trying the next way to get Chromium", file=sys.stderr)


if __name__ == "__main__":
    try:
        print(find_chromium())
    except ChromiumMissingError as error:
        sys.exit(str(error))
