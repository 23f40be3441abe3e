"""Commands that the pages show exist, with the options that they are shown with."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "client/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
INLINE = re.compile(r"`((?:convsweep|make|python -m) [^`]+)`")
IN_BLOCK = re.compile(r"\s*(?:[A-Z_]+=\S+ )*((?:convsweep|make|python -m) .*)")
TARGETS = re.compile(r"^([\w-]+):", re.MULTILINE)


def shown_commands(markdown: str) -> list[tuple[int, str]]:
    """Returns the line number and text of each command in code blocks and in backticks."""
    result = []
    inside = False
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif inside and (command := IN_BLOCK.match(line)):
            result.append((number, command[1]))
        elif not inside:
            result += [(number, text) for text in INLINE.findall(line)]
    return result


def fault(text: str) -> str | None:
    """Returns what is wrong with a command; None where it exists."""
    program, *words = shlex.split(text, comments=True)
    if program == "make":
        targets = TARGETS.findall((ROOT / "Makefile").read_text())
        unknown = [word for word in words if "=" not in word and word not in targets]
        return f"make has no target {unknown[0]}" if unknown else None
    if program == "python":
        module = ROOT / words[1].replace(".", "/")
        exists = module.with_suffix(".py").exists() or (module / "__main__.py").exists()
        ours = (ROOT / words[1].split(".")[0]).is_dir()
        return f"there is no module {words[1]}" if ours and not exists else None
    return command_line_fault(words)


def command_line_fault(words: list[str]) -> str | None:
    """Returns what is wrong with the words after ``convsweep``; ``a|b`` stands for either."""
    path, command = "convsweep", typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        for choice in name.split("|"):
            if choice not in command.commands:
                return f"{path} has no command {choice}"
        path, command = f"{path} {name}", command.commands[choice]
    known = {"--help"}.union(*(option.opts + option.secondary_opts for option in command.params))
    options = [word.split("=")[0] for word in words if word.startswith("-")]
    unknown = [option for option in options if option not in known]
    return f"{path} has no option {unknown[0]}" if unknown else None


def test_every_command_that_a_page_shows_exists() -> None:
    commands = [
        (f"{page.relative_to(ROOT)}:{number}", text)
        for page in PAGES
        for number, text in shown_commands(page.read_text())
    ]
    assert len(commands) > 100
    wrong = [f"{place}: {text}" for place, command in commands if (text := fault(command))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("convsweep fly", "convsweep has no command fly"),
        ("convsweep sweep start|fly", "sweep has no command fly"),
        ("convsweep top latest --fly=high", "top has no option --fly"),
        ("make fly", "make has no target fly"),
        ("python -m bench.fly --json", "there is no module bench.fly"),
    ],
)
def test_a_command_that_does_not_exist_is_reported(command: str, expected: str) -> None:
    assert str(fault(command)).endswith(expected)


def test_commands_are_read_from_blocks_and_from_backticks() -> None:
    page = "See `make demo`.\n\n```sh\nA=1 convsweep up  # starts\nls\n```\n"
    assert shown_commands(page) == [(1, "make demo"), (4, "convsweep up  # starts")]
