"""Statistics over HTTP, on a real Postgres, against scipy, pandas and plain Python."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.group_leases import complete_claim
from services.sweeps.creation import create_sweep
from shared.domain.measurements import Environment, TrialResult
from shared.domain.protocol import Protocol
from shared.domain.space import SearchSpace
from tests.integration.api.test_api import assert_problem
from tests.integration.listings import Reference, add_results
from tests.integration.scenario import (
    add_sweep,
    claimed,
    complete,
    environment,
    small_space,
    success,
    trial,
)

KINDS = ("correlations", "pareto", "effects", "interactions", "importance")
VARIED = ("channels[0]", "kernel_size[0]", "stride[0]", "activation[0]", "kernel_size[1]",
          "stride[1]", "padding[1]")  # fmt: skip


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client of the API on an empty database."""
    with httpx.Client(base_url=api_url, timeout=60) as client:
        yield client


def ask(api: httpx.Client, path: str, **params: Any) -> dict[str, Any]:
    answer = api.get(f"/v1{path}", params=params)
    assert answer.status_code == 200, answer.text
    assert "NaN" not in answer.text
    body: dict[str, Any] = answer.json()
    return body


def shown(
    session: Session, sweep_id: int, *statuses: str, device: str | None = None
) -> pd.DataFrame:
    """Returns the networks that an analysis is about, one column per field and layer's field."""
    rows = [
        row for row in Reference.of(session, sweep_id).on_device(device)
        if row["status"] in (statuses or ("completed",))
    ]  # fmt: skip
    for row in rows:
        for name in VARIED:
            field, _, layer = name.rstrip("]").partition("[")
            row[name] = row[field][int(layer)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_correlations_are_scipys_over_all_devices_with_throughputs_of_one(
    method: str, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    found = ask(api, f"/sweeps/{sweep_id}/analysis/correlations", method=method)
    frame = shown(session, sweep_id)
    assert found["coverage"]["used"] == len(frame) > 30
    assert found["coverage"]["device"] == ["H100", "A100", "a processor"]
    assert found["coverage"]["throughput_device"] == "H100"
    names = found["names"]
    assert {"kernel_size[0]", "dilation[1]", "padding[1]", "fitness", "fit_seconds"} <= set(names)
    assert "activation[0]" not in names
    reference = stats.pearsonr if method == "pearson" else stats.spearmanr
    for a, first in enumerate(names):
        for b, second in enumerate(names):
            value, n = found["coefficients"][a][b], found["n"][a][b]
            if "dilation" in first or "dilation" in second:
                assert value is None  # it does not vary
                continue
            both = frame[[first, second]].astype(float).to_numpy()
            both = both[np.isfinite(both).all(axis=1)]
            assert n == len(both)
            assert value == pytest.approx(reference(both[:, 0], both[:, 1]).statistic)


def test_front_is_what_no_network_on_the_device_dominates(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    for device in (None, "A100"):
        params = {"device": device} if device else {}
        found = ask(api, f"/sweeps/{sweep_id}/analysis/pareto", **params)
        assert found["coverage"]["device"] == [device or "H100"]
        frame = shown(session, sweep_id, device=device).dropna(subset=["throughput"])
        points = frame[["throughput", "accuracy"]].to_numpy()
        dominated = [((points >= p).all(1) & (points > p).any(1)).any() for p in points]
        assert {job["id"] for job in found["front"]} == set(frame.id[~np.array(dominated)])
        rates = [job["throughput"] for job in found["front"]]
        assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "target", ["accuracy", "train_accuracy", "throughput", "fit_seconds", "fitness"]
)
def test_effects_are_marginal_means_with_students_interval(
    target: str, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    found = ask(api, f"/sweeps/{sweep_id}/analysis/effects", target=target)
    frame = shown(session, sweep_id).dropna(subset=[target])
    assert [one["parameter"] for one in found["parameters"]] == list(VARIED)
    assert found["mean"] == pytest.approx(frame[target].mean())
    for one in found["parameters"]:
        for level in one["levels"]:
            mine = frame[target][frame[one["parameter"]] == level["level"]]
            low, high = stats.t.interval(0.95, len(mine) - 1, mine.mean(), stats.sem(mine))
            assert level["n"] == len(mine)
            assert [level["mean"], level["low"], level["high"]] == pytest.approx(
                [mine.mean(), low, high]
            )
            assert level["effect"] == pytest.approx(mine.mean() - frame[target].mean())


def test_what_is_missing_is_counted_and_adds_up_to_the_space(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    reference = Reference.of(session, sweep_id)
    for params, statuses in (
        ({}, ("completed",)),
        ({"status": "completed|rejected"}, ("completed", "rejected")),
        ({"device": "A100"}, ("completed",)),
    ):
        coverage = ask(api, f"/sweeps/{sweep_id}/analysis/effects", **params)["coverage"]
        assert coverage["total"] == 192
        assert coverage["used"] + sum(coverage["missing"].values()) == 192
        for status in ("failed", "invalid", "pending", "rejected"):
            count = sum(row["status"] == status for row in reference.rows)
            assert coverage["missing"].get(status, 0) == (0 if status in statuses else count)
    assert "left_out" not in coverage["missing"]  # the device leaves no accuracy out


def test_analyses_take_the_filters_of_the_leaderboard(api: httpx.Client, session: Session) -> None:
    sweep_id = add_results(session)
    params = {"kernel_size[1]": "5|7", "accuracy": "0.15..", "device": "A100"}
    found = ask(api, f"/sweeps/{sweep_id}/analysis/effects", **params)
    frame = shown(session, sweep_id, device="A100")
    kept = frame[frame["kernel_size[1]"].isin([5, 7]) & (frame.accuracy >= 0.15)]
    assert found["coverage"]["used"] == len(kept) > 10
    kernel = next(one for one in found["parameters"] if one["parameter"] == "kernel_size[1]")
    assert kernel["levels"][0] == {
        "level": 3, "n": 0, "mean": None, "low": None, "high": None, "effect": None,
    }  # fmt: skip


def test_interactions_are_cells_less_rows_and_columns(api: httpx.Client, session: Session) -> None:
    sweep_id = add_results(session)
    everything = ask(api, f"/sweeps/{sweep_id}/analysis/interactions")
    assert len(everything["pairs"]) == len(VARIED) * (len(VARIED) - 1) // 2
    names = ["activation[0]", "kernel_size[1]"]
    found = ask(api, f"/sweeps/{sweep_id}/analysis/interactions", parameter=names)
    (pair,) = found["pairs"]
    assert pair in everything["pairs"]
    frame = shown(session, sweep_id)
    y = frame.accuracy
    for cell in pair["cells"]:
        row, column = (frame[n] == level for n, level in zip(names, cell["levels"], strict=True))
        additive = y[row].mean() + y[column].mean() - y.mean()
        assert cell["n"] == (row & column).sum()
        assert cell["mean"] == pytest.approx(y[row & column].mean())
        assert cell["effect"] == pytest.approx(y[row & column].mean() - additive)


def complete_with(session: Session, sweep_id: int, groups: int, accuracies: list[float]) -> None:
    """Completes a sweep with these accuracies, network by network."""
    given = iter(accuracies)
    for group in range(groups):
        held = claimed(session, sweep_id, group)
        complete(
            session,
            held,
            [success([trial(n, accuracy) for n in job.trials])
             for job, accuracy in zip(held.jobs, given, strict=False)],
        )  # fmt: skip


def test_importance_of_a_complete_sweep_is_exact_and_of_another_says_its_estimator(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)  # 3 channels x 2 kernels x 2 strides
    accuracies = [0.2 + 0.1 * c + 0.05 * k * s for c in range(3) for k in (0, 1) for s in (0, 1)]
    complete_with(session, sweep_id, 3, accuracies)
    found = ask(api, f"/sweeps/{sweep_id}/analysis/importance")
    assert found["estimator"] == "exact"
    assert found["coverage"]["missing"] == {}
    assert found["explained"] == pytest.approx(1)
    everything = np.var(accuracies)
    assert found["parameters"][0]["parameter"] == "channels[0]"
    assert found["parameters"][0]["main"] == pytest.approx(np.var([0, 0.1, 0.2]) / everything)
    strongest = found["pairs"][0]
    assert strongest["parameters"] == ["kernel_size[1]", "stride[1]"]
    assert strongest["share"] == pytest.approx(0.0125**2 / everything)
    partly = ask(api, f"/sweeps/{add_results(session)}/analysis/importance")
    assert partly["estimator"] == "type_ii"
    assert {one["total"] for one in partly["parameters"]} == {None}


def test_networks_of_several_depths_have_a_level_for_a_layer_that_is_not_there(
    api: httpx.Client, session: Session
) -> None:
    space = SearchSpace(layers=small_space().layers, depths=(1, 2))
    protocol = Protocol(dataset="digits", input_shape=(1, 32, 32), trials=1, order="grid")
    sweep_id = create_sweep(session, space, protocol).id
    session.commit()
    complete_with(session, sweep_id, 4, [0.1, 0.2, 0.3] + [0.5] * 12)
    found = ask(api, f"/sweeps/{sweep_id}/analysis/effects")
    kernel = next(one for one in found["parameters"] if one["parameter"] == "kernel_size[1]")
    assert [(level["level"], level["n"]) for level in kernel["levels"]] == [
        (3, 6),
        (5, 6),
        (None, 3),
    ]
    assert kernel["levels"][2]["mean"] == pytest.approx(0.2)
    ask(api, f"/sweeps/{sweep_id}/analysis/importance")
    names = ask(api, f"/sweeps/{sweep_id}/analysis/correlations")
    place = names["names"].index("kernel_size[1]")
    assert names["n"][place][place] == 12


def with_bits(number: int, bits: bytes, images: int) -> TrialResult:
    right = sum(byte.bit_count() for byte in bits)
    return TrialResult(number, right / images, 1.0, 0.1, 1, bits)


def jobs_with_bits(
    session: Session, bits: list[list[bytes]], where: Environment, images: int = 16
) -> list[int]:
    """Completes the first jobs of a new sweep, one list of trials' answers each; returns ids."""
    protocol = Protocol(
        dataset="digits", input_shape=(1, 32, 32), trials=len(bits[0]), validation_images=images,
        order="grid", timing=None,
    )  # fmt: skip
    sweep_id = create_sweep(session, small_space(), protocol).id
    session.commit()
    held = claimed(session, sweep_id)
    outcomes = [
        success([with_bits(n, one, images) for n, one in enumerate(trials)])
        for trials in [*bits, *[bits[0]] * (len(held.jobs) - len(bits))]
    ]
    complete_claim(session, held, outcomes, where)
    session.commit()
    return [job.id for job in held.jobs[: len(bits)]]


def test_two_networks_are_compared_image_by_image_and_trial_by_trial(
    api: httpx.Client, session: Session
) -> None:
    bits = [[b"\xf0\xff", b"\xff\x0f"], [b"\x0f\x0f", b"\xf0\x0f"]]
    first, second = jobs_with_bits(session, bits, environment())
    found = ask(api, f"/jobs/{first}/comparison/{second}")
    assert found["trials"] == [0, 1]
    assert found["accuracies"] == [24 / 32, 16 / 32]
    assert found["answers"] == {"both": 12, "only_first": 12, "only_second": 4, "neither": 4}
    # images 0-3: +1, 4-7: -1 + 1 = 0, 8-11: +1, 12-15: 0
    assert (found["mcnemar"]["images_for_first"], found["mcnemar"]["images_for_second"]) == (8, 0)
    assert found["mcnemar"]["test"] == "exact"
    assert found["mcnemar"]["p_value"] == pytest.approx(stats.binomtest(8, 8).pvalue)
    assert found["difference"]["mean"] == pytest.approx(0.25)
    assert 0 < found["difference"]["low"] < 0.25 < found["difference"]["high"] < 0.5
    assert found == ask(api, f"/jobs/{first}/comparison/{second}")
    swapped = ask(api, f"/jobs/{second}/comparison/{first}")
    assert swapped["mcnemar"]["p_value"] == pytest.approx(found["mcnemar"]["p_value"])
    assert swapped["difference"]["mean"] == pytest.approx(-0.25)


def test_networks_of_two_sweeps_compare_only_on_the_same_images(
    api: httpx.Client, session: Session
) -> None:
    one = jobs_with_bits(session, [[b"\xff\xff"]], environment())[0]
    same = jobs_with_bits(session, [[b"\x00\xff"]], environment("another"))[0]
    fewer = jobs_with_bits(session, [[b"\xff"]], environment(), images=8)[0]
    other = Environment("1", "cpu", "a processor", "digits", "cd" * 32, {})
    others = jobs_with_bits(session, [[b"\xff\xff"]], other)[0]
    assert ask(api, f"/jobs/{one}/comparison/{same}")["difference"]["mean"] == 0.5
    for different in (fewer, others):
        answer = api.get(f"/v1/jobs/{one}/comparison/{different}")
        assert_problem(answer, 409, "not_comparable")


def test_comparison_without_common_trials_is_refused(api: httpx.Client, session: Session) -> None:
    one = jobs_with_bits(session, [[b"\xff\xff"]], environment())[0]
    waiting = session.execute(text("SELECT id FROM jobs WHERE status = 'pending' LIMIT 1")).scalar()
    session.commit()
    assert_problem(api.get(f"/v1/jobs/{one}/comparison/{waiting}"), 409, "no_results")
    assert_problem(api.get(f"/v1/jobs/{one}/comparison/999"), 404, "job_not_found")


def test_two_sweeps_are_compared_by_the_architectures_they_share(
    api: httpx.Client, session: Session
) -> None:
    first, second = add_sweep(session), add_sweep(session, groups=2)
    accuracies = [0.1, 0.4, 0.2, 0.3, 0.6, 0.5, 0.9, 0.8]
    complete_with(session, first, 3, [*accuracies, 0.1, 0.1, 0.1, 0.1])
    other = [0.2, 0.3, 0.1, 0.4, 0.5, 0.5, 0.7, 0.9]
    complete_with(session, second, 2, other)
    found = ask(api, f"/sweeps/{first}/analysis/comparison/{second}")
    assert (found["shared"], found["only_first"], found["only_second"]) == (8, 4, 0)
    assert found["spearman"] == pytest.approx(stats.spearmanr(accuracies, other).statistic)
    assert found["kendall"] == pytest.approx(stats.kendalltau(accuracies, other).statistic)
    wanted = stats.ttest_rel(accuracies, other)
    interval = wanted.confidence_interval(0.95)
    assert found["difference"]["low"] == pytest.approx(interval.low)
    assert found["difference"]["high"] == pytest.approx(interval.high)
    empty = add_sweep(session)
    answer = api.get(f"/v1/sweeps/{first}/analysis/comparison/{empty}")
    assert_problem(answer, 409, "no_results")


@pytest.mark.parametrize("kind", KINDS)
def test_analysis_without_two_results_says_so(
    kind: str, api: httpx.Client, session: Session
) -> None:
    assert_problem(api.get(f"/v1/sweeps/{add_sweep(session)}/analysis/{kind}"), 409, "no_results")
    assert_problem(api.get(f"/v1/sweeps/404/analysis/{kind}"), 404, "sweep_not_found")


def test_results_that_are_all_the_same_have_no_variance_to_share(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id))
    path = f"/v1/sweeps/{sweep_id}/analysis"
    assert_problem(api.get(f"{path}/importance"), 409, "no_results")
    found = ask(api, f"/sweeps/{sweep_id}/analysis/correlations")
    assert found["coefficients"][found["names"].index("accuracy")].count(None) == len(
        found["names"]
    )
    assert "NaN" not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("effects?target=luck", "invalid_input"),
        ("effects?target=ratio", "invalid_input"),
        ("correlations?method=kendall", "invalid_input"),
        ("correlations?fitness_weight=nan", "invalid_input"),
        ("interactions?parameter=stride[7]", "invalid_input"),
        ("pareto?device=abacus", "invalid_input"),
        ("pareto?colour=red", "unknown_filter"),
        ("effects?accuracy=2", "invalid_filter"),
        ("comparison/0", "invalid_input"),
    ],
)
def test_analysis_that_is_asked_for_wrongly_is_refused(
    path: str, code: str, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    assert_problem(api.get(f"/v1/sweeps/{sweep_id}/analysis/{path}"), 422, code)


def test_pairs_with_too_many_cells_must_be_chosen(api: httpx.Client, session: Session) -> None:
    many = tuple(range(1, 201))
    space = SearchSpace.model_validate({"layers": [{"channels": many}, {"channels": many}]})
    protocol = Protocol(dataset="digits", input_shape=(1, 32, 32), trials=1)
    sweep_id = create_sweep(session, space, protocol).id
    session.commit()
    complete(session, claimed(session, sweep_id))
    body = assert_problem(
        api.get(f"/v1/sweeps/{sweep_id}/analysis/interactions"), 422, "invalid_input"
    )
    assert "40,000 cells" in body["detail"]
