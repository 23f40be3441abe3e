"""The HTTP API, whole: a real uvicorn on a real Postgres, spoken to over a socket."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session

from services.sweeps.control import cancel_sweep
from shared.settings import Settings
from tests.conftest import free_port, serving
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    add_worker,
    claimed,
    complete,
    finish_sweep,
    rejection,
    success,
    trial,
)

TOTAL = GROUPS * GROUP_SIZE
SMALL = {
    "name": "a small one",
    "space": {"layers": [{"channels": [1, 2, 3]}, {"kernel_size": [3, 5], "stride": [1, 2]}]},
    "protocol": {"dataset": "digits", "input_shape": [1, 32, 32], "trials": 2, "order": "grid"},
}


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client of the API on an empty database."""
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Checks an answer against RFC 9457 and returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"].endswith(code)
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    return body


def test_preview_of_the_published_preset_gives_the_published_numbers(api: httpx.Client) -> None:
    answer = api.post("/v1/sweeps/preview", json={"preset": "random-cnn-2025"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["total"], body["valid"], body["groups"]) == (46_656, 32_021, 1_296)
    assert body["invalid"] == {
        "invalid_shape": 10_287,
        "ratio_above_maximum": 4_348,
        "ratio_below_minimum": 0,
    }
    assert body["flops_per_trial"] == 1_000 * body["flops"]
    assert api.get("/v1/sweeps").json()["sweeps"] == []


def test_creating_answers_201_with_the_place_of_the_sweep(api: httpx.Client) -> None:
    answer = api.post("/v1/sweeps", json=SMALL)
    assert answer.status_code == 201
    created = answer.json()
    assert answer.headers["location"] == f"/v1/sweeps/{created['id']}"
    assert created.pop("warnings") == []
    assert api.get(answer.headers["location"]).json() == created
    assert (created["name"], created["status"], created["total"]) == (
        "a small one",
        "running",
        TOTAL,
    )
    assert created["counts"]["pending"] == TOTAL
    assert sum(created["counts"].values()) == created["total"]
    assert (created["finished"], created["jobs_per_s"], created["eta_s"]) == (0, None, None)
    assert created["protocol"]["dataset"] == "digits"


def test_published_sweep_is_created_whole(api: httpx.Client) -> None:
    answer = api.post("/v1/sweeps", json={"preset": "random-cnn-2025"})
    assert answer.status_code == 201
    assert answer.json()["counts"]["pending"] == 46_656


def test_protocol_beside_a_preset_changes_single_fields(api: httpx.Client) -> None:
    wanted = {"preset": "quick", "protocol": {"trials": 7, "gates": {"min_accuracy": 0.5}}}
    protocol = api.post("/v1/sweeps", json=wanted).json()["protocol"]
    assert (protocol["trials"], protocol["gates"]["min_accuracy"]) == (7, 0.5)
    assert protocol["gates"]["max_ratio"] == 1.0
    assert protocol["train_images"] == 300


def test_sweeps_are_listed_newest_first_in_pages(api: httpx.Client) -> None:
    ids = [api.post("/v1/sweeps", json=SMALL).json()["id"] for _ in range(3)]
    first = api.get("/v1/sweeps", params={"page_size": 2}).json()
    assert [sweep["id"] for sweep in first["sweeps"]] == [ids[2], ids[1]]
    place = {"page_size": 2, "page_token": first["next_page_token"]}
    rest = api.get("/v1/sweeps", params=place).json()
    assert [sweep["id"] for sweep in rest["sweeps"]] == [ids[0]]
    assert rest["next_page_token"] is None


def test_pause_resume_and_cancel_answer_with_the_new_state(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id))
    for action, status in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
        ("cancel", "cancelled"),
    ]:
        answer = api.post(f"/v1/sweeps/{sweep_id}/{action}")
        assert answer.status_code == 200
        assert answer.json()["status"] == status
        assert sum(answer.json()["counts"].values()) == TOTAL
    assert answer.json()["counts"]["cancelled"] == TOTAL - GROUP_SIZE
    assert answer.json()["finished"] == TOTAL


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_changing_what_is_over_is_a_conflict(
    action: str, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    assert_problem(api.post(f"/v1/sweeps/{sweep_id}/{action}"), 409, "illegal_transition")


def results(session: Session) -> int:
    """Makes a sweep with twelve jobs: seven completed, one rejected, four pending."""
    sweep_id = add_sweep(session)
    for group in (0, 1):
        held = claimed(session, sweep_id, group)
        outcomes = []
        for place, job in enumerate(held.jobs):
            accuracy, images_per_s = 0.2 + 0.1 * group + 0.02 * place, 10 + 50 * group + 100 * place
            trials = [trial(n, accuracy + 0.001 * n, images_per_s) for n in job.trials]
            outcomes.append(rejection() if group and not place else success(trials))
        complete(session, held, outcomes)
    return sweep_id


def leaders(api: httpx.Client, sweep_id: int, **params: str | float) -> list[dict[str, Any]]:
    answer = api.get(f"/v1/sweeps/{sweep_id}/leaderboard", params=params)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


def test_jobs_are_paged_each_once_and_filtered_by_state(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = results(session)
    url = f"/v1/sweeps/{sweep_id}/jobs"
    seen: list[int] = []
    place: dict[str, str | int] = {}
    while True:
        page = api.get(url, params=place | {"page_size": 5}).json()
        seen += [job["id"] for job in page["jobs"]]
        if page["next_page_token"] is None:
            break
        place = {"page_token": page["next_page_token"]}
    assert len(seen) == len(set(seen)) == TOTAL
    for status, count in [("completed", 7), ("rejected", 1), ("pending", 4), ("failed", 0)]:
        jobs = api.get(url, params={"status": status}).json()["jobs"]
        assert [job["status"] for job in jobs] == [status] * count


def test_job_shows_its_layers_its_trials_and_where_they_were_measured(
    api: httpx.Client, session: Session
) -> None:
    best = leaders(api, results(session))[0]
    job = api.get(f"/v1/jobs/{best['id']}").json()
    assert {name: job[name] for name in best.keys() & job.keys()} == {
        name: best[name] for name in best.keys() & job.keys()
    }
    assert [layer["channels"] for layer in job["layers"]] == [2, 2]
    assert len(job["architecture_hash"]) == 64
    assert [row["trial"] for row in job["trials"]] == [0, 1]
    first = job["trials"][0]
    assert first["correct_bits"] == "a000"
    assert first["weights_seed"] == 2**63 - 1  # beyond what a double can hold
    assert first["environment"]["versions"] == {"python": "3", "torch": "2"}
    assert job["protocol"]["trials"] == job["trials_done"] == 2


def test_workers_are_listed_with_what_they_hold(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session)
    idle = add_worker(session)
    claimed(session, sweep_id, 1)
    workers = {worker["id"]: worker for worker in api.get("/v1/workers").json()}
    assert len(workers) == 2
    assert workers.pop(str(idle))["sweep_id"] is None
    (busy,) = workers.values()
    assert (busy["sweep_id"], busy["group_index"], busy["jobs"]) == (sweep_id, 1, GROUP_SIZE)


def test_health_and_readiness_are_ok(api: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        assert api.get(path).json() == {"status": "ok"}


def test_api_describes_itself(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/v1/sweeps", "/v1/sweeps/preview", "/v1/jobs/{job_id}", "/readyz"} <= paths.keys()


def space(**layer: object) -> dict[str, Any]:
    return {"space": {"layers": [layer]}, "protocol": {"dataset": "digits"}}


MANY = list(range(1, 101))
REFUSED_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"preset": "quick", "colour": "red"}, "colour"),
    "unknown field of a layer": (space(kernel=[3]), "space.layers.0.kernel"),
    "unknown field of the protocol": (
        {"preset": "quick", "protocol": {"epochs": 3}},
        "protocol.epochs",
    ),
    "unknown preset": ({"preset": "fastest"}, "preset"),
    "neither preset nor space": ({"name": "x"}, "body"),
    "space without protocol": ({"space": {"layers": [{}]}}, "body"),
    "empty name": ({"preset": "quick", "name": ""}, "name"),
    "name with a zero byte": ({"preset": "quick", "name": "a\0b"}, "name"),
    "name with a C1 control character": ({"preset": "quick", "name": "a\x9bb"}, "name"),
    "name that turns the direction of text": ({"preset": "quick", "name": "a\u202eb"}, "name"),
    "name with a zero-width space": ({"preset": "quick", "name": "a\u200bb"}, "name"),
    "name of blanks": ({"preset": "quick", "name": "  "}, "name"),
    "name with a blank at its end": ({"preset": "quick", "name": "a "}, "name"),
    "long name": ({"preset": "quick", "name": "a" * 101}, "name"),
    "space too big": (
        {"space": {"layers": [{"channels": MANY}] * 4}, "protocol": {"dataset": "digits"}},
        "space",
    ),
    "space beyond any number": (
        {"space": {"layers": [{"channels": MANY}] * 16}, "protocol": {"dataset": "digits"}},
        "space",
    ),
    "empty choice": (space(kernel_size=[]), "space.layers.0.kernel_size"),
    "non-positive stride": (space(stride=[0]), "space.layers.0.stride.0"),
    "duplicate choice": (space(channels=[8, 8]), "space.layers.0.channels"),
    "too many trials": ({"preset": "quick", "protocol": {"trials": 1001}}, "protocol.trials"),
    "true for a number": ({"preset": "quick", "protocol": {"trials": True}}, "protocol.trials"),
    "text for a number": (space(kernel_size=["3"]), "space.layers.0.kernel_size.0"),
    "text for a fraction": (
        {"preset": "quick", "protocol": {"gates": {"min_accuracy": "0.3"}}},
        "protocol.gates.min_accuracy",
    ),
    "a number for a truth": (
        {"preset": "quick", "protocol": {"timing": {"screening": 1}}},
        "protocol.timing.screening",
    ),
    "a path as dataset": (
        {"preset": "quick", "protocol": {"dataset": "../x"}},
        "protocol.dataset",
    ),
    "no range": (
        {"preset": "quick", "protocol": {"gates": {"min_ratio": 3}}},
        "protocol.gates",
    ),
    "images beyond memory": (
        {"preset": "quick", "protocol": {"input_shape": [1, 10**12, 10**12]}},
        "protocol",
    ),
}


@pytest.mark.parametrize("what", REFUSED_BODIES)
@pytest.mark.parametrize("path", ["/v1/sweeps", "/v1/sweeps/preview"])
def test_body_that_does_not_fit_is_refused_by_the_name_of_its_field(
    path: str, what: str, api: httpx.Client
) -> None:
    wanted, field = REFUSED_BODIES[what]
    body = assert_problem(api.post(path, json=wanted), 422, "invalid_input")
    assert [error["field"] for error in body["errors"]] == [field]
    assert api.get("/v1/sweeps").json()["sweeps"] == []


RAW_BODIES = {
    "malformed": b'{"preset": ',
    "empty": b"",
    "not an object": b"[1]",
    "null": b"null",
    "not utf-8": b'{"preset": "\xff"}',
    "NaN in a gate": b'{"preset": "quick", "protocol": {"gates": {"min_accuracy": NaN}}}',
    "half a character as name": rb'{"preset": "quick", "name": "\ud800"}',
    "half a character as field": rb'{"preset": "quick", "\ud800": 1}',
    "half a character in the protocol": rb'{"preset": "quick", "protocol": {"\ud800": 1}}',
    "a number beyond floats": b'{"preset": "quick", "protocol": {"ridge_alpha": 1e999}}',
    "a name twice": b'{"preset": "quick", "preset": "random-cnn-2025"}',
    "a comma too many": b'{"preset": "quick",}',
    "nested without end": b'{"protocol": ' + b"[" * 100_000,
    "an integer beyond 64 bits": b'{"preset": "quick", "protocol": {"seed": 9223372036854775808}}',
}


@pytest.mark.parametrize("what", RAW_BODIES)
def test_body_that_is_no_request_is_a_problem_and_never_a_server_error(
    what: str, api: httpx.Client
) -> None:
    headers = {"content-type": "application/json"}
    answer = api.post("/v1/sweeps", content=RAW_BODIES[what], headers=headers)
    assert_problem(answer, 422, "invalid_input")
    assert api.get("/v1/sweeps").json()["sweeps"] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"preset": "quick", "preset": "quick"}', "the name 'preset' occurs twice"),
        (b'{"preset": "quick",}', "line 1, column 20: a comma before '}' has no value after it"),
        (b'{"a": NaN}', "NaN is not a number in JSON"),
        (b'{"a": 1e999}', "1e999 is too large a number"),
    ],
)
def test_body_that_is_not_strict_json_is_refused_with_its_reason(
    body: bytes, reason: str, api: httpx.Client
) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = api.post("/v1/sweeps/preview", content=body, headers=headers)
    assert reason in assert_problem(answer, 422, "invalid_input")["detail"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_body_that_is_not_sent_as_json_is_refused_with_what_to_do(
    content_type: str | None, api: httpx.Client
) -> None:
    body = json.dumps({"preset": "quick"}).encode()
    headers = {} if content_type is None else {"content-type": content_type}
    answer = api.post("/v1/sweeps", content=body, headers=headers)
    detail = assert_problem(answer, 415, "unsupported_media_type")["detail"]
    assert "Content-Type: application/json" in detail


EXPORTS = ("/export.csv", "/export.jsonl", "/export.parquet")
SWEEP_PATHS = ("", "/leaderboard", "/jobs", *EXPORTS, "/plots/scatter.png")
ACTIONS = ("pause", "resume", "cancel")


@pytest.mark.parametrize("path", SWEEP_PATHS)
def test_reading_an_unknown_sweep_is_not_found(path: str, api: httpx.Client) -> None:
    assert_problem(api.get(f"/v1/sweeps/404{path}"), 404, "sweep_not_found")


@pytest.mark.parametrize(
    "path", ["sweeps/1/leaderboard", "sweeps/1/events", "sweeps/1/plots/scatter.png",
             "sweeps/1/trainings.csv", "trainings/1/weights"]
)  # fmt: skip
def test_a_path_that_is_only_read_refuses_other_methods(path: str, api: httpx.Client) -> None:
    answer = api.post(f"/v1/{path}")
    assert_problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]


