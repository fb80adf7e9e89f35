"""Tests of vncgate.launchers.removal: folders in which their users may have put anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from vncgate.launchers import removal
from vncgate.launchers.removal import remove_session


@pytest.fixture
def session(tmp_path):
    folder = tmp_path / "place" / "nonce"
    (folder / "home").mkdir(parents=True)
    (folder / "passwd").write_text("12345678")
    return folder


def test_removing(session):
    remove_session(session)
    assert list(session.parent.iterdir()) == []
    remove_session(session)  # twice does no harm
    remove_session(session / "of" / "nobody")


def test_any_depth_is_removed(session):
    """Deeper than Python calls itself, and than a path may be long, with a few files open."""
    folder = os.open(session, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("folder", dir_fd=folder)
        inner = os.open("folder", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    remove_session(session)
    assert list(session.parent.iterdir()) == []


def test_what_its_owner_may_not_write_is_removed(session):
    """As an ordinary user: root's rights are taken from who is root here."""
    package = session / "home" / "go" / "x@v1"
    package.mkdir(parents=True)
    (package / "a.go").touch(0o400)
    package.chmod(0o555)
    (session / "closed" / "inner").mkdir(parents=True)
    (session / "closed" / "inner").chmod(0)
    (session / "closed").chmod(0)
    session.chmod(0o500)
    as_any = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    program = "import sys, pathlib; from vncgate.launchers import removal; removal._remove(pathlib.Path(sys.argv[1]))"
    subprocess.run([*as_any, sys.executable, "-c", program, str(session)], check=True, timeout=30)
    assert list(session.parent.iterdir()) == []


def test_links_lead_nowhere(session, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o750)
    (other / "file").touch()
    (session / "link").symlink_to(other)
    (session / "home" / "link").symlink_to(other)
    remove_session(session)
    assert [path.name for path in other.iterdir()] == ["file"]
    assert other.stat().st_mode & 0o777 == 0o750


def test_what_somebody_else_removes_meanwhile_hinders_nothing(session, monkeypatch):
    (session / "home" / "going" / "inner").mkdir(parents=True)
    (session / "home" / "gone").touch()
    listdir = os.listdir

    def listed(folder):
        names = listdir(folder)
        shutil.rmtree(session / "home" / "going", ignore_errors=True)
        if "gone" in names:
            os.unlink("gone", dir_fd=folder)
        return names

    monkeypatch.setattr(removal.os, "listdir", listed)
    remove_session(session)
    assert list(session.parent.iterdir()) == []


def test_what_cannot_be_removed_is_put_aside_told_once_and_tried_again(session, monkeypatch, caplog):
    """As where something is mounted."""
    (session / "home" / "mounted").mkdir()
    (session / "home" / "file").touch()
    rename = os.rename

    def busy(name, *args, **named):
        if name == "mounted":
            raise OSError(16, "Device or resource busy", name)
        rename(name, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(removal.os, "rename", busy)
        for _ in range(2):
            remove_session(session)
    left = session.with_name("left.nonce")
    assert [path.name for path in left.rglob("*") if path.name in ("passwd", "file", "mounted")] == ["mounted"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{left} stays, and is tried again later: Device or resource busy"
    ]
    remove_session(session)
    assert list(session.parent.iterdir()) == []
