"""Which code this is: results carry it."""

from importlib.metadata import PackageNotFoundError, version


def code_version() -> str:
    """Returns the installed version, or ``0+unknown`` when run from a tree that is not."""
    try:
        return version("convsweep")
    except PackageNotFoundError:
        return "0+unknown"
