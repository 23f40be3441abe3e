"""The API's own description: complete, stable, and its examples are real and valid."""

import ast
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib import import_module
from pkgutil import iter_modules
from types import FunctionType, ModuleType
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi.routing import APIRoute

from api import routes
from api.app import create_app
from api.errors import STATUS_BY_ERROR
from api.openapi.document import EXAMPLES, PROBLEM
from api.routes import sweeps
from shared.db.session import make_engine, make_session_factory
from shared.domain import errors
from shared.settings import Settings
from tests.conftest import migrate, serving
from tests.fuzz.recording import operations, record, shape
from tests.fuzz.sweeps import OPEN, fill

Json = dict[str, Any]

DOCUMENT: Json = create_app(Settings()).openapi()
OPERATIONS = operations(DOCUMENT)
MODULES = [import_module(f"api.routes.{found.name}") for found in iter_modules(routes.__path__)]
ROUTES = [
    route for module in MODULES for route in module.router.routes if isinstance(route, APIRoute)
]
# a route that has just made or found the sweep itself cannot miss it
IMPOSSIBLE = {
    ("create", errors.SweepNotFoundError),
    ("show_job", errors.SweepNotFoundError),
    ("show_training", errors.SweepNotFoundError),
    ("control_training", errors.SweepNotFoundError),
}


def responses(name: str) -> Iterator[tuple[str, str, Json]]:
    """Yields (status, media type, content) of everything that an operation answers."""
    for status, response in OPERATIONS[name][2]["responses"].items():
        for media_type, content in response.get("content", {}).items():
            yield status, media_type, content


def validator(schema: Json) -> jsonschema_rs.Validator:
    whole = {"components": DOCUMENT["components"], **schema}
    return jsonschema_rs.Draft202012Validator(whole)


def test_the_description_is_the_same_every_time_and_sorted() -> None:
    assert json.dumps(create_app(Settings()).openapi()) == json.dumps(DOCUMENT)
    assert list(DOCUMENT["paths"]) == sorted(DOCUMENT["paths"])
    assert list(DOCUMENT["components"]["schemas"]) == sorted(DOCUMENT["components"]["schemas"])


def test_every_operation_has_an_id_of_its_own() -> None:
    count = sum(len(methods) for methods in DOCUMENT["paths"].values())
    assert len(OPERATIONS) == count


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_does_and_what_it_takes_and_answers(name: str) -> None:
    _, path, operation = OPERATIONS[name]
    assert len(operation["summary"]) > 10
    assert operation["description"]
    assert operation["tags"]
    for parameter in operation.get("parameters", []):
        assert parameter.get("description"), f"{path}: {parameter['name']}"
    described = {status for status, _, _ in responses(name)}
    assert described >= {"421", "422", "503"}
    for status, response in operation["responses"].items():
        assert response["description"]
        if status.startswith("2"):
            assert response.get("content"), f"{path}: what does {status} send?"
        if status in ("429", "503"):
            assert "Retry-After" in response["headers"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_a_problem_with_valid_examples(name: str) -> None:
    for status, media_type, content in responses(name):
        if not status.startswith("2"):
            assert media_type == PROBLEM
            assert content["examples"]
            for code, example in content["examples"].items():
                validator(content["schema"]).validate(example["value"])
                assert example["value"]["status"] == int(status)
                assert example["value"]["code"] == code
                assert HTTPStatus(int(status)).phrase == example["value"]["title"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_in_json_has_a_valid_example(name: str) -> None:
    for status, media_type, content in responses(name):
        if status.startswith("2") and media_type == "application/json":
            assert "example" in content, f"record one: make examples ({status})"
            validator(content["schema"]).validate(content["example"])


RAISED = re.compile(r"^\s*(?:shared\.errors\.)?(\w+Error):", re.MULTILINE)


def raised_by(function: Any, seen: set[Any] | None = None) -> set[type[errors.ConvsweepError]]:
    """Returns what the services say they raise that a route calls, by itself or through helpers."""
    seen = set() if seen is None else seen
    if function in seen:
        return set()
    seen.add(function)
    if function.__module__.startswith("services"):
        names = RAISED.findall((inspect.getdoc(function) or "").partition("Raises:")[2])
        return {getattr(errors, name) for name in names if hasattr(errors, name)}
    found: set[type[errors.ConvsweepError]] = set()
    for called in called_by(function):
        found |= raised_by(called, seen)
    return found


def called_by(function: FunctionType) -> Iterator[FunctionType]:
    """Yields the functions of ours that ``function`` calls by name, or by module and name."""
    for node in ast.walk(ast.parse(inspect.getsource(function).lstrip())):
        called: Any = None
        if isinstance(node, ast.Name):
            called = function.__globals__.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = function.__globals__.get(node.value.id)
            called = getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
        if isinstance(called, FunctionType) and called.__module__.startswith(("api", "services")):
            yield called


def test_raises_are_found_in_services() -> None:
    assert raised_by(sweeps.control_sweep) == {
        errors.SweepNotFoundError, errors.IllegalTransitionError,
    }  # fmt: skip
    assert errors.ConflictError in raised_by(sweeps.extend)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_describes_each_error_that_its_services_raise(route: APIRoute) -> None:
    described = OPERATIONS[route.name][2]["responses"]
    for kind in raised_by(route.endpoint):
        if (route.name, kind) in IMPOSSIBLE:
            continue
        status = str(int(STATUS_BY_ERROR[kind]))
        assert status in described, f"{kind.__name__}: add responses=raises({kind.__name__})"
        assert kind.code in described[status]["content"][PROBLEM]["examples"]


@pytest.fixture(scope="module")
def api(new_database: Callable[[str], Settings]) -> Iterator[httpx.Client]:
    """A client of an API on a database with sweeps of every kind."""
    database = new_database("examples")
    migrate(database)
    engine = make_engine(database)
    with make_session_factory(engine)() as session:
        fill(session)
    engine.dispose()
    with serving(database) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_every_example_of_a_request_is_accepted(api: httpx.Client) -> None:
    # extending takes completed jobs away, and there would be none left to train
    for method, path, operation in sorted(OPERATIONS.values(), key=lambda one: "extend" in one[1]):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        examples = [*DOCUMENT["components"]["schemas"][name]["examples"], content["example"]]
        for number, example in enumerate(examples):
            validator(content["schema"]).validate(example)
            answer = api.request(method, path.format(sweep_id=OPEN[number]), json=example)
            assert answer.is_success, f"{method} {path} {example}: {answer.text}"


def test_the_recorded_answers_are_those_of_this_api(api: httpx.Client) -> None:
    fresh = record(DOCUMENT, api)
    if os.environ.get("RECORD_EXAMPLES"):
        EXAMPLES.write_text(json.dumps(fresh, indent=1) + "\n")
    recorded = json.loads(EXAMPLES.read_text())
    assert recorded.keys() == fresh.keys(), "record them anew: make examples"
    for name, one in fresh.items():
        assert shape(recorded[name]) == shape(one), f"{name}: record anew: make examples"
