"""`vncgate demo`: what it does not begin with. That it runs, and ends, is shown in tests/real/test_demo.py."""

from __future__ import annotations

import io
import tempfile

import pytest

from vncgate.cli import main


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; the log stays pytest's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("vncgate.log.setup", lambda *_: io.StringIO())  # something to close
    return tmp_path


@pytest.mark.parametrize("count", ["0", "-1", "1000", "many", "", "1.5", "²"])
def test_a_number_of_accounts_that_cannot_be(count, temporary, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", f"--accounts={count}"])
    assert "vncgate demo: error: argument --accounts: must be a number from 1 to 999\n" in capsys.readouterr().err
    assert list(temporary.iterdir()) == []


def test_a_word_too_many(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "4"])
    assert "unrecognized arguments: 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("web", "told"),
    [
        ("8080", '--web: write it as "HOST:PORT", for example "127.0.0.1:8080" or "[::1]:8080" (it is \'8080\')'),
        ("127.0.0.1:65536", "--web: "),
        ("off", "--web: the demo is nothing without its pages; write it as HOST:PORT"),
        ("", "--web: the demo is nothing without its pages; write it as HOST:PORT"),
        ("192.0.2.1:8080", "the demo: port 8080 on 192.0.2.1 "),
    ],
)
def test_an_address_that_cannot_be(web, told, temporary, capsys):
    assert main(["demo", "--web", web]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"vncgate: {told}")
    assert err.count("\n") == 1
    assert list(temporary.iterdir()) == []


def test_a_folder_too_deep_for_sockets(temporary, monkeypatch, capsys):
    deep = temporary / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert main(["demo", "--web", "127.0.0.1:0"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"vncgate: {deep}/vncgate-demo-")
    assert err.endswith(": too long for the sockets in it; set TMPDIR to a shorter one, such as /tmp\n")
    assert list(deep.iterdir()) == []
