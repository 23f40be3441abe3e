"""The page's files: all of them are packaged, readable, and never turn data into markup."""

import re
import tomllib
from glob import glob
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "api/dashboard"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
MODULES = [path for path in FILES if path.suffix == ".js"]
MAX_LINES = 400


def test_the_package_carries_every_file_of_the_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["api"]
    packaged = {  # setuptools expands its patterns with this function
        name
        for pattern in patterns
        for name in glob(pattern, root_dir=ROOT / "api", recursive=True)  # noqa: PTH207
    }
    names = {str(path.relative_to(ROOT / "api")) for path in FILES}
    assert len(names) > 10
    assert {name.count("/") for name in names} >= {1, 2}, "files at the top and in subfolders"
    assert names <= packaged


def test_no_module_makes_markup_or_code_of_text() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    )
    offenders = [path.name for path in FILES if forbidden.search(path.read_text())]
    assert offenders == []


def test_no_file_names_another_place() -> None:
    named = {
        address
        for path in FILES
        for address in re.findall(r"https?://[^\s\"'`)]+", path.read_text())
    }
    assert named <= {"http://www.w3.org/2000/svg"}


def test_modules_are_short_and_say_what_they_contain() -> None:
    assert len(MODULES) > 10
    for path in MODULES:
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// "), path.name
        assert len(lines) <= MAX_LINES, path.name
