"""Reading a token file, with the warnings that need the operating system."""

from __future__ import annotations

import os
import threading

import pytest

from vncgate.errors import TokensError
from vncgate.roster import load_tokens, read_tokens


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "ws.tokens"
    path.write_text("ws01 node01 p1 6007 5901 k3Vq9xTb\nws02 node01 p2 6008 5902 Hm7wPz4c\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def sockets(tmp_path):
    """A folder as X servers keep their sockets in."""
    folder = tmp_path / "X11-unix"
    folder.mkdir()
    for name in ("X7", "X99", "Xa", "X", "y8", "X7_"):
        (folder / name).touch()
    return folder


def test_a_private_file_on_a_host_without_x_servers(tokens, tmp_path):
    parsed = load_tokens(tokens, tmp_path / "none")
    assert list(parsed.roster) == ["ws01", "ws02"]
    assert parsed.problems == ()


def test_websocketports_of_x_displays(tokens, sockets):
    (problem,) = load_tokens(tokens, sockets).problems
    assert (problem.line, problem.column) == (1, 16)
    assert "X display :7" in problem.message


def test_a_file_that_others_can_read(tokens, sockets):
    tokens.chmod(0o644)
    mode, display = load_tokens(tokens, sockets).problems
    assert "mode 0644" in mode.message
    assert "X display :7" in display.message


def test_a_pipe_has_no_mode_to_complain_of(tokens, tmp_path):
    reading, writing = os.pipe()
    os.write(writing, tokens.read_bytes())
    os.close(writing)
    os.fchmod(reading, 0o666)
    try:
        assert not load_tokens(type(tokens)(f"/proc/self/fd/{reading}"), tmp_path / "none").problems
    finally:
        os.close(reading)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, reason in {
        tmp_path / "none": "No such file or directory",
        tmp_path: "Is a directory",
        tmp_path / "loop": "Too many levels of symbolic links",
    }.items():
        with pytest.raises(TokensError) as caught:
            load_tokens(path)
        assert str(caught.value) == f"{path}: cannot be read: {reason}"


def test_files_that_are_too_large(tmp_path):
    """One that has a size is not even read, one without an end not to its end."""
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    for path in (sparse, type(tmp_path)("/dev/zero")):
        with pytest.raises(TokensError, match=f"^{path}: is larger than 16 MiB: is it a token file"):
            load_tokens(path)


async def test_a_file_that_blocks_does_not_block_the_loop(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(TokensError, match=r"pipe: cannot be read: no answer within 0.2 s"):
        await read_tokens(pipe, timeout=0.2)
    os.close(os.open(pipe, os.O_WRONLY))  # lets the thread go
    good = tmp_path / "good"
    good.write_text("ws01 node01 path01 - 5901 k3Vq9xTb\n")
    assert list((await read_tokens(good)).roster) == ["ws01"]
    with pytest.raises(TokensError, match="No such file"):
        await read_tokens(tmp_path / "none")


async def test_without_a_thread_to_read_it_the_file_cannot_be_read(tokens, monkeypatch):
    def none(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with pytest.raises(TokensError, match=r"ws.tokens: cannot be read: no thread can be started"):
        await read_tokens(tokens)
