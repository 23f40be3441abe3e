"""A Cosmic Ray operator that changes SQL inside of string literals, one place at a time."""

import re
from collections.abc import Iterator

from cosmic_ray.operators.operator import Operator
from parso.python.tree import Leaf

STATEMENT = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|EXISTS)\b")
CHANGES = [
    (r"\bWHERE\b", "WHERE true OR"),
    (r"\bAND\b", "OR"),
    (r"\bOR\b", "AND"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bNOT EXISTS\b", "EXISTS"),
    (r"(?<!NOT )\bEXISTS\b", "NOT EXISTS"),
    (r"<> ?ALL", "= ANY"),
    (r"= ?ANY", "<> ALL"),
    (r"<>", "="),
    (r"<=", "<"),
    (r">=", ">"),
    (r"(?<![<:])>(?![=>])", ">="),
    (r"<(?![=>])", "<="),
    (r"(?<![<>:=!])=(?![>=]| ?ANY)", "<>"),
    (r"(?<=[\w)]) \+ (?=[\w:(])", " - "),
    (r"(?<=[\w)]) - (?=[\w:(])", " + "),
    (r"\bDESC\b", "ASC"),
    (r"\bgreatest\(", "least("),
    (r"\bleast\(", "greatest("),
    (r"\bUNION ALL\b", "EXCEPT"),
    (r"\bLEFT JOIN\b", "JOIN"),
    (r"\bSKIP LOCKED\b", ""),
    (r"\bFOR (NO KEY )?UPDATE\b( OF \w+)?( SKIP LOCKED)?", ""),
    (r"\bLIMIT [:\w]+", ""),
    (r"\bORDER BY\b", "ORDER BY 1 DESC,"),
    (r"'pending'", "'running'"),
    (r"'(running|completed|failed|rejected|cancelled|expired|released|invalid)'", "'pending'"),
    (r"\bnull\b|\bNULL\b(?!S)", "0"),
]


class ReplaceSql(Operator):  # type: ignore[misc]  # untyped library
    """Makes one of ``CHANGES`` in a string that contains SQL."""

    def mutation_positions(self, node: Leaf) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yields a node's range once for each change that is possible in it."""
        for _ in _mutants(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Leaf, index: int) -> Leaf:
        """Makes the ``index``-th change."""
        node.value = list(_mutants(node))[index]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Returns no examples; Cosmic Ray's own tests read them."""
        return ()


def _mutants(node: Leaf) -> Iterator[str]:
    if getattr(node, "type", None) not in {"string", "fstring_string"}:
        return
    if not STATEMENT.search(node.value):
        return
    for pattern, replacement in CHANGES:
        for match in re.finditer(pattern, node.value):
            yield node.value[: match.start()] + replacement + node.value[match.end() :]
