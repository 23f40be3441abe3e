"""Where the browser of these tests comes from."""

import stat
from pathlib import Path

import pytest

from tests.browser.chromium import ChromiumMissingError, find_chromium


def test_a_named_chromium_comes_before_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("named", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "chromium").touch(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("CHROMIUM_PATH", str(tmp_path / "named/chromium"))
    assert find_chromium() == str(tmp_path / "named/chromium")
    monkeypatch.delenv("CHROMIUM_PATH")
    assert find_chromium() == str(tmp_path / "path/chromium")


def test_a_named_chromium_that_is_not_there_fails_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHROMIUM_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ChromiumMissingError, match="apt-get install chromium"):
        find_chromium()
