"""Archives: what is in a folder is in them, and nothing else; what is not is told of."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import resource
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import zipfile
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.takeaway.asking import Asking, ask, contents, pack, untar
from vncgate.takeaway.agents import MODULES

BOTH = pytest.mark.parametrize("form", ["tar", "zip"])
LARGE = 8 << 20
"""Bytes of a file in the middle of which an agent waits for its reader."""

names = st.text(
    st.characters(exclude_characters="/\0\\", exclude_categories=["C", "Z"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
trees = st.recursive(
    st.binary(max_size=300), lambda below: st.dictionaries(names, below, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


def make(folder, tree):
    """Have files (bytes) and folders (dicts) be there; returns what there is by path."""
    made = {}
    for name, what in tree.items():
        path = folder / name
        if isinstance(what, dict):
            path.mkdir()
            made |= {name: None, **{f"{name}/{below}": data for below, data in make(path, what).items()}}
        else:
            path.write_bytes(what)
            made[name] = what
    return made


@BOTH
@given(tree=trees)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out(form, tree):
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder), tree)
        found, missing = contents(pack(folder, form), form)
        assert found == {"": None, **made}
        assert missing == ""


@BOTH
def test_what_is_chosen_is_packed_once(tmp_path, form):
    make(tmp_path, {"a": {"b": {"c": b"1"}, "d": b"2"}, "e": b"3", "f g": b"4"})
    found, missing = contents(pack(tmp_path, form, ["a/b", "a/b/c", "a/d", "f%20g", "gone"]), form)
    assert found == {"a/b": None, "a/b/c": b"1", "a/d": b"2", "f g": b"4"}
    assert missing.endswith("\n\ngone: it was removed while the folder was read\n")


@BOTH
@pytest.mark.parametrize("path", ["..", "a/../..", "%2e%2e", "a/%2E%2E/x", "a%00b", ".", ".vncgate-uploads/x"])
def test_no_path_leads_out(tmp_path, form, path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "x").write_text("outside")
    assert ask(tmp_path / "root", do="pack", paths=[path], name="ws01", format=form) == {
        "error": "missing",
        "about": path,
    }


def test_a_path_through_a_link_is_none(tmp_path):
    (tmp_path / "root").mkdir()
    make(tmp_path, {"outside": {"secret": b"secret"}})
    (tmp_path / "root" / "way").symlink_to(tmp_path / "outside")
    found, missing = contents(pack(tmp_path / "root", "tar", ["way/secret"]), "tar")
    assert found == {}
    assert "way/secret: Not a directory" in missing or "way/secret: Too many levels" in missing
    for order in ({"do": "read", "path": "way/secret"}, {"do": "list", "path": "way"}):
        assert ask(tmp_path / "root", **order)["error"] == "missing"
    order = {"do": "create", "path": "way", "name": "x", "clash": "ask", "size": 1}
    assert ask(tmp_path / "root", **order)["error"] == "missing"


@BOTH
def test_links_lead_nowhere_outside(tmp_path, form):
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    make(tmp_path, {"root": {"file": b"here"}})
    (root / "out").symlink_to("../secret")
    (root / "abs").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    (root / "self").symlink_to(".")
    data = pack(root, form)
    found, missing = contents(data, form)
    assert found == {"": None, "file": b"here"}
    assert b"secret" not in data.replace(b"../secret", b"")
    if form == "tar":
        with untar(data) as tar:
            links = {each.name: each.linkname for each in tar if each.issym()}
        assert links == {"ws01/out": "../secret", "ws01/abs": str(tmp_path), "ws01/loop": "loop", "ws01/self": "."}
        assert missing == ""
    else:
        assert "out: a zip archive has no links; this one leads to ../secret\n" in missing


@BOTH
def test_what_is_no_file_is_told_of(tmp_path, form):
    make(tmp_path, {"file": b"here"})
    os.mkfifo(tmp_path / "fifo")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    listening.close()
    with contextlib.suppress(PermissionError):
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    found, missing = contents(pack(tmp_path, form), form)
    assert found == {"": None, "file": b"here"}
    assert "fifo: it is a pipe\n" in missing
    assert "socket: it is a socket\n" in missing
    assert ("device: it is a device\n" in missing) == (tmp_path / "device").exists()


@BOTH
def test_names_that_are_no_text(tmp_path, form):
    for name in (b"caf\xe9", b"new\nline", b"back\\slash", "März".encode()):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(name)
    found, missing = contents(pack(tmp_path, form), form)
    assert sorted(filter(None, found.values())) == sorted([b"caf\xe9", b"new\nline", b"back\\slash", "März".encode()])
    wanted = ["caf\udce9", "new\nline", "back\\slash"] if form == "tar" else ["caf%E9", "new%0Aline", "back%5Cslash"]
    assert found.keys() == {"", "März", *wanted}
    assert missing == ""


def test_names_that_become_the_same_in_a_zip_stay_two(tmp_path):
    make(tmp_path, {"a%5Cb": b"1", "a\\b": b"2"})
    found, _ = contents(pack(tmp_path, "zip"), "zip")
    assert found == {"": None, "a%5Cb": b"1", "a%5Cb (2)": b"2"}


@BOTH
@pytest.mark.skipif(os.geteuid() != 0, reason="reads as another user than the owner, which only root can become")
def test_what_may_not_be_read_is_told_of(tmp_path, form):
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        make(root, {"open": b"here", "shut": b"secret", "room": {"in": b"secret"}})
        root.chmod(0o755)
        (root / "shut").chmod(0o600)
        (root / "room").chmod(0o700)
        data = pack(root, form, under=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    finally:
        shutil.rmtree(root)
    found, missing = contents(data, form)
    assert found == {"": None, "open": b"here"}
    assert "shut: it may not be read\n" in missing
    assert "room: it may not be read\n" in missing
    assert b"secret" not in data


@pytest.fixture
def waiting(tmp_path):
    """A function that begins an archive and has it wait in the middle of the first file, root/a."""

    @contextlib.contextmanager
    def begun(form):
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        (root / "a").write_bytes(b"a" * LARGE)
        with Asking(root, do="pack", paths=[], name="ws01", format=form) as asking:
            before = asking.out.read(100000)
            yield root, lambda: contents(before + asking.rest(), form)

    return begun


@BOTH
def test_a_file_that_shrinks_keeps_its_size(waiting, form):
    with waiting(form) as (root, rest):
        os.truncate(root / "a", 100)
        found, missing = rest()
    assert len(found["a"]) == LARGE
    got = len(found["a"].rstrip(b"\0"))
    assert 100 <= got < LARGE
    assert missing.startswith("What is not in this archive, or not as it was:\n\na: only ")


@BOTH
def test_a_file_that_grows_keeps_its_size(waiting, form):
    with waiting(form) as (root, rest):
        with (root / "a").open("ab") as file:
            file.write(b"more")
        found, missing = rest()
    assert found["a"] == b"a" * LARGE
    assert missing.endswith(f"\na: it grew while it was read; its first {LARGE} bytes are here\n")


@BOTH
def test_a_file_that_is_written_to_is_told_of(waiting, form):
    with waiting(form) as (root, rest):
        with (root / "a").open("r+b") as file:
            file.write(b"x")
        _, missing = rest()
    assert missing.endswith("\na: it was written to while it was read\n")


@BOTH
def test_what_vanishes_is_told_of(tmp_path, waiting, form):
    make(tmp_path, {"root": {"b": b"b", "c": {"d": b"d"}}})
    with waiting(form) as (root, rest):
        (root / "b").unlink()
        shutil.rmtree(root / "c")
        found, missing = rest()
    assert found.keys() == {"", "a"}
    assert "b: it was removed while the folder was read\n" in missing
    assert "c: it was removed while the folder was read\n" in missing


@BOTH
def test_a_folder_that_becomes_a_link_leads_nowhere(tmp_path, waiting, form):
    make(tmp_path, {"root": {"c": {"d": b"inside"}}, "outside": {"d": b"secret"}})
    with waiting(form) as (root, rest):
        (root / "c").rename(tmp_path / "away")
        (root / "c").symlink_to(tmp_path / "outside")
        found, _ = rest()
    assert found.keys() == {"", "a"}


@BOTH
def test_a_folder_that_is_moved_out_takes_nobody_along(tmp_path, form):
    """The agent waits in a folder that is moved away: above it is another folder, now, which is not the account's."""
    make(tmp_path, {"root": {"c": {"a": b"a" * LARGE, "z": b"z"}, "d": b"d"}, "outside": {"d": b"secret"}})
    root = tmp_path / "root"
    with Asking(root, do="pack", paths=[], name="ws01", format=form) as asking:
        before = asking.out.read(100000)
        (root / "c").rename(tmp_path / "outside" / "c")
        found, missing = contents(before + asking.rest(), form)
    assert found == {"": None, "c": None, "c/a": b"a" * LARGE, "c/z": b"z", "d": b"d"}
    assert missing == ""


