"""What the images install: every file by its hash, at the versions that the tests run with."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LISTS = ROOT / "deploy/requirements"
Lock = dict[str, str]  # name: version
IMAGES = {"api": ("api.txt",), "worker": ("worker.txt", "torch.txt")}
OWN_SOURCE = (
    "pip install --no-cache-dir --no-deps --no-index --no-build-isolation "
    "--target /opt/convsweep ./client ."
)
OTHER_INDEX = (
    'pip install --no-deps --index-url "$TORCH_INDEX_URL" -c constraints.txt torch torchvision'
)


def pinned(path: Path) -> Lock:
    """Returns the versions that a list pins; each has hashes unless it is the constraints'."""
    entries = re.findall(r"^([\w.-]+)==([^\s;]+)(.*\n(?:[ \t].*\n)*)", path.read_text(), re.M)
    if path.parent == LISTS:
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", rest) for _, _, rest in entries)
    return {canonicalize_name(name): version for name, version, _ in entries}


def locked(image: str) -> Lock:
    return {name: at for file in IMAGES[image] for name, at in pinned(LISTS / file).items()}


def test_the_dockerfile_installs_nothing_without_a_hash() -> None:
    """Except this project's source, and PyTorch where another index is named."""
    lines = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    commands = [line for line in lines if not line.startswith("#")]
    installs = [one for line in commands for one in re.findall(r"pip3? install [^;&]*", line)]
    unchecked = {one.strip() for one in installs if "--require-hashes" not in one}
    assert unchecked == {OWN_SOURCE, OTHER_INDEX}
    checked = {one.strip() for one in installs} - unchecked
    assert all("--only-binary=:all:" in one for one in checked)  # building would fetch more
    files = {name for one in checked for name in re.findall(r"-r requirements/(\S+)", one)}
    assert files == {path.name for path in LISTS.iterdir()}


@pytest.mark.parametrize("file", ["api.txt", "build.txt", "torch.txt", "worker.txt"])
def test_the_images_have_the_versions_that_the_tests_run_with(file: str) -> None:
    constraints, versions = pinned(ROOT / "constraints.txt"), pinned(LISTS / file)
    assert versions
    known = {name: constraints[name] for name in versions if name in constraints}
    assert {name: versions[name] for name in known} == known
    others = versions.keys() - known.keys()
    assert others <= {"async-timeout", "colorama"}  # of older Pythons and of Windows


@pytest.mark.parametrize("image", IMAGES)
def test_the_images_have_everything_that_the_project_requires(image: str) -> None:
    """Also what its packages require, as their metadata here say."""
    versions = locked(image)
    assert required(image) - versions.keys() == set()
    for requirement in declared(image):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_the_tool_that_builds_the_code_is_listed() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    names = {canonicalize_name(Requirement(requirement).name) for requirement in build}
    assert pinned(LISTS / "build.txt").keys() == names


def declared(image: str) -> list[Requirement]:
    """Returns what the project and its client declare for an image, except each other."""
    projects = ROOT / "pyproject.toml", ROOT / "client/pyproject.toml"
    app, client = (tomllib.loads(path.read_text())["project"] for path in projects)
    texts = app["dependencies"] + app["optional-dependencies"][image] + client["dependencies"]
    requirements = [Requirement(text) for text in texts]
    return [one for one in requirements if one.name != "convsweep-client"]


def required(image: str) -> set[str]:
    """Returns the names of all packages that an image needs, by the metadata installed here."""
    names: set[str] = set()
    waiting = declared(image)
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        names.add(canonicalize_name(requirement.name))
        for text in distribution(requirement.name).requires or []:
            inner = Requirement(text)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(inner)
    return names