def test_an_unknown_action_is_not_found(api: httpx.Client) -> None:
    for path in ("sweeps/1/dance", "sweeps/1/trainings/dance", "trainings/1/dance"):
        assert_problem(api.post(f"/v1/{path}"), 404, "not_found")


@pytest.mark.parametrize("action", ACTIONS)
def test_controlling_an_unknown_sweep_is_not_found(action: str, api: httpx.Client) -> None:
    assert_problem(api.post(f"/v1/sweeps/404/{action}"), 404, "sweep_not_found")


def test_unknown_job_is_not_found(api: httpx.Client) -> None:
    assert_problem(api.get("/v1/jobs/404"), 404, "job_not_found")


@pytest.mark.parametrize("identity", ["abc", "1.5", "0", "-1", str(2**63), str(10**40)])
def test_id_that_cannot_be_is_refused(identity: str, api: httpx.Client) -> None:
    for path in SWEEP_PATHS:
        answer = api.get(f"/v1/sweeps/{identity}{path}")
        body = assert_problem(answer, 422, "invalid_input")
        assert body["errors"][0]["field"] == "sweep_id"
    assert_problem(api.get(f"/v1/jobs/{identity}"), 422, "invalid_input")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/leaderboard", "sort=luck", "sort"),
        ("/leaderboard", "sort=accuracy;drop", "sort"),
        ("/leaderboard", "sort=accuracy,-accuracy", "sort"),
        ("/leaderboard", "sort=", "sort"),
        ("/leaderboard", "page_size=1001", "page_size"),
        ("/leaderboard", "page_size=0", "page_size"),
        ("/leaderboard", "fitness_weight=nan", "fitness_weight"),
        ("/leaderboard", "fitness_weight=-1", "fitness_weight"),
        ("/leaderboard", "device=nothing%20like%20it", "device"),
        ("/jobs", "status=done", "status"),
        ("/jobs", "page_size=1001", "page_size"),
        ("/export.csv", "rows=layers", "rows"),
        ("/export.xml", "", "form"),
    ],
)
def test_query_that_does_not_fit_is_refused_by_the_name_of_its_field(
    path: str, query: str, field: str, api: httpx.Client, session: Session
) -> None:
    answer = api.get(f"/v1/sweeps/{add_sweep(session)}{path}?{query}")
    body = assert_problem(answer, 422, "invalid_input")
    assert [error["field"] for error in body["errors"]] == [field]


