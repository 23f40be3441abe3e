"""Pictures over HTTP: every kind, as PNG and SVG, the same bytes every time."""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from html import unescape

import httpx
import pytest
from sqlalchemy.orm import Session

from shared.domain.results.columns import COLUMN
from tests.integration.api.test_api import SMALL, assert_problem
from tests.integration.listings import add_results
from tests.integration.scenario import add_sweep, claimed, complete

KINDS = ("scatter", "correlations", "effects", "parallel")
FORMATS = {"png": "image/png", "svg": "image/svg+xml"}


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    """A client of the API on an empty database."""
    with httpx.Client(base_url=api_url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_is_drawn_and_its_bytes_are_the_same_every_time(
    kind: str, file_format: str, api: httpx.Client, session: Session
) -> None:
    url = f"/v1/sweeps/{add_results(session)}/plots/{kind}.{file_format}"
    answer = api.get(url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == FORMATS[file_format]
    if file_format == "png":
        assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", answer.content[16:24])
        assert min(width, height) > 500
    else:
        assert b"</svg>" in answer.content
        assert b"<dc:date>" not in answer.content
        # points and lines are one image, however many there are
        assert (b"<image" in answer.content) == (kind != "effects")
    assert api.get(url).content == answer.content


def written(svg: httpx.Response) -> list[str]:
    """Returns the texts of an SVG, which draws letters as paths and names each text beside them."""
    assert svg.status_code == 200, svg.text
    return [unescape(text) for text in re.findall("<!-- (.*?) -->", svg.text)]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"device": "A100"},
        {"stride[0]": "1"},
        {"target": "throughput"},
        {"target": "throughput", "stride[0]": "1", "device": "A100"},
    ],
)
def test_picture_of_effects_shows_the_networks_and_the_target_of_the_request(
    params: dict[str, str], api: httpx.Client, session: Session
) -> None:
    url = f"/v1/sweeps/{add_results(session)}"
    texts = written(api.get(f"{url}/plots/effects.svg", params=params))
    effects = api.get(f"{url}/analysis/effects", params=params).json()
    coverage = effects["coverage"]
    networks = f"{coverage['used']:,} of {coverage['total']:,} networks"
    assert any(f"{networks}, measured on {', '.join(coverage['device'])}" in one for one in texts)
    labels = {target: COLUMN[target].label for target in ("accuracy", "throughput")}
    shown = {target for target, label in labels.items() if label in texts}
    assert shown == {params.get("target", "accuracy")}


def test_picture_of_correlations_shows_the_coefficients_of_the_request(
    api: httpx.Client, session: Session
) -> None:
    url = f"/v1/sweeps/{add_results(session)}"
    drawn = {}
    for method in ("pearson", "spearman"):
        texts = written(api.get(f"{url}/plots/correlations.svg", params={"method": method}))
        answer = api.get(f"{url}/analysis/correlations", params={"method": method}).json()
        assert any(f"{method.capitalize()}'s correlation" in text for text in texts)
        matrix = answer["coefficients"]
        below = [row[column] for number, row in enumerate(matrix) for column in range(number)]
        numbers = Counter(shown(value) for value in below if value is not None)
        drawn[method] = Counter(text for text in texts if text in numbers)
        assert drawn[method] == numbers
    assert drawn["pearson"] != drawn["spearman"]


def shown(coefficient: float) -> str:
    return f"{round(coefficient, 2) + 0.0:.2f}".replace("-", "−").replace("0.", ".")


@pytest.mark.parametrize("kind", KINDS)
def test_picture_of_nothing_measured_is_a_conflict(
    kind: str, api: httpx.Client, session: Session
) -> None:
    answer = api.get(f"/v1/sweeps/{add_sweep(session)}/plots/{kind}.png")
    assert_problem(answer, 409, "no_results")


@pytest.mark.parametrize("kind", KINDS)
def test_results_that_are_all_the_same_can_be_drawn(
    kind: str, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id))
    assert api.get(f"/v1/sweeps/{sweep_id}/plots/{kind}.png").status_code == 200


def test_correlations_of_what_does_not_vary_cannot_be_drawn(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_sweep(session)
    for group in range(2):
        complete(session, claimed(session, sweep_id, group))
    url = f"/v1/sweeps/{sweep_id}/plots/correlations.png"
    same = {"kernel_size[1]": "3", "stride[1]": "1"}  # two networks, of different channels
    assert_problem(api.get(url, params=same), 409, "no_results")
    assert api.get(url.replace("correlations", "effects"), params=same).status_code == 200


def test_picture_is_drawn_whatever_the_sweep_is_called(api: httpx.Client, session: Session) -> None:
    for name in ("plain", r"$\frac$ and $x^$", "a_b^c"):
        sweep_id = api.post("/v1/sweeps", json=SMALL | {"name": name}).json()["id"]
        complete(session, claimed(session, sweep_id))
        for kind in KINDS:
            answer = api.get(f"/v1/sweeps/{sweep_id}/plots/{kind}.svg")
            assert answer.status_code == 200, name


@pytest.mark.parametrize("path", ["pie.png", "scatter.gif", "effects.png?target=luck"])
def test_unknown_picture_is_refused(path: str, api: httpx.Client, session: Session) -> None:
    answer = api.get(f"/v1/sweeps/{add_results(session)}/plots/{path}")
    assert_problem(answer, 422, "invalid_input")
