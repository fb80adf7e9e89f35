import asyncio
import ctypes
import errno
import logging
import os
import queue
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watchdog.events import FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver

from vncgate import watch
from vncgate.settings import WatchMode
from vncgate.watch import Watcher, share_of, trace

PATIENCE = 10.0


class Reader:
    """Reads the file whenever it is told to, as the daemon does."""

    def __init__(self, path):
        self.path = path
        self.calls = 0
        self.content = content(path)
        self._called = asyncio.Event()

    def __call__(self):
        self.calls += 1
        self.content = content(self.path)
        self._called.set()

    async def until_called(self):
        async with asyncio.timeout(PATIENCE):
            await self._called.wait()
        self._called.clear()

    async def until_it_has_read(self, expected):
        while self.content != expected:
            await self.until_called()


def content(path):
    return path.read_text() if path.exists() else None


@pytest.fixture
async def watching():
    watchers = []

    async def start(path, mode=WatchMode.AUTO):
        reader = Reader(path)
        watchers.append(Watcher(path, reader, mode, poll_interval=0.05))
        await watchers[-1].start()
        return reader

    yield start
    for watcher in watchers:
        await watcher.stop()


# Ways of changing what is read at etc/tokens.


@pytest.fixture
def place(tmp_path):
    """etc -> site/..data -> 2026_1, with tokens -> conf/tokens in it: links in every place."""
    (tmp_path / "site" / "2026_1" / "conf").mkdir(parents=True)
    (tmp_path / "site" / "2026_1" / "conf" / "tokens").write_text("one\n")
    (tmp_path / "site" / "2026_1" / "tokens").symlink_to("conf/tokens")
    (tmp_path / "site" / "..data").symlink_to("2026_1")
    (tmp_path / "etc").symlink_to("site/..data")
    return tmp_path


def in_place(place):
    (place / "etc" / "tokens").write_text("two\n")


def same_length_in_place_with_the_old_time(place):
    path = place / "etc" / "tokens"
    times = path.stat()
    path.write_text("uno\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def appended(place):
    with (place / "etc" / "tokens").open("a") as file:
        file.write("two\n")


def renamed_over(place):
    (place / "site" / "2026_1" / "conf" / "new").write_text("two\n")
    (place / "site" / "2026_1" / "conf" / "new").replace(place / "site" / "2026_1" / "conf" / "tokens")


def moved_from_elsewhere(place):
    (place / "new").write_text("two\n")
    (place / "new").replace(place / "site" / "2026_1" / "conf" / "tokens")


def as_vim_saves(place):
    conf = place / "site" / "2026_1" / "conf"
    (conf / "tokens").rename(conf / "tokens~")
    (conf / "tokens").write_text("two\n")
    (conf / "tokens~").unlink()


def sed_in_place(place):
    subprocess.run(["sed", "-i", "s/one/two/", place / "site" / "2026_1" / "conf" / "tokens"], check=True)


def link_becomes_a_file(place):
    subprocess.run(["sed", "-i", "s/one/two/", place / "etc" / "tokens"], check=True)


def last_link_swapped(place):
    (place / "site" / "2026_1" / "other").write_text("two\n")
    (place / "site" / "2026_1" / "new").symlink_to("other")
    (place / "site" / "2026_1" / "new").replace(place / "site" / "2026_1" / "tokens")


def middle_link_swapped(place):
    (place / "site" / "2026_2").mkdir()
    (place / "site" / "2026_2" / "tokens").write_text("two\n")
    (place / "site" / "..data_tmp").symlink_to("2026_2")
    (place / "site" / "..data_tmp").replace(place / "site" / "..data")
    shutil.rmtree(place / "site" / "2026_1")


def first_link_swapped(place):
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "tokens").write_text("two\n")
    (place / "etc").unlink()
    (place / "etc").symlink_to(place / "elsewhere")


def directory_renamed(place):
    (place / "site").rename(place / "old")
    (place / "site" / "..data").mkdir(parents=True)
    (place / "site" / "..data" / "tokens").write_text("two\n")


def directory_exchanged_high_up(place):
    (place / "next" / "..data").mkdir(parents=True)
    (place / "next" / "..data" / "tokens").write_text("two\n")
    (place / "site").rename(place / "old")
    (place / "next").rename(place / "site")


def file_gone(place):
    (place / "site" / "2026_1" / "conf" / "tokens").unlink()


def file_back(place):
    (place / "site" / "2026_1" / "conf" / "tokens").write_text("two\n")


def directory_gone(place):
    shutil.rmtree(place / "site" / "2026_1")


def directory_back(place):
    (place / "site" / "2026_1").mkdir()
    (place / "site" / "2026_1" / "tokens").write_text("three\n")


def everything_gone(place):
    shutil.rmtree(place / "site")
    (place / "etc").unlink()


def everything_back(place):
    (place / "etc").mkdir()
    (place / "etc" / "tokens").write_text("four\n")