def test_path_that_is_not_there_is_a_problem_too(api: httpx.Client) -> None:
    assert_problem(api.get("/v1/nothing"), 404, "not_found")


def test_method_that_is_not_allowed_is_a_problem_that_says_which_are(api: httpx.Client) -> None:
    answer = api.delete("/v1/sweeps")
    assert_problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


def test_cancelled_jobs_never_rank(api: httpx.Client, session: Session) -> None:
    sweep_id = results(session)
    cancel_sweep(session, sweep_id)
    session.commit()
    assert len(leaders(api, sweep_id)) == 7


@pytest.fixture(scope="session")
def cut_off_url(server_dir: Path) -> Iterator[str]:
    """An API whose Postgres is not there."""
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/convsweep"
    settings = Settings(database_url=nowhere, data_dir=server_dir / "data", api_keys="off")
    with serving(settings) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/readyz"),
        ("GET", "/v1/sweeps"),
        ("POST", "/v1/sweeps"),
        ("GET", "/v1/jobs/1"),
        ("GET", "/v1/workers"),
        ("POST", "/v1/sweeps/1/pause"),
        *[("GET", f"/v1/sweeps/1{path}") for path in SWEEP_PATHS],
    ],
)
def test_everything_answers_503_while_postgres_is_away(
    method: str, path: str, cut_off_url: str
) -> None:
    body = {"preset": "quick"} if path == "/v1/sweeps" and method == "POST" else None
    answer = httpx.request(method, cut_off_url + path, json=body, timeout=30)
    assert_problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_what_needs_no_database_answers_without_it(cut_off_url: str) -> None:
    assert httpx.get(f"{cut_off_url}/healthz").status_code == 200
    preview = httpx.post(f"{cut_off_url}/v1/sweeps/preview", json={"preset": "quick"})
    assert preview.json()["total"] == 512
