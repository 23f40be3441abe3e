"""API keys over HTTP: which requests are accepted, and what the others are answered."""

import importlib
import json
import pkgutil
import string
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from api import routes
from convsweep import ApiError, Client
from services.access.keys import create_key
from shared.domain.access import KeyScope
from shared.settings import Settings
from tests.conftest import serving
from tests.integration.api.test_api import SMALL, assert_problem
from tests.integration.scenario import add_sweep

FREE = {"reads_per_minute": 0, "writes_per_minute": 0, "failures_per_minute": 0}
LOCKED = {"api_keys": "required", **FREE}
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}


@pytest.fixture(scope="module")
def locked_url(migrated: Settings) -> Iterator[str]:
    """The API on the shared database, with keys required."""
    with serving(migrated.model_copy(update=LOCKED)) as url:
        yield url


@pytest.fixture
def api(locked_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client without a key, on an empty database."""
    with httpx.Client(base_url=locked_url, timeout=30) as client:
        yield client


def make_key(session: Session, scope: KeyScope, **options: Any) -> str:
    key, _ = create_key(session, f"for {scope}", scope, **options)
    session.commit()
    return key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def operations(api: httpx.Client) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns (method, path, description) of everything that the API says it can do."""
    paths = api.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


def filled(path: str) -> str:
    """Returns a path with something in place of its parameters."""
    return path.replace("{prefix}", "0" * 12).format_map(_Ones())


class _Ones(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "1"


def test_every_operation_but_health_refuses_a_stranger_and_says_so(api: httpx.Client) -> None:
    found = operations(api)
    assert len(found) > 15
    for method, path, operation in found:
        answer = api.request(method, filled(path))
        if (method, path) in OPEN:
            assert answer.status_code == 200
            assert "security" not in operation
            continue
        assert_problem(answer, 401, "key_missing")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert operation["security"] == [{"key": []}]


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/keys/", "/admin", "//v1/sweeps"])
def test_a_path_that_leads_nowhere_is_closed_too(path: str, api: httpx.Client) -> None:
    assert_problem(api.get(path), 401, "key_missing")


def test_a_read_key_reads_and_changes_nothing(api: httpx.Client, session: Session) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    sweep_id = add_sweep(session)
    for method, path, _ in operations(api):
        if (method, path) in OPEN:
            continue
        reads = method == "GET" or path == "/v1/sweeps/preview"
        with api.stream(method, filled(path), headers=key) as answer:  # events have no end
            if path.startswith("/v1/keys") or not reads:
                answer.read()
                assert_problem(answer, 403, "scope_missing")
            else:
                assert answer.status_code != 403
    shown = api.get(f"/v1/sweeps/{sweep_id}", headers=key).json()
    assert (shown["status"], shown["total"]) == ("running", 12)
    preview = api.post("/v1/sweeps/preview", json=SMALL, headers=key)
    assert preview.status_code == 200


def test_a_write_key_starts_and_controls_sweeps_but_makes_no_keys(
    api: httpx.Client, session: Session
) -> None:
    key = bearer(make_key(session, KeyScope.WRITE))
    sweep = api.post("/v1/sweeps", json=SMALL, headers=key)
    assert sweep.status_code == 201
    paused = api.post(f"/v1/sweeps/{sweep.json()['id']}/pause", headers=key)
    assert paused.json()["status"] == "paused"
    wanted = {"name": "more", "scope": "admin"}
    assert_problem(api.post("/v1/keys", json=wanted, headers=key), 403, "scope_missing")
    assert_problem(api.get("/v1/keys", headers=key), 403, "scope_missing")


def test_an_admin_makes_lists_and_revokes_keys(api: httpx.Client, session: Session) -> None:
    admin = bearer(make_key(session, KeyScope.ADMIN))
    made = api.post("/v1/keys", json={"name": "plots", "scope": "read"}, headers=admin)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()["key"]
    assert api.get("/v1/sweeps", headers=bearer(key)).status_code == 200
    listed = {row["prefix"]: row for row in api.get("/v1/keys", headers=admin).json()}
    assert listed[made.json()["prefix"]]["name"] == "plots"
    assert key not in api.get("/v1/keys", headers=admin).text

    revoked = api.delete(f"/v1/keys/{made.json()['prefix']}", headers=admin)
    assert revoked.json()["revoked_at"]
    assert_problem(api.get("/v1/sweeps", headers=bearer(key)), 401, "key_revoked")
    again = api.delete(f"/v1/keys/{made.json()['prefix']}", headers=admin)
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]
    unknown = api.delete("/v1/keys/0123456789ab", headers=admin)
    assert_problem(unknown, 404, "key_not_found")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": "x"}, "scope"),
        ({"scope": "read"}, "name"),
        ({"name": "x", "scope": "root"}, "scope"),
        ({"name": "", "scope": "read"}, "name"),
        ({"name": "a\0b", "scope": "read"}, "name"),
        ({"name": "a\u202eb", "scope": "read"}, "name"),
        ({"name": " a", "scope": "read"}, "name"),
        ({"name": "x", "scope": "read", "lifetime_days": 0}, "lifetime_days"),
        ({"name": "x", "scope": "read", "lifetime_days": 1e9}, "lifetime_days"),
        ({"name": "x", "scope": "read", "secret_hash": "00"}, "secret_hash"),
        ({"name": "x", "scope": "read", "prefix": "0123456789ab"}, "prefix"),
    ],
)
def test_a_key_without_a_scope_or_with_fields_of_its_own_is_refused_by_name(
    wanted: dict[str, Any], field: str, api: httpx.Client, session: Session
) -> None:
    admin = bearer(make_key(session, KeyScope.ADMIN))
    body = assert_problem(api.post("/v1/keys", json=wanted, headers=admin), 422, "invalid_input")
    assert [error["field"] for error in body["errors"]] == [field]


