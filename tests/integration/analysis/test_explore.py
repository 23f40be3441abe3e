"""What a page looks at: columns of a whole sweep, answers by image, neighbours, presets, rates."""

import httpx
import numpy as np
import pytest
from sqlalchemy.orm import Session

from services.leasing.datasets import note_labels
from services.sweeps.creation import create_sweep
from shared.domain.results.columns import PLOTTABLE
from shared.domain.space import SearchSpace
from tests.integration.scenario import (
    add_sweep,
    claimed,
    complete,
    environment,
    finish_sweep,
    small_protocol,
    small_space,
)

IMAGES = 16  # the scenario's trials have two bytes of answers


def rows(api_url: str, sweep_id: int, query: str = "") -> list[dict[str, object]]:
    answer = httpx.get(f"{api_url}/v1/sweeps/{sweep_id}/leaderboard?{query}")
    answer.raise_for_status()
    found: list[dict[str, object]] = answer.json()["rows"]
    return found


def test_columns_are_those_of_the_leaderboard(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    fields = ",".join(PLOTTABLE)
    points = httpx.get(f"{api_url}/v1/sweeps/{sweep_id}/points?fields={fields}").json()
    by_id = {row["id"]: row for row in rows(api_url, sweep_id)}
    assert len(points["id"]) == len(by_id)
    assert set(points["id"]) == set(by_id)
    for name in PLOTTABLE:
        for job_id, value in zip(points["id"], points["columns"][name], strict=True):
            assert value == pytest.approx(by_id[job_id][name], rel=1e-6), name
    assert points["columns"]["trials_done"] == [2] * len(by_id)
    assert points["throughput_device"] == "a processor"


def test_places_in_the_space_say_what_a_network_is_made_of(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    points = httpx.get(f"{api_url}/v1/sweeps/{sweep_id}/points").json()
    by_id = {row["id"]: row["layers"] for row in rows(api_url, sweep_id)}
    space = SearchSpace.model_validate(small_space().model_dump())
    for job_id, index in zip(points["id"], points["space_index"], strict=True):
        layers = [layer._asdict() for layer in space.architecture(index).layers]
        assert layers == by_id[job_id]


def test_columns_take_filters_and_refuse_fields_that_are_none(
    api_url: str, session: Session
) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    base = f"{api_url}/v1/sweeps/{sweep_id}/points"
    few = httpx.get(f"{base}?stride[1]=2").json()
    assert len(few["id"]) == 6
    wrong = httpx.get(f"{base}?fields=accuracy,acuracy")
    assert wrong.status_code == 422
    assert "acuracy" in wrong.json()["detail"]
    assert httpx.get(f"{base}?acuracy=1").status_code == 422
    assert httpx.get(f"{api_url}/v1/sweeps/999/points").status_code == 404


def test_a_listing_takes_jobs_by_their_ids(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    ids = [int(str(row["id"])) for row in rows(api_url, sweep_id)][2:5]
    found = rows(api_url, sweep_id, f"id={'|'.join(map(str, ids))}")
    assert sorted(int(str(row["id"])) for row in found) == sorted(ids)


def test_neighbours_differ_in_exactly_one_setting(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    job_id = rows(api_url, sweep_id)[0]["id"]
    here = httpx.get(f"{api_url}/v1/jobs/{job_id}").json()
    found = httpx.get(f"{api_url}/v1/jobs/{job_id}/neighbours").json()
    assert len(found) == 2 + 1 + 1  # channels of three, kernel size and stride of two
    for one in found:
        changed = [
            f"{field}[{number}]"
            for number, (mine, theirs) in enumerate(
                zip(here["layers"], one["job"]["layers"], strict=True)
            )
            for field in mine
            if mine[field] != theirs[field]
        ]
        assert changed == [one["parameter"]]
    assert httpx.get(f"{api_url}/v1/jobs/999999/neighbours").status_code == 404


def test_layers_of_a_job_add_up(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    job_id = rows(api_url, sweep_id, "status=pending")[0]["id"]
    job = httpx.get(f"{api_url}/v1/jobs/{job_id}").json()
    assert sum(layer["flops"] for layer in job["shapes"]) == job["flops"]
    assert sum(layer["parameters"] for layer in job["shapes"]) == job["parameters"]
    assert np.prod(job["shapes"][-1]["shape"]) / 1024 == pytest.approx(job["ratio"])


def add_answered_sweep(session: Session) -> int:
    """Creates a sweep on 16 validation images whose first group has completed."""
    protocol = small_protocol().model_copy(update={"validation_images": IMAGES})
    sweep_id = create_sweep(session, small_space(), protocol).id
    session.commit()
    complete(session, claimed(session, sweep_id))
    return sweep_id


def test_answers_are_listed_by_image_and_by_class_where_labels_are_known(
    api_url: str, session: Session
) -> None:
    sweep_id = add_answered_sweep(session)
    job_id = rows(api_url, sweep_id)[0]["id"]
    path = f"{api_url}/v1/jobs/{job_id}/answers"
    unlabelled = httpx.get(path).json()
    # bytes 0b10100000 and the trial's number: images 0 and 2 are right, 15 in trial 1
    right = unlabelled["right"]
    assert (right[0], right[1], right[2], right[15], sum(right)) == (2, 0, 2, 1, 5)
    assert (unlabelled["labels"], unlabelled["classes"]) == (None, [])
    labels = [number % 2 for number in range(IMAGES)]
    note_labels(session, environment().dataset_hash, labels)
    session.commit()
    answer = httpx.get(path).json()
    assert answer["labels"] == labels
    by_label = {one["label"]: one for one in answer["classes"]}
    assert by_label[0]["accuracy"] == pytest.approx(4 / (2 * IMAGES / 2))
    assert by_label[1]["accuracy"] == pytest.approx(1 / (2 * IMAGES / 2))


def test_labels_of_a_dataset_are_kept_once(api_url: str, session: Session) -> None:
    sweep_id = add_answered_sweep(session)
    for labels in ([0] * IMAGES, [1] * IMAGES):
        note_labels(session, environment().dataset_hash, labels)
    session.commit()
    job_id = rows(api_url, sweep_id)[0]["id"]
    assert set(httpx.get(f"{api_url}/v1/jobs/{job_id}/answers").json()["labels"]) == {0}


def test_a_job_without_trials_has_no_answers(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    job_id = rows(api_url, sweep_id, "status=pending")[0]["id"]
    answer = httpx.get(f"{api_url}/v1/jobs/{job_id}/answers")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_results")


def test_presets_are_bodies_that_make_sweeps(api_url: str, session: Session) -> None:
    presets = httpx.get(f"{api_url}/v1/presets").json()
    quick = httpx.post(f"{api_url}/v1/sweeps/preview", json=presets["quick"]["sweep"])
    named = httpx.post(f"{api_url}/v1/sweeps/preview", json={"preset": "quick"})
    assert quick.json() == named.json()


def test_workers_are_shown_with_their_rate(api_url: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id))
    claimed(session, sweep_id, 1)
    rates = [one["jobs_per_s"] for one in httpx.get(f"{api_url}/v1/workers").json()]
    assert len([rate for rate in rates if rate is not None and rate > 0]) == 1
    assert rates.count(None) == 1
