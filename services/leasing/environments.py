"""Environments of measurements as rows, and text that the database can store."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from shared.domain.measurements import Environment


def environment_row(environment: Environment) -> dict[str, Any]:
    """Returns the columns of an environment, with the fingerprint that identifies it."""
    row = asdict(environment) | {"versions": json.dumps(environment.versions, sort_keys=True)}
    fingerprint = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
    return row | {"fingerprint": fingerprint}


def storable(message: str) -> str:
    """Returns a message with "?" for what Postgres refuses: zero bytes and lone surrogates."""
    return message.replace("\0", "?").encode(errors="replace").decode()