def test_an_expired_key_is_refused(api: httpx.Client, session: Session) -> None:
    key = make_key(session, KeyScope.READ, lifetime_days=30)
    assert api.get("/v1/sweeps", headers=bearer(key)).status_code == 200
    session.execute(text("UPDATE api_keys SET expires_at = clock_timestamp()"))
    session.commit()
    assert_problem(api.get("/v1/sweeps", headers=bearer(key)), 401, "key_expired")


def test_the_answer_to_a_wrong_secret_reveals_nothing_about_a_key(
    api: httpx.Client, session: Session
) -> None:
    key = make_key(session, KeyScope.READ)
    session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    session.commit()
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    refused = assert_problem(api.get("/v1/sweeps", headers=bearer(wrong)), 401, "key_invalid")
    unknown = "csw_" + "0" * 12 + key[16:]
    other = assert_problem(api.get("/v1/sweeps", headers=bearer(unknown)), 401, "key_invalid")
    assert refused["detail"] == other["detail"]


@pytest.mark.parametrize("scheme", ["Basic", "Token", "", "Bearer:"])
def test_another_scheme_is_no_bearer_key(scheme: str, api: httpx.Client, session: Session) -> None:
    headers = {"Authorization": f"{scheme} {make_key(session, KeyScope.READ)}".strip()}
    assert_problem(api.get("/v1/sweeps", headers=headers), 401, "key_invalid")


def test_two_keys_at_once_are_none(api: httpx.Client, session: Session) -> None:
    key = f"Bearer {make_key(session, KeyScope.READ)}"
    both = [("Authorization", key), ("Authorization", key)]
    assert_problem(api.get("/v1/sweeps", headers=both), 401, "key_invalid")


