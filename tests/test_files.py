import os
import stat
from pathlib import Path

import pytest

from vncgate.files import is_there, replace_file, write_private


@pytest.fixture
def target(tmp_path):
    return tmp_path / "snippet.conf"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_there(target, monkeypatch):
    monkeypatch.setenv("HOME", str(target.parent))
    for path in (target, Path("~") / target.name, Path("~no-such-user/x")):
        assert not is_there(path)
    target.touch()
    assert is_there(target)
    assert is_there(target.parent)
    assert is_there(Path("~") / target.name)

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr("vncgate.files.os.stat", refuse)
    assert is_there(Path("/nobody/knows"))


def test_new_file_has_exactly_the_mode_asked_for(target):
    old = os.umask(0o077)
    try:
        assert replace_file(target, b"one\n", mode=0o640)
    finally:
        os.umask(old)
    assert target.read_bytes() == b"one\n"
    assert mode_of(target) == 0o640


def test_old_file_gives_its_mode(target):
    target.write_bytes(b"one\n")
    target.chmod(0o604)
    assert replace_file(target, b"two\n", mode=0o644)
    assert target.read_bytes() == b"two\n"
    assert mode_of(target) == 0o604


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_old_file_gives_its_owner(target):
    target.write_bytes(b"one\n")
    os.chown(target, 12, 34)
    target.chmod(0o4750)
    replace_file(target, b"two\n")
    found = target.stat()
    assert (found.st_uid, found.st_gid, mode_of(target)) == (12, 34, 0o4750)


def test_reader_of_the_old_file_keeps_it_whole(target):
    target.write_bytes(b"one\n")
    with target.open("rb") as reader:
        replace_file(target, b"a longer second\n")
        assert reader.read() == b"one\n"


def test_same_content_touches_nothing(target):
    replace_file(target, b"one\n")
    before = target.stat()
    assert not replace_file(target, b"one\n", mode=0o600)
    assert target.stat() == before


def test_empty_file_is_written(target):
    assert replace_file(target, b"")
    assert target.read_bytes() == b""
    assert not replace_file(target, b"")


@pytest.mark.parametrize("exists", [True, False])
def test_link_stays_a_link(tmp_path, exists):
    folder = tmp_path / "real"
    folder.mkdir()
    if exists:
        (folder / "file").write_bytes(b"one\n")
    (tmp_path / "hop").symlink_to("real/file")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "hop")
    assert replace_file(link, b"two\n")
    assert link.readlink() == tmp_path / "hop"
    assert (folder / "file").read_bytes() == b"two\n"
    assert not (folder / "file").is_symlink()


def test_longest_name(tmp_path):
    assert replace_file(tmp_path / ("n" * 255), b"one\n")


@pytest.mark.parametrize("step", ["fsync", "fchmod", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_keeps_the_old_file_and_leaves_no_other(monkeypatch, target, step, error):
    target.write_bytes(b"one\n")

    def fail(*args):
        raise error

    monkeypatch.setattr(f"pathlib.Path.{step}" if step == "replace" else f"os.{step}", fail)
    with pytest.raises(type(error)):
        replace_file(target, b"two\n")
    monkeypatch.undo()
    assert target.read_bytes() == b"one\n"
    assert names(target.parent) == [target.name]


def test_an_owner_that_is_ours_is_not_set_again(monkeypatch, target):
    """The sandbox of the service refuses the call."""
    target.write_bytes(b"one\n")
    monkeypatch.setattr("os.fchown", lambda *_: pytest.fail("fchown was called"))
    assert replace_file(target, b"two\n")


def test_refuses_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, tmp_path / "fifo", loop, tmp_path / "missing" / "file"):
        with pytest.raises(OSError):
            replace_file(path, b"one\n")
    assert loop.is_symlink()
    assert names(tmp_path) == ["fifo", "loop"]


def test_folder_that_refuses_fsync_is_no_failure(monkeypatch, target):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", refuse_folders)
    assert replace_file(target, b"one\n")


def test_a_private_file_is_made_whole_and_over_none(tmp_path):
    path = tmp_path / "cards.pdf"
    write_private(path, b"one")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one", 0o600)
    with pytest.raises(FileExistsError):
        write_private(path, b"two")
    assert path.read_bytes() == b"one"
    path.chmod(0o644)
    write_private(path, b"two", over=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o600)
    assert names(tmp_path) == ["cards.pdf"]


@pytest.mark.parametrize("over", [False, True])
def test_a_private_file_that_fails_leaves_all_as_it_was(monkeypatch, tmp_path, over):
    path = tmp_path / "cards.pdf"
    if over:
        path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_private(path, b"new", over=over)
    assert names(tmp_path) == (["cards.pdf"] if over else [])
    assert not over or path.read_bytes() == b"old"
