"""Names that users give to sweeps and keys: one line of visible text."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_NAME = 100
# printable by their category, and yet nothing is seen of them
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
)  # fmt: skip
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def check_name(name: str) -> str:
    """Returns a name that is shown as it is: neither invisible nor able to change other text.

    Raises:
        ValueError: it is empty, too long, begins or ends with a blank, or has a character that is
            not printable, such as a control character or one that turns the direction of text.
    """
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"must have 1 to {MAX_NAME} characters")
    if name != name.strip():
        raise ValueError("must not begin or end with a blank")
    for character in name:
        if not character.isprintable() or character in _INVISIBLE:
            raise ValueError(f"must not contain U+{ord(character):04X}, which is not printable")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(check_name)]


def escape_unsafe(text: str) -> str:
    """Returns text with every control, format and surrogate character written as an escape.

    Line feeds and tabs stay.
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in "\n\t" and unicodedata.category(character) in _UNSAFE_CATEGORIES
        else character
        for character in text
    )
