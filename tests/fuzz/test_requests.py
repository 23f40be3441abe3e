"""Requests made up from the API's own description: no server error, and no answer it leaves out.

Runs in `make test` with few requests and always the same; `make fuzz MINUTES=10` runs long and
each time with others.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import checks

from api.app import create_app
from shared.db.session import make_engine, make_session_factory
from shared.settings import Settings
from tests.conftest import migrate, serving
from tests.fuzz.sweeps import JOBS, OPEN, UNTOUCHED, fill

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
NOWHERE = 10**6
ANSWER_S = 30

schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
operations = sum(1 for _ in schema.get_all_operations())
settings = hypothesis.settings(
    max_examples=int(MINUTES * 60 * 50 / operations) or 20,
    derandomize=not MINUTES,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def url(new_database: Callable[[str], Settings]) -> Iterator[str]:
    """An API on a database with sweeps of every kind, and a worker."""
    database = new_database("fuzz")
    migrate(database)
    engine = make_engine(database)
    with make_session_factory(engine)() as session:
        fill(session)
    engine.dispose()
    with serving(database) as address:
        yield address


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> Any:
    """Makes most numbers those of sweeps and jobs that are there.

    A stream of a sweep that is not over does not end, so streams are asked of one that is.
    """
    found = dict(path_parameters or {})
    sweep_id = found.get("sweep_id")
    if isinstance(sweep_id, int):
        if context.operation.path.endswith("/events"):
            found["sweep_id"] = sweep_id if sweep_id > NOWHERE else UNTOUCHED
        elif sweep_id % 8:
            reads = context.operation.method.upper() == "GET"
            there = (UNTOUCHED, *OPEN) if reads else OPEN
            found["sweep_id"] = there[sweep_id % len(there)]
    job_id = found.get("job_id")
    if isinstance(job_id, int) and job_id % 8:
        found["job_id"] = 1 + job_id % JOBS
    return found or path_parameters


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Keeps sweeps small: what is tested is the answer, not the writing of many rows."""
    if isinstance(body, dict) and body.get("preset") == "random-cnn-2025":
        return body | {"preset": "quick"}
    return body


begun: Counter[str] = Counter()


@schema.parametrize()
@settings
def test_no_request_gets_an_answer_that_is_not_described(case: Any, url: str) -> None:
    name = case.operation.label
    begun[name] = begun[name] or int(time.monotonic())
    if MINUTES and time.monotonic() - begun[name] > MINUTES * 60 / operations:
        return
    case.call_and_validate(
        base_url=url,
        timeout=ANSWER_S,
        checks=[
            checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_headers_conformance,
            checks.response_schema_conformance,
            checks.negative_data_rejection,
            checks.ignored_auth,
        ],
    )
