"""Uploads as the agent keeps them: whole or not at all, from where they were left off."""

from __future__ import annotations

import json
import os
import stat
import time
from urllib.parse import unquote, unquote_to_bytes

import pytest

from tests.takeaway.asking import Asking, ask

NEW = {"do": "create", "path": "", "name": "new.txt", "clash": "ask", "size": 10}


def append(root, key, offset, data):
    """What the agent says of more bytes."""
    with_them = Asking(root, do="append", id=key, offset=offset).send(data)
    with with_them as asking:
        return asking.answer


def keep(root, data=b"0123456789", **more):
    """A whole upload; returns the name that it got."""
    key = ask(root, **{**NEW, "size": len(data), **more})["id"]
    return append(root, key, 0, data)["name"]


def visible(root):
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def test_it_is_there_when_it_is_whole_and_not_before(tmp_path):
    key = ask(tmp_path, **NEW)["id"]
    assert append(tmp_path, key, 0, b"01234") == {"offset": 5, "name": ""}
    assert visible(tmp_path) == {}
    assert ask(tmp_path, do="list", path="")["entries"] == []
    assert ask(tmp_path, do="offset", id=key) == {"offset": 5, "size": 10}
    assert append(tmp_path, key, 5, b"56789") == {"offset": 10, "name": "new.txt"}
    assert visible(tmp_path) == {"new.txt": b"0123456789"}


def test_whoever_did_not_hear_of_the_end_is_told_again(tmp_path):
    key = ask(tmp_path, **NEW)["id"]
    append(tmp_path, key, 0, b"0123456789")
    assert ask(tmp_path, do="offset", id=key) == {"offset": 10, "size": 10}
    assert append(tmp_path, key, 10, b"") == {"offset": 10, "name": "new.txt"}
    assert visible(tmp_path) == {"new.txt": b"0123456789"}


def test_nothing_beyond_its_size_is_taken(tmp_path):
    assert keep(tmp_path, b"0123456789", size=4) == "new.txt"
    assert visible(tmp_path) == {"new.txt": b"0123"}


def test_an_empty_one_is_there_at_once(tmp_path):
    answer = ask(tmp_path, **{**NEW, "size": 0})
    assert answer["name"] == "new.txt"
    assert visible(tmp_path) == {"new.txt": b""}


def test_only_where_it_was_left_off(tmp_path):
    key = ask(tmp_path, **NEW)["id"]
    append(tmp_path, key, 0, b"01234")
    assert append(tmp_path, key, 3, b"xx") == {"error": "offset", "about": "", "offset": 5}
    assert ask(tmp_path, do="offset", id=key)["offset"] == 5


def test_one_at_a_time_writes(tmp_path):
    key = ask(tmp_path, **NEW)["id"]
    first = Asking(tmp_path, do="append", id=key, offset=0)
    first.process.stdin.write(b"0")
    while ask(tmp_path, do="offset", id=key)["offset"] == 0:
        pass
    assert append(tmp_path, key, 1, b"1")["error"] == "busy"
    with first.send(b"123456789"):
        assert first.answer == {"offset": 10, "name": "new.txt"}


@pytest.mark.parametrize(
    ("clash", "name", "there"),
    [
        ("keep", "new (2).txt", {"new.txt": b"old", "new (2).txt": b"0123456789"}),
        ("replace", "new.txt", {"new.txt": b"0123456789"}),
    ],
)
def test_clashes(tmp_path, clash, name, there):
    (tmp_path / "new.txt").write_bytes(b"old")
    assert ask(tmp_path, **NEW) == {"error": "clash", "about": "new.txt", "folder": False}
    assert unquote(keep(tmp_path, clash=clash)) == name
    assert visible(tmp_path) == there


def test_a_clash_that_comes_later_keeps_both(tmp_path):
    key = ask(tmp_path, **NEW)["id"]
    (tmp_path / "new.txt").write_bytes(b"old")
    (tmp_path / "new (2).txt").symlink_to("/etc/passwd")
    assert unquote(append(tmp_path, key, 0, b"0123456789")["name"]) == "new (3).txt"
    assert (tmp_path / "new.txt").read_bytes() == b"old"
    assert (tmp_path / "new (3).txt").read_bytes() == b"0123456789"


