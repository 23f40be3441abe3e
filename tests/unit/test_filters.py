"""The grammar of filters: what it takes, and what it says about what it does not take."""

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsweep.filters import parse_assignments
from services.leaderboard.filters import (
    KNOWN_FILTERS,
    Filters,
    parse_filters,
    parse_sort,
)
from shared.domain.errors import InvalidFilterError, InvalidInputError, UnknownFilterError
from shared.domain.results.ranking import Condition, Range, SortKey

ACCEPTED: dict[str, Condition] = {
    "accuracy=0.3..": Condition("accuracy", (Range(0.3, None),)),
    "accuracy=..0.35": Condition("accuracy", (Range(None, 0.35),)),
    "accuracy=0.3..0.35": Condition("accuracy", (Range(0.3, 0.35),)),
    "throughput=1e3..|5": Condition("throughput", (Range(1000.0, None), 5.0)),
    "fitness=-0.5..": Condition("fitness", (Range(-0.5, None),)),
    "ratio= 0.5 .. 1 ": Condition("ratio", (Range(0.5, 1.0),)),
    "parameters=..90000": Condition("parameters", (Range(None, 90_000),)),
    "trials_done=5": Condition("trials_done", (5,)),
    "status=completed|rejected": Condition("status", ("completed", "rejected")),
    "reason=non_finite": Condition("reason", ("non_finite",)),
    "kernel_size[0]=7": Condition("kernel_size", (7,), 0),
    "stride[1]=1|2": Condition("stride", (1, 2), 1),
    "dilation[15]=2..3": Condition("dilation", (Range(2, 3),), 15),
    "activation[2]=relu": Condition("activation", ("relu",), 2),
    "padding[0]=0": Condition("padding", (0,), 0),
}


@pytest.mark.parametrize("written", ACCEPTED)
def test_every_form_of_the_grammar_means_what_the_page_says(written: str) -> None:
    assert parse_filters(parse_assignments([written])) == Filters((ACCEPTED[written],))


REFUSED = {
    "accuracy=": "missing",
    "accuracy=high": "a fraction",
    "accuracy=1.5": "from 0 to 1",
    "accuracy=30..": "from 0 to 1",
    "accuracy=..": "needs an end",
    "accuracy=0.4..0.3": "ends before it begins",
    "accuracy=0.1..0.2..0.3": "a fraction",
    "accuracy=nan": "a fraction",
    "throughput=inf..": "a number",
    "throughput=1e999": "too large",
    "throughput=0x10": "a number",
    "throughput=١٠": "a number",
    "parameters=1.5": "a whole number",
    "parameters=-1": "a whole number",
    "trials_done=1|": "missing",
    "status=done": "known are pending, running",
    "status=completed..failed": "no status",
    "reason=luck": "known are invalid_shape",
    "kernel_size[16]=3": "from 0 to 15",
    "kernel_size[0]=x": "a whole number",
    "activation[0]=a\x00b": "printed",
    "accuracy=" + "|".join(["0.1"] * 101): "up to 100",
}


@pytest.mark.parametrize("written", REFUSED)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_field(written: str) -> None:
    with pytest.raises(InvalidFilterError, match=REFUSED[written]) as refusal:
        parse_filters(parse_assignments([written]))
    assert refusal.value.field == written.split("=", maxsplit=1)[0]


@pytest.mark.parametrize(
    "name",
    ["acuracy", "kernel_size", "kernel_size[-1]", "kernel_size[]", "error", "", "a[0]"],
)
def test_an_unknown_field_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UnknownFilterError) as refusal:
        parse_filters([(name, "1")], also_known=["page_size"])
    for known in (*KNOWN_FILTERS, "page_size"):
        assert known in refusal.value.message


def test_a_name_that_comes_twice_has_all_its_values() -> None:
    twice = parse_filters([("stride[0]", "1"), ("device", "A"), ("stride[0]", "2")])
    assert twice == parse_filters([("stride[0]", "1|2"), ("device", "A")])


@pytest.mark.parametrize("pairs", [[("device", "A|B")], [("device", "A"), ("device", "B")]])
def test_throughputs_of_several_device_models_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidFilterError, match="one model") as refusal:
        parse_filters(pairs)
    assert refusal.value.field == "device"


@given(
    st.one_of(st.text(max_size=40), st.sampled_from(["accuracy", "trials_done", "kernel_size[0]"])),
    st.one_of(st.text(max_size=40), st.text(string.digits + ".|-e ", max_size=20)),
)
def test_any_text_is_one_condition_or_a_refusal(name: str, values: str) -> None:
    with contextlib.suppress(InvalidFilterError, UnknownFilterError):
        found = parse_filters([(name, values)])
        assert len(found.conditions) + bool(found.device) == 1


def test_sort_keys_are_fields_with_a_minus_for_the_largest_first() -> None:
    assert parse_sort("-accuracy,throughput") == (
        SortKey("accuracy", True),
        SortKey("throughput", False),
    )


@pytest.mark.parametrize(
    "text", ["", "luck", "--accuracy", "accuracy,", "accuracy,-accuracy", "status", "device",
             "accuracy,throughput,ratio,flops,trials,fitness"]
)  # fmt: skip
def test_a_sort_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        parse_sort(text)
    assert refusal.value.field == "sort"