def test_a_folder_above_that_is_moved_out_takes_nobody_along(tmp_path):
    tree = {"b": {"c": {"a": b"a" * LARGE}, "d": b"d"}, "e": b"e"}
    make(tmp_path, {"root": tree, "outside": {"d": b"secret"}})
    root = tmp_path / "root"
    with Asking(root, do="pack", paths=[], name="ws01", format="tar") as asking:
        before = asking.out.read(100000)
        (root / "b" / "c").rename(tmp_path / "outside" / "c")
        (root / "b").rename(tmp_path / "outside" / "b")
        found, missing = contents(before + asking.rest(), "tar")
    assert found == {"": None, "b": None, "b/c": None, "b/c/a": b"a" * LARGE, "e": b"e"}
    assert missing.endswith("\nb/: it was moved while it was read; 1 of its entries are missing\n")


def test_folders_and_links_that_change_places_all_the_time(tmp_path):
    make(tmp_path, {"root": {f"d{number}": {"x": b"inside"} for number in range(30)}, "outside": {"x": b"secret"}})
    root, end = tmp_path / "root", threading.Event()

    def swap():
        while not end.is_set():
            for number in range(30):
                (root / f"d{number}").rename(tmp_path / "held")
                (root / f"d{number}").symlink_to(tmp_path / "outside")
                (root / f"d{number}").unlink()
                (tmp_path / "held").rename(root / f"d{number}")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(10):
            assert b"secret" not in pack(root, "tar")
    finally:
        end.set()
        swapping.join()