@given(
    header=st.one_of(
        st.text(alphabet=[chr(code) for code in range(0x21, 0x100) if code != 0x7F], min_size=1),
        st.from_regex(r"Bearer csw_[0-9a-f]{10,14}_[A-Za-z0-9_-]{41,45}", fullmatch=True),
        st.text(string.printable[:94], max_size=5000).map(lambda tail: "Bearer csw_" + tail),
    )
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_authorization_header_is_a_server_error(header: str, locked_url: str) -> None:
    value = header.encode("latin-1")
    answer = httpx.get(f"{locked_url}/v1/sweeps", headers={b"Authorization": value})
    assert_problem(answer, 401, "key_invalid")


def test_of_a_key_nothing_but_its_hash_is_kept(session: Session) -> None:
    key = make_key(session, KeyScope.READ)
    row = session.execute(text("SELECT * FROM api_keys")).mappings().one()
    secret = key.split("_", 2)[2]
    assert len(secret) == 43  # 256 bits in base64
    assert secret not in json.dumps({name: str(value) for name, value in row.items()})
    assert secret.encode() not in bytes(row["secret_hash"])


def test_keys_are_found_by_their_prefix_through_an_index(session: Session) -> None:
    session.execute(text("SET enable_seqscan = off"))
    plan = session.execute(text("EXPLAIN SELECT secret_hash FROM api_keys WHERE prefix = 'x'"))
    assert "api_keys_pkey" in "\n".join(plan.scalars())


def test_the_last_use_is_noted_at_most_once_a_minute(api: httpx.Client, session: Session) -> None:
    key = bearer(make_key(session, KeyScope.READ))
    used = text("SELECT last_used_at, xmin::text FROM api_keys")
    api.get("/v1/sweeps", headers=key)
    first = session.execute(used).one()
    session.commit()
    assert first.last_used_at is not None
    api.get("/v1/sweeps", headers=key)
    assert session.execute(used).one() == first
    session.execute(text("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'"))
    session.commit()
    api.get("/v1/sweeps", headers=key)
    assert session.execute(used).one().last_used_at > first.last_used_at


def test_the_client_carries_its_key(locked_url: str, session: Session) -> None:
    with Client(locked_url, make_key(session, KeyScope.READ)) as client:
        assert client.list_sweeps() == []
        with pytest.raises(ApiError) as refused:
            client.create_sweep(SMALL)
    assert (refused.value.status, refused.value.code) == (403, "scope_missing")


def test_with_keys_the_api_answers_to_any_name_so_that_a_proxy_may_stand_before_it(
    api: httpx.Client, session: Session
) -> None:
    headers = bearer(make_key(session, KeyScope.READ)) | {"Host": "sweeps.example.org"}
    assert api.get("/v1/sweeps", headers=headers).status_code == 200


def test_the_description_and_its_page_need_no_key_and_nothing_from_elsewhere(
    api: httpx.Client,
) -> None:
    page = api.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f'"docs/assets/{asset}"' in page.text
        assert api.get(f"/docs/assets/{asset}").status_code == 200
    assert api.get("/docs/assets/../../pyproject.toml").status_code in (401, 404)
    described = api.get("/openapi.json").json()["components"]["securitySchemes"]["key"]
    assert (described["type"], described["scheme"]) == ("http", "bearer")


def test_no_route_is_left_out_of_the_description(api: httpx.Client) -> None:
    written = {
        (method, route.path_format)
        for module in pkgutil.iter_modules(routes.__path__)
        for route in importlib.import_module(f"api.routes.{module.name}").router.routes
        for method in route.methods
    }
    assert written == {(method, path) for method, path, _ in operations(api)}


def test_two_keys_with_the_same_idempotency_key_create_two_sweeps(
    api: httpx.Client, session: Session
) -> None:
    ada, bob = (bearer(make_key(session, KeyScope.WRITE)) for _ in range(2))

    def create(key: dict[str, str], name: str) -> httpx.Response:
        body = SMALL | {"name": name}
        return api.post("/v1/sweeps", json=body, headers=key | {"Idempotency-Key": "monday"})

    first, second = create(ada, "ada"), create(bob, "bob")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert create(ada, "ada").json()["id"] == first.json()["id"]
    assert_problem(create(ada, "bob"), 409, "idempotency_key_reused")
