"""The command line's own logic: what it sends, and how it writes numbers."""

import time
from pathlib import Path
from typing import Any

import pytest
from typer import Exit

from cli import output
from cli.commands.sweeps import assign_field
from cli.context import resolve_sweep
from cli.embedded.local import start_cluster
from shared.domain.errors import InvalidInputError
from shared.settings import Settings


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("trials=3", {"trials": 3}),
        ("timing=null", {"timing": None}),
        ("gates.min_accuracy=0.3", {"gates": {"min_accuracy": 0.3}}),
        ("input_shape=[3, 96, 96]", {"input_shape": [3, 96, 96]}),
        ("dataset=mine", {"dataset": "mine"}),
    ],
)
def test_set_writes_a_field_named_by_dots(assignment: str, expected: dict[str, Any]) -> None:
    protocol: dict[str, Any] = {}
    assign_field(protocol, assignment)
    assert protocol == expected


def test_set_keeps_what_was_set_before() -> None:
    protocol: dict[str, Any] = {"gates": {"min_accuracy": 0.2}}
    assign_field(protocol, "gates.max_ratio=2")
    assert protocol == {"gates": {"min_accuracy": 0.2, "max_ratio": 2}}


@pytest.mark.parametrize(
    "assignment",
    ["gates.max_ratio=Infinity", "seed=NaN", "ridge_alpha=1e999", 'gates={"a": 1, "a": 2}'],
)
def test_set_refuses_what_json_does_not_have(
    assignment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit):
        assign_field({}, assignment)
    assert f"--set {assignment.split('=', maxsplit=1)[0]}" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("assignment", ["trials", "=3", "", "gates.=1", "trials.more=1"])
def test_set_that_names_no_field_is_refused(assignment: str) -> None:
    with pytest.raises(Exit):
        assign_field({"trials": 1}, assignment)


@pytest.mark.parametrize("sweep", ["", "-1", "1.5", "１２", "9" * 30, "last"])
def test_what_is_no_sweep_is_refused_before_anything_is_asked(sweep: str) -> None:
    with pytest.raises(Exit):
        resolve_sweep(None, sweep)  # type: ignore[arg-type]  # not reached


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (7325, "2 h 02 min"),
    ],
)
def test_time_spans_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-03-29 00:59 UTC"),
        ("Europe/Berlin", "2026-03-29 01:59 CET"),
        ("America/Sao_Paulo", "2026-03-28 21:59 -03"),
    ],
)
def test_times_are_shown_in_the_local_zone_with_its_name(
    zone: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert output.local_time("2026-03-29T00:59:58.123456Z") == shown
        later = output.local_time("2026-03-29T00:59:58+00:00", seconds=True)
        assert later == shown.replace(":59 ", ":59:58 ")
        assert output.local_time(None) is None
    finally:
        monkeypatch.undo()
        time.tzset()


def test_layers_are_written_field_by_field() -> None:
    layers = [
        {"channels": 32, "kernel_size": 9, "stride": 3, "dilation": 1},
        {"channels": 32, "kernel_size": 3, "stride": 1, "dilation": 2},
    ]
    assert output.layers(layers) == "9,3 / 3,1 / 1,2 / 32,32"


def test_a_cluster_without_keys_starts_only_on_this_machine(tmp_path: Path) -> None:
    open_to_all = Settings(api_host="0.0.0.0", data_dir=tmp_path)
    with pytest.raises(InvalidInputError, match=r"docs/security\.md"):
        start_cluster(open_to_all, workers=0)
    assert list(tmp_path.iterdir()) == []