def test_any_depth(tmp_path):
    """Deeper than any path can be long, and than most processes may have files open."""
    fd = os.open(tmp_path, os.O_RDONLY)
    depth, name = 2000, "deep"
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    try:
        with untar(pack(tmp_path)) as tar:
            assert len(tar.getmembers()) == depth + 2
            assert tar.getmembers()[-1].name == f"ws01/{f'{name}/' * depth}end"
    finally:
        subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


@pytest.mark.timeout(600)
def test_a_hundred_thousand_small_files(tmp_path):
    count = 100_000
    for folder in range(100):
        (tmp_path / f"f{folder}").mkdir()
        fd = os.open(tmp_path / f"f{folder}", os.O_RDONLY)
        for number in range(count // 100):
            os.close(os.open(f"n{number}", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.close(fd)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    data = pack(tmp_path, "zip")
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == count + 100 + 1
    assert most < max(before + 1, 250_000), f"{most} KiB"
    shutil.rmtree(tmp_path)


def test_twenty_gigabytes_of_holes_stay_holes_in_a_tar(tmp_path):
    size, hole = 20 << 30, 7 << 30
    with (tmp_path / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(hole)
        file.write(b"middle")
        file.truncate(size)
    data = pack(tmp_path)
    assert len(data) < 100_000
    with untar(data) as tar:
        member = tar.getmember("ws01/sparse")
        assert member.size == size
        file = tar.extractfile(member)
        for offset, wanted in ((0, b"begin\0"), (hole - 1, b"\0middle\0"), (size - 3, b"\0\0\0")):
            file.seek(offset)
            assert file.read(len(wanted)) == wanted
    (tmp_path / "x.tar").write_bytes(data)
    subprocess.run(["tar", "xf", "x.tar", "--transform", "s/ws01/out/"], cwd=tmp_path, check=True)
    out = (tmp_path / "out" / "sparse").stat()
    assert (out.st_size, out.st_blocks < 1000) == (size, True)


@pytest.mark.timeout(600)
def test_large_files_with_holes_are_small_in_a_zip(tmp_path):
    size = 5 << 30
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(size - 3)
        file.write(b"end")
    with Asking(tmp_path, do="pack", paths=[], name="ws01", format="zip") as asking:
        data = asking.rest()
    assert len(data) < size // 100
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.getinfo("ws01/sparse").file_size == size
        with archive.open("ws01/sparse") as file:
            assert file.read(10) == bytes(10)


def test_the_list_of_what_is_missing_has_an_end(tmp_path):
    for number in range(10_050):
        (tmp_path / f"{number:05}").symlink_to("x")
    _, missing = contents(pack(tmp_path, "zip"), "zip")
    assert missing.count("\n") == 10_003
    assert missing.endswith("\nand 50 more\n")


def test_modes_and_times_are_kept_but_not_what_makes_others_of_us(tmp_path):
    (tmp_path / "run").write_text("x")
    (tmp_path / "run").chmod(0o4755)
    os.utime(tmp_path / "run", (1_000_000_000, 1_000_000_000))
    with untar(pack(tmp_path)) as tar:
        member = tar.getmember("ws01/run")
    assert (member.mode, member.mtime, member.uname) == (0o755, 1_000_000_000, "")


def test_the_agent_is_of_an_old_grammar():
    for name in MODULES:
        text = resources.files("vncgate.takeaway.agent").joinpath(f"{name}.py").read_text()
        ast.parse(text, feature_version=(3, 6))
