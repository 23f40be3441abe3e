"""The written guarantees: each one names a test, and that test exists."""

import ast
import re
from pathlib import Path

from shared.settings import Settings

ROOT = Path(__file__).parents[2]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`\.?$")


def bullets(markdown: str) -> list[str]:
    """Returns the bullets of a page, each as one line."""
    found: list[str] = []
    inside = False
    for line in markdown.splitlines():
        if re.match(r"\s*[-*] ", line):
            found.append(line.strip())
            inside = True
        elif inside and line.startswith((" ", "\t")) and line.strip():
            found[-1] += " " + line.strip()
        else:
            inside = False
    return found


def names_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_guarantee_names_a_test_that_exists() -> None:
    promises = bullets((ROOT / "docs/guarantees.md").read_text())
    assert promises, "no guarantee is written down"
    missing = []
    for promise in promises:
        named = NAMED_TEST.search(promise)
        if named is None:
            missing.append(f"names no test: {promise}")
        elif not is_there(named[1], named[2]):
            missing.append(f"is not there: {named[0]}")
    assert missing == []


def is_there(path: str, name: str) -> bool:
    return (ROOT / path).exists() and name in names_of_tests(ROOT / path)


RISKS = [f"API{number}" for number in range(1, 11)]
RISK = re.compile(r"^\| (API\d+) [^|]+\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_every_risk_of_owasps_ten_has_an_answer_that_tests_hold() -> None:
    rows = RISK.findall((ROOT / "docs/security.md").read_text())
    assert [risk for risk, _, _ in rows] == RISKS
    for risk, answer, tests in rows:
        assert answer.endswith("."), risk
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, risk
        assert len(named) == tests.count("`") / 2, risk
        assert [one for one in named if not is_there(*one)] == [], risk


def test_bullets_are_read_over_several_lines() -> None:
    page = "# Title\n\n- one promise\n  goes on `tests/a.py::test_b`\n- another\n\nProse.\n"
    first, second = bullets(page)
    named = NAMED_TEST.search(first)
    assert named is not None
    assert named.groups() == ("tests/a.py", "test_b")
    assert second == "- another"


LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_the_page_of_settings_names_every_setting() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    named = set(re.findall(r"^\| `CONVSWEEP_(\w+)`", page, re.MULTILINE))
    assert named == {name.upper() for name in Settings.model_fields}
