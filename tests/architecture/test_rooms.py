"""The rooms of the house: what stays in one of them, and how large things may grow."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "shared", "services", "api", "worker", "dispatcher", "cli", "migrations",
    "client/src/convsweep",
)  # fmt: skip
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40


def modules(*rooms: str) -> list[Path]:
    """Returns the product's modules; migrations that have landed are records, not code."""
    found = [path for room in rooms or ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if path.parent.name != "versions"]


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(), filename=str(path)))


def offenders(is_offence: Callable[[ast.AST], bool], paths: list[Path]) -> list[str]:
    """Returns "file:line" of everything in these files that is an offence."""
    return [
        f"{place(path)}:{getattr(node, 'lineno', 0)}"
        for path in paths
        for node in nodes(path)
        if is_offence(node)
    ]


def test_scans_see_the_product() -> None:
    assert len(modules()) > 30
    assert all((ROOT / room / "__init__.py").exists() for room in ROOMS)


def reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("environ", "environb", "getenv")
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(name.name in ("environ", "environb", "getenv") for name in node.names)
    return isinstance(node, ast.Name) and node.id == "BaseSettings"


def test_only_settings_read_the_environment() -> None:
    paths = [path for path in modules() if place(path) != "shared/settings.py"]
    assert offenders(reads_environment, paths) == []
    assert offenders(reads_environment, [ROOT / "shared/settings.py"]) != []


SQL_WORDS = {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "COPY", "TRUNCATE", "ALTER", "CREATE"}


def is_sql(node: ast.AST) -> bool:
    """Says whether this is a call of ``text``, or a string that reads like a statement."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "text":
        return True
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return False
    words = node.value.split(maxsplit=2)
    return len(words) > 1 and words[0] in SQL_WORDS


def test_sql_lives_in_queries_and_migrations() -> None:
    home = (
        "shared/db/queries/",
        "migrations/",
        "shared/db/models.py",
        "shared/db/timing_models.py",
        "shared/db/worker_models.py",
    )
    paths = [path for path in modules() if not place(path).startswith(home)]
    assert offenders(is_sql, paths) == []
    assert offenders(is_sql, modules("shared")) != []


def commits(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return called and node.func.attr == "commit"  # type: ignore[attr-defined]


def test_commits_happen_at_the_edge() -> None:
    assert offenders(commits, modules("shared", "services", "api")) == []
    assert offenders(commits, modules("worker/engine")) == []


def opens_transaction(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return called and node.func.attr == "begin"  # type: ignore[attr-defined]


def test_transactions_are_opened_at_the_edge() -> None:
    paths = [path for path in modules("shared", "services", "api") if place(path) != "api/deps.py"]
    assert offenders(opens_transaction, paths) == []


def catches_everything(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or getattr(kind, "id", "") == "Exception" for kind in kinds)


def test_only_the_edges_catch_everything() -> None:
    inner = modules("shared", "services", "api", "migrations", "worker/engine")
    assert offenders(catches_everything, inner) == []


@pytest.mark.parametrize("path", modules(), ids=place)
def test_module_says_what_lives_in_it(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert path.read_text().startswith('"""'), "the docstring comes first"


@pytest.mark.parametrize("path", modules(), ids=place)
def test_file_is_short_enough_to_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Counts the lines of a function without its docstring and the inside of long strings."""
    assert function.end_lineno is not None
    lines = set(range(function.lineno, function.end_lineno + 1))
    for node in ast.walk(function):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno is not None:
            lines -= set(range(node.lineno + 1, node.end_lineno + 1))
    return len(lines)


def is_long(node: ast.AST) -> bool:
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return function and code_lines(node) > MAX_FUNCTION_LINES  # type: ignore[arg-type]


def test_no_function_is_longer_than_forty_lines() -> None:
    assert offenders(is_long, modules()) == []