@pytest.mark.parametrize("mode", [WatchMode.INOTIFY, WatchMode.POLL])
@pytest.mark.parametrize(
    "steps",
    [
        [in_place, appended, in_place],
        [same_length_in_place_with_the_old_time],
        [renamed_over, appended],
        [moved_from_elsewhere, appended],
        [as_vim_saves, appended],
        [sed_in_place, appended],
        [link_becomes_a_file, appended],
        [last_link_swapped, appended],
        [middle_link_swapped, appended],
        [first_link_swapped, appended],
        [directory_renamed, appended],
        [directory_exchanged_high_up, appended],
        [file_gone, file_back, file_gone, file_back, appended],
        [directory_gone, directory_back, appended, directory_gone, directory_back, appended],
        [everything_gone, everything_back, appended],
    ],
    ids=lambda steps: steps[0].__name__,
)
async def test_every_way_of_changing_is_noticed(place, watching, mode, steps):
    path = place / "etc" / "tokens"
    reader = await watching(path, mode)
    for step in steps:
        before = content(path)
        step(place)
        after = content(path)
        assert after != before
        await reader.until_it_has_read(after)


@pytest.mark.parametrize("mode", [WatchMode.INOTIFY, WatchMode.POLL])
async def test_burst_is_one_change(place, watching, mode, monkeypatch):
    monkeypatch.setattr(watch, "QUIET", 0.5)  # a busy machine may stop the writing for a while
    path = place / "etc" / "tokens"
    reader = await watching(path, mode)
    for number in range(50):
        path.write_text(f"{number}\n")
    await reader.until_it_has_read("49\n")
    assert reader.calls == 1


async def test_burst_without_an_end_is_reported_all_the_same(place, watching):
    path = place / "etc" / "tokens"
    reader = await watching(path)

    async def scribble():
        for number in range(10000):
            path.write_text(f"{number}\n")
            await asyncio.sleep(0.02)

    scribbling = asyncio.create_task(scribble(), name="scribble")
    await reader.until_called()
    scribbling.cancel()


async def test_neighbours_are_no_change(place, watching, monkeypatch):
    monkeypatch.setattr(watch, "QUIET", 0.5)
    path = place / "etc" / "tokens"
    reader = await watching(path, WatchMode.INOTIFY)
    (place / "site" / "2026_1" / "conf" / "neighbour").write_text("x")
    (place / "neighbour").mkdir()
    path.write_text("two\n")
    await reader.until_it_has_read("two\n")
    assert reader.calls == 1


def test_reading_is_no_change(tmp_path):
    """Or the daemon's own reading would make it read again, for ever."""
    events = queue.SimpleQueue()
    handler = FileSystemEventHandler()
    handler.on_any_event = events.put
    (tmp_path / "tokens").write_text("one\n")
    with InotifyObserver() as observer:
        watch._schedule(observer, handler, tmp_path)
        (tmp_path / "tokens").read_text()
        (tmp_path / "a file after it").touch()
        assert events.get(timeout=PATIENCE).src_path == str(tmp_path / "a file after it")


async def test_called_in_the_loops_thread_and_not_after_stop(place):
    path = place / "etc" / "tokens"
    loop = asyncio.get_running_loop()
    called = []
    watcher = Watcher(path, lambda: called.append(asyncio.get_running_loop()), WatchMode.POLL, poll_interval=0.01)
    await watcher.start()
    path.write_text("two\n")
    async with asyncio.timeout(PATIENCE):
        while not called:
            await asyncio.sleep(0.01)
    await watcher.stop()
    assert called == [loop]
    path.write_text("three\n")
    assert called == [loop]


