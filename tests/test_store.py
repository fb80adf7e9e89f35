"""What is kept of desktops on disk, and what is made of files that are damaged or foreign."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.files import replace_file
from vncgate.launchers.base import Handle
from vncgate.model import Desktop, DesktopState, Want
from vncgate.store import LARGEST, Ending, Entry, Store

HANDLE = Handle("local", "ws01", "0123456789abcdef", "", "ada", "4711")
ENTRY = Entry(HANDLE, "ws01", "xfce", "small", Want.UP, 1e9, 2, desktop=Desktop("node01", 5901))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state" / "desktops")


async def test_what_is_kept_is_found_in_the_order_in_which_it_was_asked_for(store):
    assert await store.load() == []
    late = Entry(Handle("slurm", "ws02", "0" * 16), "", "gedit", "", Want.DOWN, 2e9)
    await store.put(late)
    await store.put(ENTRY)
    assert await Store(store.folder).load() == [ENTRY, late]
    await store.remove(late.handle)
    await store.remove(late.handle)  # twice does no harm
    assert await store.load() == [ENTRY]


async def test_nobody_else_reads_it(store):
    store.folder.mkdir(parents=True, mode=0o755)
    await store.load()
    await store.put(ENTRY)
    file = store.folder / "0123456789abcdef.json"
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(store.folder.iterdir()) == [file]


async def test_a_start_has_one_file_whoever_it_is_given_to(store):
    await store.load()
    await store.put(ENTRY)
    given_out = Entry(ENTRY.handle, "ws02", "xfce", "small", Want.UP, 1e9)
    await store.put(given_out)
    assert await store.load() == [given_out]


async def test_who_is_cancelled_while_it_writes_leaves_no_writer_behind(store, monkeypatch):
    await store.load()
    began, goes_on = threading.Event(), threading.Event()

    def slow(*args, **named):
        began.set()
        goes_on.wait(10)
        return replace_file(*args, **named)

    monkeypatch.setattr("vncgate.store.replace_file", slow)
    writing = asyncio.ensure_future(store.put(ENTRY))
    await asyncio.to_thread(began.wait, 10)
    writing.cancel()
    await asyncio.sleep(0.01)
    assert not writing.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.remove(ENTRY.handle)
    assert await store.load() == []


def altered(**changes):
    return json.dumps({**ENTRY.to_json(), **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 60000,
        b" " * (LARGEST + 1),
        altered(want="sideways"),
        altered(handle={}),
        altered(handle=None),
        altered(requested="soon"),
        altered(restarts=None),
        altered(requested=10**400),
        altered(requested=float("inf")),
        altered(restarts=float("inf")),
        altered(handle={**ENTRY.handle.to_json(), "nonce": "../../etc/passwd"}),
        altered(handle={**ENTRY.handle.to_json(), "nonce": "another"}),
    ],
)
async def test_a_damaged_file_is_told_and_left_alone(store, caplog, content):
    await store.load()
    await store.put(ENTRY)
    bad = store.folder / "damaged.json"
    bad.write_bytes(content)
    assert await store.load() == [ENTRY]
    assert bad.read_bytes() == content
    assert "damaged.json" in caplog.text
    assert "left alone" in caplog.text


async def test_foreign_files_are_told_and_left_alone(store, caplog):
    await store.load()
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "folder.json").mkdir()
    (store.folder / "gone.json").symlink_to("/nonexistent")
    (store.folder / "a\nforged line.json").write_text("{}")
    assert await store.load() == []
    assert caplog.text.count("left alone") == 4
    assert "\nforged" not in caplog.text
    assert len(list(store.folder.iterdir())) == 4


async def test_a_folder_that_cannot_be_used_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        await Store(tmp_path / "file" / "desktops").load()


texts = st.text(max_size=40)


@given(
    st.builds(
        Entry,
        st.builds(Handle, texts, texts, texts, texts, texts, texts),
        texts,
        texts,
        texts,
        st.sampled_from(Want),
        st.floats(0, 1e12),
        st.integers(0, 1000),
    )
)
def test_every_entry_survives_the_way_to_the_disk_and_back(entry):
    assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


async def test_how_the_last_one_ended_is_kept_until_there_is_another(store):
    await store.load()
    failed = Ending("ws01", DesktopState.FAILED, "no such image", 5.0, "abc", "its last words", ("xfce", ""))
    other = Ending("ws02", DesktopState.STOPPED, "nobody used it", 6.0, "def")
    for ending in (failed, other):
        await store.conclude(ending)
    await store.conclude(other)
    assert sorted(await store.endings(), key=lambda ending: ending.account) == [failed, other]
    assert await store.load() == []
    await store.put(ENTRY)
    assert await store.endings() == [other]
    await store.forget(["ws02", "ws03"])
    assert await store.endings() == []
    assert await store.load() == [ENTRY]


ENDED = Ending("ws01", DesktopState.FAILED, "no such image", 5.0, "abc")
HUGE = json.dumps({**asdict(ENDED), "since": 10**400}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"account": "ws09"}',
        b"\xff",
        b"[" * 60000,
        json.dumps({**asdict(ENDED), "chosen": "xfce"}).encode(),
        HUGE,
        HUGE.replace(b"1" + b"0" * 400, b"Infinity"),
        json.dumps(asdict(ENDED)).encode() + b" " * LARGEST,
        json.dumps({**asdict(ENDED), "account": "ws02"}).encode(),
    ],
)
async def test_a_damaged_ending_is_told_and_left_alone(store, text, caplog):
    await store.load()
    await store.conclude(ENDED)
    file = store.folder / "ws01.ended"
    file.write_bytes(text)
    assert (await store.endings(), await store.load()) == ([], [])
    assert file.read_bytes() == text
    assert caplog.text.count("left alone") == 1
