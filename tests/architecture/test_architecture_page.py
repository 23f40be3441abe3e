"""The page on the architecture names only code that exists, and explains its path of a sweep."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "docs/architecture.md"
SPAN = re.compile(r"`([^`]+)`")
PATH = re.compile(r"(?=.*/|.*\.py\b|.*\.md\b)[\w.{][\w./{},-]*(?::\w+)?")
MODULE = re.compile(r"python -m ([\w.]+)")
STEP = re.compile(r"(\d+)\. ")
REASON = re.compile(r" \*[^*]+\*(?: |$)")


def named_places(line: str, folders: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields each path, with ``:name`` if given, that a line names in backticks.

    Names in a cell of a table are relative to the folder of its column, ``folders``.
    """
    is_row = line.startswith("|")
    cells = line.split("|")[1:-1] if is_row else [line]
    for number, cell in enumerate(cells):
        folder = folders[number] if is_row and number < len(folders) else ""
        for span in SPAN.findall(cell):
            module = MODULE.fullmatch(span)
            place = module[1].replace(".", "/") + ".py" if module else span
            if PATH.fullmatch(place):
                yield from expand(place if module else folder + place)


def expand(place: str) -> Iterator[str]:
    """Yields ``a/b`` and ``a/c`` for ``a/{b,c}``."""
    head, brace, rest = place.partition("{")
    if not brace:
        yield place
        return
    choices, _, tail = rest.partition("}")
    for choice in choices.split(","):
        yield from expand(head + choice + tail)


def column_folders(header: str) -> tuple[str, ...]:
    """Returns for each column of a table the folder that its header names, or nothing."""
    cells = [SPAN.fullmatch(cell.strip()) for cell in header.split("|")[1:-1]]
    return tuple(cell[1] if cell and cell[1].endswith("/") else "" for cell in cells)


def defined_names(path: Path) -> set[str]:
    """Returns the functions, methods, classes and assigned names of a module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def fault(place: str) -> str | None:
    """Returns what is wrong with ``path`` or ``path:name``; None where it exists."""
    path, _, name = place.partition(":")
    target = ROOT / path
    if path.endswith("/") and not target.is_dir():
        return f"there is no folder {path}"
    if not path.endswith("/") and not target.is_file():
        return f"there is no file {path}"
    if name and name not in defined_names(target):
        return f"{path} defines no {name}"
    return None


def faults(markdown: str) -> list[str]:
    """Returns "page:line: what is wrong" for every name that leads nowhere."""
    result = []
    folders: tuple[str, ...] = ()
    previous = ""
    for number, line in enumerate(markdown.splitlines(), 1):
        is_header = line.startswith("|") and not previous.startswith("|")
        wrong = (fault(place) for place in named_places(line, () if is_header else folders))
        result += [f"{PAGE}:{number}: {text}" for text in wrong if text]
        if is_header:
            folders = column_folders(line)
        previous = line
    return result


def steps(markdown: str) -> dict[int, str]:
    """Returns the numbered steps of the path of a sweep, each as one line."""
    section = markdown.split("\n## From `POST /v1/sweeps` to the leaderboard\n")[1]
    result: list[str] = []
    for line in section.split("\n## ")[0].splitlines():
        if STEP.match(line):
            result.append(line)
        elif line.startswith("    ") or (result and line.startswith("   ")):
            result[-1] += " " + line.strip()
    return {int(step.split(".")[0]): step for step in result}


def unexplained_returns(path_steps: dict[int, str]) -> list[str]:
    """Returns the steps that enter a folder again, after another one, and give no reason."""
    visited: set[str] = set()
    current = ""
    result = []
    for number, step in path_steps.items():
        folders = [place.partition(":")[0].rpartition("/")[0] for place in named_places(step)]
        for folder in folders:
            if folder != current and folder in visited and not REASON.search(step):
                result.append(f"step {number} enters {folder}/ again and gives no reason")
            visited.add(folder)
            current = folder
    return result


def test_every_place_that_the_architecture_page_names_exists() -> None:
    wrong = faults((ROOT / PAGE).read_text())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# Page\n\nSee `api/nowhere.py`.", f"{PAGE}:3: there is no file api/nowhere.py"),
        ("`api/nowhere/`", f"{PAGE}:1: there is no folder api/nowhere/"),
        ("`api/app.py:no_app`", f"{PAGE}:1: api/app.py defines no no_app"),
        ("`api/{routes,nowhere}/`", f"{PAGE}:1: there is no folder api/nowhere/"),
        ("| `api/` |\n|---|\n| `nowhere.py` |", f"{PAGE}:3: there is no file api/nowhere.py"),
        ("`python -m api.nowhere`", f"{PAGE}:1: there is no file api/nowhere.py"),
    ],
)
def test_a_place_that_does_not_exist_is_reported_with_its_line(
    markdown: str, expected: str
) -> None:
    assert faults(markdown) == [expected]


def test_the_path_of_a_sweep_names_functions_from_the_request_to_the_leaderboard() -> None:
    path_steps = steps((ROOT / PAGE).read_text())
    assert list(path_steps) == list(range(1, len(path_steps) + 1))
    named = [place for step in path_steps.values() for place in named_places(step)]
    assert "api/routes/sweeps.py:create" in named
    assert "api/routes/results.py:show_leaderboard" in named
    functions = {place for place in named if ":" in place}
    for number, step in path_steps.items():
        assert functions & set(named_places(step)), f"step {number} names no function"


def test_the_path_of_a_sweep_gives_a_reason_where_it_enters_a_folder_again() -> None:
    wrong = unexplained_returns(steps((ROOT / PAGE).read_text()))
    assert not wrong, "\n".join(wrong)


def test_a_step_that_enters_a_folder_again_without_a_reason_is_reported() -> None:
    path_steps = {1: "1. `api/a.py:f`", 2: "2. `shared/b.py:g`", 3: "3. `api/c.py:h`"}
    assert unexplained_returns(path_steps) == ["step 3 enters api/ again and gives no reason"]
    path_steps[3] += " *Only the edge commits.*"
    assert unexplained_returns(path_steps) == []
