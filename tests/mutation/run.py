"""Changes one expression after another, runs the tests of its room, and records what survives.

``python -m tests.mutation.run --out mutants.jsonl [--only leasing,ridge] [--per-file N]``

Works on a copy of the commit in a temporary folder. Every mutant is a line of JSON in the file; a
second run with the same file continues. The exit status is 1 if a mutant survived.
"""

import argparse
import difflib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS

from tests.mutation.rooms import ROOMS, Room
from tests.mutation.sql import ReplaceSql

# Of Cosmic Ray's operators those whose mutants are rarely equivalent: each comparison is negated
# and moved by its boundary, sums are turned around, conditions and loops are changed.
OPERATORS = (
    *(
        f"ReplaceComparisonOperator_{pair}"
        for pair in (
            *("Lt_GtE", "Lt_LtE", "LtE_Gt", "LtE_Lt", "Gt_LtE", "Gt_GtE", "GtE_Lt", "GtE_Gt"),
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
        )
    ),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Div_Mul")),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "AddNot"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
)
TESTS_LIMIT_S = 600  # a mutant that hangs is noticed


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one expression changed."""

    file: str
    operator: str
    occurrence: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether all tests of a mutant's room passed, and what it changes."""

    survived: bool
    diff: str
    seconds: float


def main() -> None:
    """Runs the rooms that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.run", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--only", default=",".join(ROOMS), help="rooms, separated by commas")
    parser.add_argument("--per-file", type=int, default=10**6, help="a random sample of each file")
    options = parser.parse_args()
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    records = [json.loads(line) for line in lines]
    done = {Mutant(line["file"], line["operator"], line["occurrence"]) for line in records}
    survivors = sum(line["survived"] for line in records)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, options.out.open("a") as out:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "clone", "--quiet", ".", tree], check=True)
        for name in options.only.split(","):
            for mutant in _sample(tree, ROOMS[name], options.per_file):
                if mutant not in done:
                    outcome = _try(tree, mutant, ROOMS[name].tests)
                    survivors += outcome.survived
                    print(json.dumps(asdict(mutant) | asdict(outcome)), file=out, flush=True)
                    print(_describe(mutant, outcome), flush=True)
    print(f"{survivors} survived")
    sys.exit(survivors > 0)


def mutants(source: str, file: str) -> Iterator[Mutant]:
    """Yields every mutant of a file."""
    nodes = list(ast_nodes(get_ast(source)))
    for name, operator in _operators().items():
        places = sum(1 for node in nodes for _ in operator.mutation_positions(node))
        for occurrence in range(places):
            yield Mutant(file, name, occurrence)


def mutated(source: str, mutant: Mutant) -> str:
    """Returns a file's text with the mutant's change."""
    return str(mutate_code(source, _operators()[mutant.operator], mutant.occurrence))


def _sample(tree: Path, room: Room, per_file: int) -> Iterator[Mutant]:
    for pattern in room.files:
        for path in sorted(tree.glob(pattern)):
            found = list(mutants(path.read_text(), str(path.relative_to(tree))))
            yield from random.Random(0).sample(found, min(len(found), per_file))


def _try(tree: Path, mutant: Mutant, tests: tuple[str, ...]) -> Outcome:
    path, began = tree / mutant.file, time.monotonic()
    before = path.read_text()
    after = mutated(before, mutant)
    path.write_text(after)
    try:
        survived = _pass(tree, tests)
    finally:
        path.write_text(before)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return Outcome(survived, "\n".join(list(lines)[2:]), round(time.monotonic() - began, 1))


def _pass(tree: Path, tests: tuple[str, ...]) -> bool:
    environment = os.environ | {"PYTHONPATH": f"{tree}:{tree / 'client/src'}"}
    command = [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, timeout=TESTS_LIMIT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _operators() -> dict[str, Any]:
    core: dict[str, type[Operator]] = OPERATOR_PROVIDERS["core"]
    return {name: core[name]() for name in OPERATORS} | {"ReplaceSql": ReplaceSql()}


def _describe(mutant: Mutant, outcome: Outcome) -> str:
    verdict = f"SURVIVED\n{outcome.diff}" if outcome.survived else "killed"
    return f"{mutant.file} {mutant.operator} {mutant.occurrence}: {verdict}"


if __name__ == "__main__":
    main()
