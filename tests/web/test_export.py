from __future__ import annotations

import json
import os

import pytest

from tests.web.values import PASSWORD, accounts
from vncgate.errors import PublishError
from vncgate.settings import load
from vncgate.web import export as module
from vncgate.web.export import MANIFEST, export

SETTINGS = load()


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_whole_site_readable_for_all_and_without_a_secret(tmp_path):
    site = tmp_path / "site"
    old = os.umask(0o077)
    try:
        export(site, SETTINGS, accounts(2))
    finally:
        os.umask(old)
    assert {"index.html", "desk/ws01/index.html", "static/site.css", "static/novnc/core/rfb.js"} <= tree(site)
    assert {path.stat().st_mode & 0o777 for path in site.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in [site, *site.rglob("*")] if path.is_dir()} == {0o755}
    assert not any(PASSWORD.encode() in path.read_bytes() for path in site.rglob("*") if path.is_file())
    assert 'data-websocket="../../ws/ws01"' in (site / "desk/ws01/index.html").read_text()
    assert 'http-equiv="Content-Security-Policy"' in (site / "index.html").read_text()


def test_accounts_that_are_gone_lose_their_page_and_nothing_else_is_touched(tmp_path):
    export(tmp_path, SETTINGS, accounts(3))
    (tmp_path / "desk/ws03/notes.txt").write_text("mine")
    (tmp_path / "robots.txt").write_text("mine")
    before = (tmp_path / "static/site.css").stat()
    export(tmp_path, SETTINGS, accounts(1))
    assert (tmp_path / "desk/ws01/index.html").exists()
    assert not (tmp_path / "desk/ws02").exists()
    assert tree(tmp_path / "desk/ws03") == {"notes.txt"}
    assert (tmp_path / "robots.txt").read_text() == "mine"
    after = (tmp_path / "static/site.css").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)  # browsers keep what is the same


def test_a_file_that_is_not_ours_is_not_replaced(tmp_path):
    (tmp_path / "index.html").write_text("the university's")
    with pytest.raises(PublishError, match=r"index.html: is not vncgate's"):
        export(tmp_path, SETTINGS, accounts(1))
    assert tree(tmp_path) == {"index.html"}
    assert (tmp_path / "index.html").read_text() == "the university's"


def test_an_export_that_was_cut_off_is_finished_by_the_next(tmp_path, monkeypatch):
    write, written = module.replace_file, []

    def full(path, data):
        if len(written) == 5:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        return write(path, data)

    monkeypatch.setattr(module, "replace_file", full)
    with pytest.raises(PublishError, match="cannot be written: No space left on device"):
        export(tmp_path, SETTINGS, accounts(1))
    assert not (tmp_path / "index.html").exists()
    monkeypatch.setattr(module, "replace_file", write)
    export(tmp_path, SETTINGS, accounts(1))
    assert tree(tmp_path) == {*json.loads((tmp_path / MANIFEST).read_text()), MANIFEST}


@pytest.mark.parametrize("text", ["[", "{}", '["../victim"]', '["/etc/passwd"]', "[1]", '[""]'])
def test_a_list_of_files_that_leads_elsewhere_is_refused(tmp_path, text):
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "victim").write_text("here")
    (site / MANIFEST).write_text(text)
    with pytest.raises(PublishError, match="is damaged"):
        export(site, SETTINGS, accounts(1))
    assert (tmp_path / "victim").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    with pytest.raises(PublishError, match="nowhere/site: cannot be written: No such file or directory"):
        export(tmp_path / "nowhere" / "site", SETTINGS, accounts(1))
