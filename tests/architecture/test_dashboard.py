"""The page's files: all of them are packaged, plain, and never make markup of data."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "api/dashboard"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
MAX_LINES = 400


def test_the_package_carries_every_file_of_the_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["api"]
    assert len(FILES) > 10
    for path in FILES:
        name = str(path.relative_to(ROOT / "api"))
        assert any(fnmatch(name, pattern) for pattern in patterns), name
        assert name.count("/") == 1, "patterns reach no deeper"


def test_no_module_makes_markup_or_code_of_text() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    )
    found = [path.name for path in FILES if forbidden.search(path.read_text())]
    assert found == []


def test_no_file_names_another_place() -> None:
    named = {
        address
        for path in FILES
        for address in re.findall(r"https?://[^\s\"'`)]+", path.read_text())
    }
    assert named <= {"http://www.w3.org/2000/svg"}


def test_modules_are_short_and_say_what_lives_in_them() -> None:
    for path in FOLDER.glob("*.js"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// "), path.name
        assert len(lines) <= MAX_LINES, path.name
