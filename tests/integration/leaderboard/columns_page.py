"""The table of result columns in docs/filters.md, made from the registry.

``python -m tests.integration.leaderboard.columns_page`` writes it into the page.
"""

from pathlib import Path

from shared.domain.results.columns import COLUMNS, TRIAL_COLUMNS, Column

PAGE = Path(__file__).parents[3] / "docs/filters.md"
BEGIN, END = "<!-- columns -->\n", "<!-- end of columns -->\n"
_USES = ("filterable", "sortable", "plottable", "exportable", "analysable")
_HEADS = ("filter", "sort", "points", "export", "analysis")


def render_tables() -> str:
    """Returns the tables of the columns of networks and of trials."""
    uses = [f"| name | unit | meaning | {' | '.join(_HEADS)} |", "|---|---|---|" + "---|" * 5]
    uses += [_row(column) for column in COLUMNS]
    trials = ["| name | unit | meaning |", "|---|---|---|"]
    trials += [f"| {_name(column)} |" for column in TRIAL_COLUMNS]
    return "\n".join([*uses, "", "Trials, in exports with `rows=trials`:", "", *trials, ""])


def _row(column: Column) -> str:
    marks = ("x" if getattr(column, use) else "" for use in _USES)
    return f"| {_name(column)} | {' | '.join(marks)} |"


def _name(column: Column) -> str:
    unit = "fraction" if column.label.endswith("(%)") else column.unit or ""
    return f"`{column.name}` | {unit} | {column.description}"


def with_tables(page: str) -> str:
    """Returns a page with the tables between its two marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + render_tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
