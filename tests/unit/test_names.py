"""Names of sweeps and keys, and text that a terminal shows."""

import pytest

from shared.domain.names import MAX_NAME, check_name, escape_unsafe

REFUSED = {
    "nothing": "",
    "a blank": " ",
    "a blank before": " a",
    "a blank after": "a ",
    "a line feed": "a\nb",
    "a delete character": "a\x7fb",
    "a C1 control character": "a\x9bb",
    "a right-to-left override": "a\u202eb",
    "an isolate": "a\u2066b",
    "a zero-width space": "a\u200bb",
    "a zero-width joiner": "a\u200db",
    "a byte order mark": "a\ufeffb",
    "a no-break space": "a\u00a0b",
    "a line separator": "a\u2028b",
    "a tag character": "a\U000e0041b",
    "half a character": "a\ud800b",
    "a filler": "a\u3164b",
    "an empty Braille pattern": "\u2800",
    "too many characters": "a" * (MAX_NAME + 1),
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_name_that_is_not_shown_as_it_is_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["a", "a b", "größer", "网络 2", "نموذج", "=1+1", "[bold]", "❤️", "a" * MAX_NAME]
)
def test_a_name_of_visible_characters_in_any_script_is_accepted(name: str) -> None:
    assert check_name(name) == name


def test_unsafe_characters_are_escaped_and_others_stay() -> None:
    assert escape_unsafe("a\x1b[31m\x9b\u202e\u200b\ud800 ü 网\n\tb") == (
        r"a\x1b[31m\x9b\u202e\u200b\ud800 ü 网" + "\n\tb"
    )
