"""The API's own description: what FastAPI finds, made complete.

Every error is there as problem details with an example, every status that comes from outside the
routes (a foreign host, a body too large, a database that is away), summaries from the docstrings,
and recorded answers as examples. Everything is sorted, so that two versions can be compared.
"""

import copy
import json
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.errors import STATUS_BY_ERROR, problem
from shared import errors
from shared.events import EVENTS

Json = dict[str, Any]
PROBLEM = "application/problem+json"
EXAMPLES = Path(__file__).with_name("examples.json")
READING = frozenset({"get", "head", "options"})

TAGS = {
    "sweeps": "Previewing, creating and steering sweeps.",
    "events": "What happens in a sweep, as it happens.",
    "results": "Leaderboards, single jobs, exports and plots.",
    "system": "Health and workers.",
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
RETRY_AFTER: Json = {
    "Retry-After": {
        "description": "Seconds after which asking again makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
LOCATION: Json = {
    "Location": {"description": "Where it is from now on.", "schema": {"type": "string"}}
}
# What answers before or around a route: status, code, detail, and a field that is wrong
OUTSIDE = {
    "body_unreadable": (400, "bad_request", "There was an error parsing the body", None),
    "unauthenticated": (401, "unauthenticated", "This API wants a key.", None),
    "foreign_origin": (403, "foreign_origin", "Other origins change nothing here.", None),
    "scope": (403, "scope_missing", "This key may not do that.", None),
    "body_too_large": (413, "body_too_large", "A request may have 1,048,576 bytes.", None),
    "foreign_host": (421, "foreign_host", "This API answers to 127.0.0.1, not to 'x'.", None),
    "invalid": (422, "invalid_input", "Unknown parameter 'limits'.", "limits"),
    "too_many": (429, "rate_limited", "Too many requests; wait a little.", None),
    "unavailable": (503, "unavailable", "The database is away or busy; try again.", None),
}


def raises(*kinds: type[errors.ConvsweepError]) -> dict[int | str, Json]:
    """Returns ``responses`` of a route that may answer with these errors."""
    found: dict[int | str, Json] = {}
    for kind in kinds:
        status = STATUS_BY_ERROR[kind]
        entry = found.setdefault(int(status), _problem_response(status))
        detail = (kind.__doc__ or status.phrase).strip().splitlines()[0]
        _add_example(entry, status, kind.code, detail, None)
    return found


def sends(media_type: str) -> dict[int | str, Json]:
    """Returns ``responses`` of a route that answers with something else than JSON."""
    text = media_type.startswith("text/")
    schema = {"type": "string"} if text else {"type": "string", "contentMediaType": media_type}
    return {200: {"content": {media_type: {"schema": schema}}}}


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
            _add_headers(operation)
            _describe_events(operation)
            _add_examples(operation, recorded.get(operation["operationId"], {}))
            operation["responses"] = dict(sorted(operation["responses"].items()))
    schemas = document["components"]["schemas"]
    schemas |= _event_schemas()
    schemas["Problem"] = PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    used = {tag for path in document["paths"].values() for one in path.values()
            for tag in one["tags"]}  # fmt: skip
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
    names = ["foreign_host", "invalid", "unavailable"]
    if "requestBody" in operation:
        names += ["body_unreadable", "body_too_large"]
    if method not in READING:
        names += ["foreign_origin"]
    if "security" in operation:
        names += ["unauthenticated", "scope", "too_many"]
    for name in names:
        number, code, detail, field = OUTSIDE[name]
        status = HTTPStatus(number)
        entry = responses.setdefault(str(number), _problem_response(status))
        _add_example(entry, status, code, detail, field)
    for parameter, kind in (
        ("{sweep_id}", errors.SweepNotFoundError),
        ("{job_id}", errors.JobNotFoundError),
    ):
        if parameter in path:
            entry = responses.setdefault("404", _problem_response(HTTPStatus.NOT_FOUND))
            thing = parameter.strip("{}").partition("_")[0]
            _add_example(entry, HTTPStatus.NOT_FOUND, kind.code, f"There is no {thing} 404.",
                         parameter.strip("{}"))  # fmt: skip


def _event_schemas() -> dict[str, Json]:
    """Returns what the data of each kind of event looks like, and whatever that refers to."""
    models: list[tuple[type[BaseModel], Literal["serialization"]]] = [
        (kind, "serialization") for kind in EVENTS.values()
    ]
    _, found = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Json] = found["$defs"]
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


def _add_headers(operation: Json) -> None:
    for status, response in operation["responses"].items():
        if status in ("429", "503"):
            response.setdefault("headers", {}).update(RETRY_AFTER)
        if status == "201":
            response.setdefault("headers", {}).update(LOCATION)


def _add_examples(operation: Json, recorded: Json) -> None:
    """Adds what was recorded of a real API: a request's body, and the answer to it."""
    if "request" in recorded:
        operation["requestBody"]["content"]["application/json"]["example"] = recorded["request"]
    for status, value in recorded.get("responses", {}).items():
        operation["responses"][status]["content"]["application/json"]["example"] = value