def test_a_folder_is_not_replaced_and_a_link_is_itself(tmp_path):
    (tmp_path / "new.txt").mkdir()
    assert ask(tmp_path, **{**NEW, "clash": "replace"})["error"] == "clash"
    (tmp_path / "new.txt").rmdir()
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "new.txt").symlink_to("other")
    keep(tmp_path, clash="replace")
    assert (tmp_path / "other").read_bytes() == b"other"
    assert not (tmp_path / "new.txt").is_symlink()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a%2Fb", "a%00b", "a%0Ab", "%7f", "%20", "x" * 241, ".vncgate-uploads"]
)
def test_names_that_no_file_should_have(tmp_path, name):
    assert ask(tmp_path, **{**NEW, "name": name})["error"] == "name"


@pytest.mark.parametrize("name", ["a b", "März", "%E4", ".bashrc", "-rf", "x" * 240])
def test_names_that_files_may_have(tmp_path, name):
    keep(tmp_path, name=name)
    assert [os.fsencode(each) for each in visible(tmp_path)] == [unquote_to_bytes(name.encode())]


def test_no_more_than_the_quota(tmp_path):
    (tmp_path / "old").write_bytes(bytes(80))
    first = ask(tmp_path, **{**NEW, "size": 15, "quota": 100})
    assert "id" in first
    assert ask(tmp_path, **{**NEW, "name": "b", "size": 6, "quota": 100}) == {
        "error": "quota", "about": "", "free": 5, "quota": 100,
    }  # fmt: skip
    ask(tmp_path, do="cancel", id=first["id"])
    assert "id" in ask(tmp_path, **{**NEW, "name": "b", "size": 6, "quota": 100})


def test_no_more_than_the_disk_takes(tmp_path):
    assert ask(tmp_path, **{**NEW, "size": 1 << 60})["error"] == "full"


def test_a_full_disk_keeps_what_came(tmp_path):
    """Written as far as a limit on the size of files lets it: the error that a disk gives."""
    key = ask(tmp_path, **{**NEW, "size": 1 << 20})["id"]
    limited = ("prlimit", "--fsize=4096", "--")
    asking = Asking(tmp_path, do="append", id=key, offset=0, under=limited)
    asking.process.stdin.write(bytes(8192))
    with asking:
        assert asking.answer["error"] == "full"
    assert ask(tmp_path, do="offset", id=key)["offset"] == 4096
    assert append(tmp_path, key, 4096, bytes((1 << 20) - 4096))["name"] == "new.txt"


def test_it_is_the_users_own_by_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        keep(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / ".vncgate-uploads").stat().st_mode) == 0o700


def test_what_nobody_goes_on_with_is_removed(tmp_path):
    old, new = (ask(tmp_path, **{**NEW, "name": name})["id"] for name in "ab")
    uploads = tmp_path / ".vncgate-uploads"
    for path in uploads.glob(f"{old}*"):
        os.utime(path, (0, time.time() - 4 * 86400))
    ask(tmp_path, do="list", path="")
    assert sorted(path.name for path in uploads.iterdir()) == [new, f"{new}.json"]


def test_an_upload_that_is_none(tmp_path):
    ask(tmp_path, **NEW)
    for key in ("0" * 32, "../x", "", ".", "a/b"):
        assert ask(tmp_path, do="offset", id=key)["error"] == "missing"
        assert ask(tmp_path, do="cancel", id=key)["error"] == "missing"


@pytest.mark.parametrize("note", ["", "[]", "{", json.dumps({"size": "x"}), json.dumps({"size": 1, "name": "../x"})])
def test_notes_that_somebody_else_wrote(tmp_path, note):
    key = ask(tmp_path, **NEW)["id"]
    (tmp_path / ".vncgate-uploads" / f"{key}.json").write_text(note)
    assert append(tmp_path, key, 0, b"0123456789")["error"] == "missing"


def test_a_note_that_leads_out_puts_nothing_there(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    key = ask(root, **NEW)["id"]
    for name, path in (("x", ".."), ("../x", "")):
        note = {"size": 4, "name": name, "path": path, "clash": "replace"}
        (root / ".vncgate-uploads" / f"{key}.json").write_text(json.dumps(note))
        answer = append(root, key, ask(root, do="offset", id=key)["offset"], b"0123")
        assert answer["error"] in ("missing", "name")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_uploads_that_are_a_link_are_none(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / ".vncgate-uploads").symlink_to(tmp_path / "outside")
    assert ask(tmp_path / "root", **NEW)["error"] == "missing"
    assert list((tmp_path / "outside").iterdir()) == []
