"""JSON as RFC 8259 has it: numbers are finite, names occur once, errors say where they are."""

import json
import math
from typing import Any, NoReturn


class StrictJsonError(ValueError):
    """The text is JSON to Python, but has a number or a name that no JSON may have."""


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        StrictJsonError: a number is not finite or too long, a name occurs twice in an object, or
            values are nested too deeply.
        UnicodeDecodeError: the bytes are not text.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except RecursionError as error:
        raise StrictJsonError("values are nested too deeply") from error


def describe_syntax_error(error: json.JSONDecodeError) -> str:
    """Returns what is wrong with a text that is not JSON, and where."""
    place = f"line {error.lineno}, column {error.colno}"
    before = error.doc[: error.pos].rstrip()
    after = error.doc[error.pos :].lstrip()[:1]
    if before.endswith(",") and after in ("}", "]"):
        return f"{place}: a comma before {after!r} has no value after it"
    if not after:
        return f"{place}: the text ends too early ({error.msg})"
    return f"{place}: {error.msg}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise StrictJsonError(f"the name {repeated!r} occurs twice in an object")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError(f"{name} is not a number in JSON; numbers are finite")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError(f"{text[:40]} is too large a number")
    return value


def _integer(text: str) -> int:
    if len(text) > 400:
        raise StrictJsonError(f"{text[:40]}... is too large a number")
    return int(text)
