"""What the command line shows of names and messages that come from elsewhere."""

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from cli.main import app

ODD_NAMES = ["[/x] boom", "[bold]", "[link=http://x]y[/link]"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_shown_as_it_is_and_never_read_as_markup(
    name: str, api_url: str, session: Session
) -> None:
    def convsweep(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--url", api_url])
        assert done.exit_code == 0, done.output
        return done.output

    convsweep("sweep", "start", "--preset", "quick", "--name", name)
    assert name in convsweep("sweep", "list")
    assert name in convsweep("sweep", "show", "latest")


@pytest.mark.parametrize("text", ["[1]", '"words"', '{"protocol": 3}'])
def test_a_file_that_holds_no_sweep_is_refused_with_a_message(
    text: str, api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(
        app, ["sweep", "preview", "--file", "-", "--url", api_url], input=text
    )
    assert done.exit_code == 1
    assert "must be JSON objects" in capsys.readouterr().err + done.output
