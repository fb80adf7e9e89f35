from __future__ import annotations

import json
import os
import re

import pytest

from tests.web.values import PASSWORD, accounts
from vncgate.errors import PublishError
from vncgate.files import replace_file
from vncgate.settings import load
from vncgate.web import export as module
from vncgate.web.export import MANIFEST, export

SETTINGS = load()


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def edition(site):
    """The edition that the landing page links to, and all pages with it."""
    texts = [path.read_text() for path in (site / "index.html", *site.glob("desk/*/index.html"))]
    (found,) = {name for text in texts for name in re.findall(r"static/(\w+)/", text)}
    return found


def editions(site):
    return {path.name for path in (site / "static").iterdir()}


def full_after(count):
    """A replace_file() for a disk that has room for `count` files."""
    left = iter(range(count))

    def write(path, data):
        if next(left, None) is None:
            raise OSError(28, "No space left on device", str(path))
        return replace_file(path, data)

    return write


def test_the_whole_site_readable_for_all_and_without_a_secret(tmp_path):
    site = tmp_path / "site"
    old = os.umask(0o077)
    try:
        export(site, SETTINGS, accounts(2))
    finally:
        os.umask(old)
    files = f"static/{edition(site)}"
    assert {"index.html", "desk/ws01/index.html", f"{files}/site.css", f"{files}/novnc/core/rfb.js"} <= tree(site)
    assert {path.stat().st_mode & 0o777 for path in site.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in [site, *site.rglob("*")] if path.is_dir()} == {0o755}
    assert not any(PASSWORD.encode() in path.read_bytes() for path in site.rglob("*") if path.is_file())
    assert 'data-websocket="../../ws/ws01"' in (site / "desk/ws01/index.html").read_text()
    assert 'http-equiv="Content-Security-Policy"' in (site / "index.html").read_text()


def test_accounts_that_are_gone_lose_their_page_and_nothing_else_is_touched(tmp_path):
    export(tmp_path, SETTINGS, accounts(3))
    (tmp_path / "desk/ws03/notes.txt").write_text("mine")
    (tmp_path / "robots.txt").write_text("mine")
    sheet = tmp_path / "static" / edition(tmp_path) / "site.css"
    before = sheet.stat()
    export(tmp_path, SETTINGS, accounts(1))
    assert (tmp_path / "desk/ws01/index.html").exists()
    assert not (tmp_path / "desk/ws02").exists()
    assert tree(tmp_path / "desk/ws03") == {"notes.txt"}
    assert (tmp_path / "robots.txt").read_text() == "mine"
    after = sheet.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)  # browsers keep what is the same


def test_a_page_that_was_loaded_a_moment_before_still_finds_its_files(tmp_path):
    def export_in(colour, count):
        export(tmp_path, load(flags={"landing.accent": colour}), accounts(count))
        return edition(tmp_path)

    red = export_in("#ff0000", 1)
    files = {name for name in tree(tmp_path) if name.startswith("static/")}
    green = export_in("#00ff00", 1)
    assert editions(tmp_path) == {red, green}
    assert files < tree(tmp_path)
    assert export_in("#00ff00", 2) == green  # an account came meanwhile: the same edition
    assert editions(tmp_path) == {red, green}
    blue = export_in("#0000ff", 2)
    assert editions(tmp_path) == {green, blue}
    assert export_in("#00ff00", 2) == green  # and back
    assert editions(tmp_path) == {green, blue}


def test_an_export_that_was_cut_off_takes_nothing_from_the_pages_that_stand(tmp_path, monkeypatch):
    export(tmp_path, SETTINGS, accounts(1))
    old = edition(tmp_path)
    other = load(flags={"landing.accent": "#ff0000"})
    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_file", full_after(5))
        with pytest.raises(PublishError):
            export(tmp_path, other, accounts(1))
    assert edition(tmp_path) == old
    export(tmp_path, other, accounts(1))
    new = edition(tmp_path)
    assert editions(tmp_path) == {old, new}
    assert (tmp_path / "static" / old / "desk.js").exists()
    export(tmp_path, load(flags={"landing.accent": "#00ff00"}), accounts(1))
    assert editions(tmp_path) == {new, edition(tmp_path)}


def test_a_file_that_is_not_ours_is_not_replaced(tmp_path):
    (tmp_path / "index.html").write_text("the university's")
    with pytest.raises(PublishError, match=r"index.html: is not vncgate's"):
        export(tmp_path, SETTINGS, accounts(1))
    assert tree(tmp_path) == {"index.html"}
    assert (tmp_path / "index.html").read_text() == "the university's"


def test_an_export_that_was_cut_off_is_finished_by_the_next(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_file", full_after(5))
        with pytest.raises(PublishError, match="cannot be written: No space left on device"):
            export(tmp_path, SETTINGS, accounts(1))
    assert not (tmp_path / "index.html").exists()
    export(tmp_path, SETTINGS, accounts(1))
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert tree(tmp_path) == {*manifest["site"], MANIFEST}
    assert manifest["previous"] == []


NAMES = ["../victim", "/etc/passwd", 1, ""]


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "{}",
        '{"site": []}',
        '{"site": {}, "previous": []}',
        *(json.dumps({"site": [name], "previous": []}) for name in NAMES),
        *(json.dumps({"site": [], "previous": [name]}) for name in NAMES),
    ],
)
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


def test_the_copy_speaks_the_default_language_and_has_no_switch(tmp_path):
    export(tmp_path / "site", load(flags={"languages.default": "de"}), accounts(1))
    html = (tmp_path / "site" / "index.html").read_text()
    assert '<html lang="de">' in html
    assert "?language=" not in html
    assert 'words/de.js"></script>' in html