@pytest.mark.parametrize("where", ["inotify_init", "inotify_add_watch"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
async def test_without_inotify_it_polls_and_says_so(place, watching, monkeypatch, caplog, where, number):
    def refuse(*args):
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(f"watchdog.observers.inotify_c.{where}", refuse)
    path = place / "etc" / "tokens"
    reader = await watching(path)
    for text in ("two\n", "three\n"):
        path.write_text(text)
        await reader.until_it_has_read(text)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "limit reached" in warnings[0]
    assert str(path) in warnings[0]


async def test_without_descriptors_it_polls_and_says_so(place, watching, monkeypatch, caplog):
    def refuse(directories):
        raise OSError(errno.EMFILE, "Too many open files", "/proc/self/mountinfo")

    path = place / "etc" / "tokens"
    reader = await watching(path)
    monkeypatch.setattr(watch, "_share", refuse)
    for text in ("two\n", "three\n", "four\n"):
        path.write_text(text)
        await reader.until_it_has_read(text)
    (record,) = caplog.records
    assert "Too many open files: '/proc/self/mountinfo'" in record.getMessage()


async def test_a_file_that_it_has_no_descriptor_for_has_not_changed(place, watching, monkeypatch):
    path = place / "etc" / "tokens"
    reader = await watching(path, WatchMode.POLL)
    real, looked = os.open, asyncio.Event()
    loop = asyncio.get_running_loop()

    def refuse(name, *args, **kwargs):
        if name == path:
            loop.call_soon_threadsafe(looked.set)
            raise OSError(errno.EMFILE, "Too many open files")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    for _ in range(3):
        looked.clear()
        await looked.wait()
    assert reader.calls == 0
    monkeypatch.setattr(os, "open", real)
    await reader.until_called()  # whoever could not read it either may try again


async def test_whatever_fails_it_is_said_once_and_changes_are_noticed(place, watching, monkeypatch, caplog):
    real, fails = Watcher._settle, [True, True, True, False]

    def settle(self):
        if fails.pop(0):
            raise ZeroDivisionError("a defect")
        real(self)

    monkeypatch.setattr(Watcher, "_settle", settle)
    path = place / "etc" / "tokens"
    reader = await watching(path, WatchMode.POLL)
    path.write_text("two\n")
    await reader.until_it_has_read("two\n")
    (record,) = caplog.records
    assert record.getMessage() == f"looking at {path} every 0.05 seconds: ZeroDivisionError: a defect"


async def test_an_interval_beyond_what_a_thread_can_wait(place):
    watcher = Watcher(place / "etc" / "tokens", lambda: None, WatchMode.POLL, poll_interval=1e300)
    await watcher.start()
    await watcher.stop()
    assert watcher._ended.is_set()


async def test_directory_that_may_not_be_read_is_polled(place, watching, monkeypatch, caplog):
    monkeypatch.setattr("os.access", lambda path, *args, **kwargs: path != place)
    path = place / "etc" / "tokens"
    reader = await watching(path)
    path.write_text("two\n")
    await reader.until_it_has_read("two\n")
    assert f"{place} may not be read" in caplog.text


@pytest.mark.parametrize(("mode", "polls"), [(WatchMode.AUTO, True), (WatchMode.INOTIFY, False)])
async def test_share_anywhere_on_the_way_is_polled(place, watching, monkeypatch, caplog, mode, polls):
    monkeypatch.setattr(watch, "share_of", lambda path, text: "nfs4" if path == str(place / "site") else None)
    caplog.set_level(logging.INFO)
    path = place / "etc" / "tokens"
    reader = await watching(path, mode)
    path.write_text("two\n")
    await reader.until_it_has_read("two\n")
    assert (f"{place}/site lies on a share (nfs4)" in caplog.text) is polls


def test_trace_names_every_step(place):
    steps = trace(place / "site" / ".." / "etc" / "tokens").steps[len(place.parts) - 1 :]
    data = "site/2026_1"
    names = ["site", "etc", "site", "site/..data", data, f"{data}/tokens", f"{data}/conf", f"{data}/conf/tokens"]
    assert steps == tuple(str(place / name) for name in names)


def test_a_file_larger_than_any_token_file_is_not_read(tmp_path):
    """Whoever mistakes a disk image for it would keep the watcher reading for minutes."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 1 << 40)
    before = trace(image)
    assert before == trace(image)
    os.truncate(image, 1 << 41)
    assert before != trace(image)


def test_trace_ends_with_what_cannot_be_read(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert trace(tmp_path / "loop").content == str(errno.ELOOP)
    assert trace(tmp_path / "missing" / "file").content == str(errno.ENOENT)
    assert trace(tmp_path).content == "no regular file"
    os.mkfifo(tmp_path / "fifo")
    assert trace(tmp_path / "fifo").content == "no regular file"


MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
40 27 0:40 / /home rw,relatime - nfs4 server:/home rw,vers=4.2
41 40 8:1 / /home/local rw,relatime - xfs /dev/sda1 rw
42 27 0:42 / /mnt/with\040blank\134x rw,relatime - lustre server:/x rw
43 27 0:43 / /mnt/sshfs rw,relatime - fuse.sshfs me@host: rw
44 27 0:44 / /mnt/hyphen-name rw,relatime - cifs //server/a\040-\040b rw
45 27 0:45 / /mnt/covered rw,relatime - nfs server:/y rw
46 45 0:46 / /mnt/covered rw,relatime - tmpfs tmpfs rw
47 27 0:47 / /mnt/gpfs rw,relatime - gpfs fs1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", None),
        ("/etc/vncgate", None),
        ("/home", "nfs4"),
        ("/home/ada/tokens", "nfs4"),
        ("/homeless", None),
        ("/home/local/x", None),
        ("/home/localhost", "nfs4"),
        ("/mnt/with blank\\x/tokens", "lustre"),
        ("/mnt/sshfs/a", "fuse.sshfs"),
        ("/mnt/hyphen-name/a", "cifs"),
        ("/mnt/covered/a", None),
        ("/mnt/gpfs", "gpfs"),
    ],
)
def test_share_of(path, kind):
    assert share_of(path, MOUNTINFO) == kind


@pytest.mark.parametrize("kind", [*sorted(watch.SHARES), "fuse", "fuse.glusterfs"])
def test_root_on_a_share(kind):
    assert share_of("/etc/x", f"27 1 0:1 / / rw - {kind} server:/ rw") == kind


@given(st.text(), st.text())
def test_share_of_never_fails(path, text):
    share_of(path, text)


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1))
def test_any_name_of_a_mount_point_is_understood(name):
    written = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in name)
    assert share_of(f"/{name}/tokens", f"27 1 0:1 / /{written} rw - nfs server:/ rw\n") == "nfs"
