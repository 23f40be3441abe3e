"""Requests made up from the API's own description: no server error, and no answer it leaves out.

Runs in `make test` with few requests and always the same; `make fuzz MINUTES=10` runs long and
each time with others.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import checks
from schemathesis.config import SchemathesisConfig

from api.app import create_app
from services.access.keys import create_key
from shared.db.session import make_engine, make_session_factory
from shared.domain.access import KeyScope
from shared.domain.ids import MAX_ID
from shared.settings import Settings
from tests.conftest import migrate, serving
from tests.fuzz.sweeps import JOBS, OPEN, TRAININGS, UNTOUCHED, fill

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
NOWHERE = 10**6
revocable: list[str] = []  # the prefix of a key that requests may revoke
ANSWER_S = 30

schema = schemathesis.openapi.from_dict(
    create_app(Settings()).openapi(),
    # every boundary of every parameter: two thousand requests, for which only a long run has time
    config=SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": MINUTES > 0}}}),
)
operations = sum(1 for _ in schema.get_all_operations())
settings = hypothesis.settings(
    max_examples=int(MINUTES * 60 * 10 / operations) or 10,
    derandomize=not MINUTES,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


class Service(NamedTuple):
    """Where the API is, connections to it, and what lets a request in."""

    url: str
    session: requests.Session
    headers: dict[str, str]


@pytest.fixture(scope="module")
def service(new_database: Callable[[str], Settings], broker_url: str) -> Iterator[Service]:
    """An API that wants keys, on a database with sweeps of every kind, a worker and keys."""
    wanted = {"api_keys": "required", "broker_url": broker_url}
    served = new_database("fuzz").model_copy(update=wanted)
    migrate(served)
    engine = make_engine(served)
    with make_session_factory(engine)() as session:
        fill(session)
        key, _ = create_key(session, "made-up requests", KeyScope.ADMIN)
        revocable.append(create_key(session, "to be revoked", KeyScope.READ)[1].prefix)
        session.commit()
    engine.dispose()
    with serving(served) as url, requests.Session() as session:
        session.trust_env = False
        yield Service(url, session, {"Authorization": f"Bearer {key}"})


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> Any:
    """Makes most numbers those of sweeps, jobs and trainings that are there.

    A stream of a sweep that is not over does not end, so streams are asked of one that is. What is
    wrong on purpose stays so: it must be refused.
    """
    found = dict(path_parameters or {})
    sweep_id = found.get("sweep_id")
    if _is_number(sweep_id):
        if context.operation.path.endswith("/events"):
            found["sweep_id"] = sweep_id if sweep_id > NOWHERE else UNTOUCHED[0]
        elif sweep_id % 8:
            reads = context.operation.method.upper() == "GET"
            there = (*UNTOUCHED, *OPEN) if reads else OPEN
            found["sweep_id"] = there[sweep_id % len(there)]
    for name in ("job_id", "other_id"):
        number = found.get(name)
        if _is_number(number) and number % 8:
            most = JOBS if "job_id" in found else len((*UNTOUCHED, *OPEN))
            found[name] = 1 + number % most
    training_id = found.get("training_id")
    if _is_number(training_id) and training_id % 8:
        found["training_id"] = 1 + training_id % TRAININGS
    prefix = found.get("prefix")
    if isinstance(prefix, str) and re.fullmatch("[0-7][0-9a-f]{11}", prefix):
        found["prefix"] = revocable[0]
    return found or path_parameters


def _is_number(value: Any) -> TypeGuard[int]:
    """Says whether this can be the number of something."""
    return isinstance(value, int) and 1 <= value <= MAX_ID


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Keeps sweeps small: what is tested is the answer, not the writing of many rows."""
    if isinstance(body, dict) and body.get("preset") == "random-cnn-2025":
        return body | {"preset": "quick"}
    return body


begun: dict[str, float] = {}


@schema.parametrize()
@settings
def test_no_request_gets_an_answer_that_is_not_described(case: Any, service: Service) -> None:
    name = case.operation.label
    begun.setdefault(name, time.monotonic())
    if MINUTES and time.monotonic() - begun[name] > MINUTES * 60 / operations:
        return
    case.call_and_validate(
        base_url=service.url,
        session=service.session,
        headers=service.headers,
        timeout=ANSWER_S,
        checks=[
            checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_headers_conformance,
            checks.response_schema_conformance,
            checks.negative_data_rejection,
            checks.ignored_auth,
            # GET /v1/sweeps/preview is a sweep whose number is none: another method is known there
            *([] if name.endswith("/preview") else [checks.unsupported_method]),
        ],
    )
