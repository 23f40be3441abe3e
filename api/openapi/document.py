"""The API's own description: what FastAPI finds, made complete.

Every error is there as problem details with an example, every status that comes from outside the
routes (a foreign host, a body too large, an unavailable database), summaries from the docstrings,
and recorded answers as examples. Everything is sorted, so that two versions can be compared.
"""

import copy
import json
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.errors import STATUS_BY_ERROR, problem
from api.middleware.admission import OPEN_PATHS
from api.middleware.guard import READING_METHODS
from services.leaderboard.filters import DEVICE
from shared.domain import errors
from shared.domain.events import EVENTS

Json = dict[str, Any]
PROBLEM = "application/problem+json"
EXAMPLES = Path(__file__).with_name("examples.json")
UNCOUNTED = frozenset({"401", "413", "421"})  # refused before anything is counted

TAGS = {
    "sweeps": "Previewing, creating and controlling sweeps.",
    "events": "What happens in a sweep, as it happens.",
    "results": "Leaderboards, single jobs, exports and plots.",
    "analysis": "Statistics, comparisons and pictures of results.",
    "devices": "Comparing devices: references, bridges between models, calibrated throughputs.",
    "trainings": "Training chosen networks by gradient descent, and what came of it.",
    "keys": "Making, listing and revoking keys; only for keys of the scope `admin`.",
    "system": "Health, workers and metrics.",
}
PROBLEM_SCHEMA: Json = {
    "title": "Problem",
    "description": "Problem details (RFC 9457). `code` is stable: compare it, not the texts.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "`urn:convsweep:problem:` and the code."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, and what to do about it."},
        "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "request_id": {"type": "string", "description": "The logs know the request by it."},
        "errors": {
            "type": "array",
            "description": "What is wrong in which field.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
HEADERS: dict[str, tuple[str, str]] = {
    "Location": ("The path of what was created.", "string"),
    "RateLimit-Limit": ("The number of requests of this kind that a minute permits.", "integer"),
    "RateLimit-Remaining": ("The number of requests that are left.", "integer"),
    "RateLimit-Reset": ("Seconds until all requests are available again.", "integer"),
    "Retry-After": ("Seconds to wait before the next request.", "integer"),
    "WWW-Authenticate": ("How to send an API key.", "string"),
    "X-Request-ID": ("The id of the request in the logs; a request may bring its own.", "string"),
}
HEADERS_BY_STATUS = {"201": "Location", "401": "WWW-Authenticate", "429": "Retry-After",
                     "503": "Retry-After"}  # fmt: skip


class Outside(NamedTuple):
    """An error that comes from before or around a route, and the field that is wrong, if any."""

    status: int
    code: str
    detail: str
    field: str | None = None


EVERYWHERE = (
    Outside(421, "foreign_host", "This API answers to 127.0.0.1, not to 'x'."),
    Outside(422, "invalid_input", "Unknown parameter 'limits'.", "limits"),
    Outside(503, "unavailable", "The database is unavailable or busy; try again."),
)
WITH_A_BODY = (
    Outside(415, "unsupported_media_type", "Send the body with Content-Type: application/json."),
    Outside(413, "body_too_large", "A request may have 1,048,576 bytes."),
)
WITH_CHANGES = (Outside(403, "foreign_origin", "Other origins may only read."),)
WITH_LIMITS = (Outside(429, "rate_limited", "More than 6000 requests of this kind in a minute."),)
WITH_A_KEY = (
    Outside(401, "key_missing", "This API requires a key: Authorization: Bearer csw_..."),
    Outside(401, "key_invalid", "This is no key of this service."),
    Outside(401, "key_expired", "This key has expired."),
    Outside(401, "key_revoked", "This key was revoked."),
    Outside(403, "scope_missing", "Key 8c1f has the scope read; this needs write."),
)
WITH_PARAMETER = {
    "sweep_id": (Outside(404, "sweep_not_found", "There is no sweep 404.", "sweep_id"),),
    "job_id": (Outside(404, "job_not_found", "There is no job 404.", "job_id"),),
    "training_id": (
        Outside(404, "training_not_found", "There is no training 404.", "training_id"),
    ),
    "page_token": (
        Outside(422, "invalid_page_token", "This token belongs to another listing.", "page_token"),
    ),
    DEVICE: (
        Outside(422, "unknown_filter", "There is no filter 'acuracy'.", "acuracy"),
        Outside(422, "invalid_filter", "accuracy takes numbers, not 'high'.", "accuracy"),
    ),
}


def raises(*kinds: type[errors.ConvsweepError]) -> dict[int | str, Json]:
    """Returns ``responses`` of a route that may answer with these errors."""
    responses: dict[int | str, Json] = {}
    for kind in kinds:
        status = STATUS_BY_ERROR[kind]
        entry = responses.setdefault(int(status), _problem_response(status))
        detail = (kind.__doc__ or status.phrase).strip().splitlines()[0]
        _add_example(entry, status, kind.code, detail, None)
    return responses


def sends(*media_types: str) -> dict[int | str, Json]:
    """Returns ``responses`` of a route that answers with something else than JSON."""
    return {200: {"content": {kind: {"schema": _schema_of(kind)} for kind in media_types}}}


def _schema_of(media_type: str) -> Json:
    text = media_type.startswith("text/")
    return {"type": "string"} if text else {"type": "string", "contentMediaType": media_type}


def describe(app: FastAPI) -> None:
    """Makes ``app`` describe itself completely."""
    plain = app.openapi

    @lru_cache(maxsize=1)
    def complete() -> Json:
        return completed(copy.deepcopy(plain()))

    app.openapi = complete  # type: ignore[method-assign]


def completed(document: Json) -> Json:
    """Returns the document with everything that FastAPI does not know."""
    recorded = json.loads(EXAMPLES.read_text())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _summarize(operation)
            _add_outside_errors(path, method, operation)
            _add_headers(path, operation)
            _describe_events(operation)
            _add_examples(operation, recorded.get(operation["operationId"], {}))
            operation["responses"] = dict(sorted(operation["responses"].items()))
    schemas = document["components"]["schemas"]
    schemas |= _event_schemas()
    schemas["Problem"] = PROBLEM_SCHEMA
    document["components"]["headers"] = {
        name: {"description": text, "schema": {"type": kind}}
        for name, (text, kind) in HEADERS.items()
    }
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["servers"] = [{"url": "."}]  # beside the description, wherever a proxy serves it
    used = {tag for path in document["paths"].values() for operation in path.values()
            for tag in operation["tags"]}  # fmt: skip
    document["tags"] = [{"name": tag, "description": TAGS.get(tag, tag)} for tag in sorted(used)]
    for place in (document, document["components"]):
        for name in ("paths", "schemas"):
            if name in place:
                place[name] = dict(sorted(place[name].items()))
    return document


def _summarize(operation: Json) -> None:
    """Takes the summary from the docstring's first line, which is the promise."""
    promise, _, rest = operation.get("description", "").partition("\n")
    operation["summary"] = promise.rstrip(".")
    operation["description"] = rest.strip() or promise


def _add_outside_errors(path: str, method: str, operation: Json) -> None:
    responses = operation["responses"]
    responses.get("422", {}).get("content", {}).pop("application/json", None)
    outside = [*EVERYWHERE]
    outside += WITH_A_BODY if "requestBody" in operation else ()
    outside += WITH_CHANGES if method.upper() not in READING_METHODS else ()
    outside += WITH_LIMITS if path not in OPEN_PATHS else ()
    outside += WITH_A_KEY if "security" in operation else ()
    for parameter in operation.get("parameters", []):
        outside += WITH_PARAMETER.get(parameter["name"], ())
    for error in outside:
        status = HTTPStatus(error.status)
        entry = responses.setdefault(str(error.status), _problem_response(status))
        _add_example(entry, status, error.code, error.detail, error.field)


def _event_schemas() -> dict[str, Json]:
    """Returns the schemas of the data of each kind of event, and those that they refer to."""
    models: list[tuple[type[BaseModel], Literal["serialization"]]] = [
        (kind, "serialization") for kind in EVENTS.values()
    ]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Json] = definitions["$defs"]
    return schemas


def _describe_events(operation: Json) -> None:
    """Says which data an event of each kind carries."""
    stream = operation["responses"].get("200", {}).get("content", {}).get("text/event-stream")
    if stream is not None:
        kinds = [
            {
                "properties": {
                    "event": {"const": name},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": f"#/components/schemas/{kind.__name__}"},
                    },
                }
            }
            for name, kind in EVENTS.items()
        ]
        stream["itemSchema"]["oneOf"] = kinds


def _problem_response(status: HTTPStatus) -> Json:
    return {
        "description": status.phrase,
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
    }


def _add_example(
    response: Json, status: HTTPStatus, code: str, detail: str, field: str | None
) -> None:
    fields = [{"field": field, "message": detail}] if field else None
    value = json.loads(bytes(problem(status, code, detail, fields).body))
    response["content"] = _problem_response(status)["content"] | response.get("content", {})
    response["content"][PROBLEM]["examples"][code] = {"value": value}


def _add_headers(path: str, operation: Json) -> None:
    for status, response in operation["responses"].items():
        names = [
            "X-Request-ID",
            *([HEADERS_BY_STATUS[status]] if status in HEADERS_BY_STATUS else []),
        ]
        if path not in OPEN_PATHS and status not in UNCOUNTED:
            names += [name for name in HEADERS if name.startswith("RateLimit-")]
        response["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)
        }


def _add_examples(operation: Json, recorded: Json) -> None:
    """Adds what was recorded of a real API: a request's body, and the answer to it."""
    if "request" in recorded:
        operation["requestBody"]["content"]["application/json"]["example"] = recorded["request"]
    for status, value in recorded.get("responses", {}).items():
        operation["responses"][status]["content"]["application/json"]["example"] = value
