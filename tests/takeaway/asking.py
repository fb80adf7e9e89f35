"""The agent as a process, given its order as the gate gives it.

with Asking(root, do="pack", ...) as asking:
    asking.answer, asking.rest()
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

from vncgate.takeaway.agents import BEGUN, LOADER, program


class Asking:
    """One agent. It is read only as far as is asked for, so that it waits where its pipe is full."""

    def __init__(self, root, *, under=(), **order):
        order = {"root": str(root), "quota": 0, "tag": "", "start": None, "stop": None, **order}
        argv = [*under, os.path.realpath(sys.executable), "-I", "-S", "-c", LOADER]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.process.stdin.write(program() + json.dumps(order).encode() + b"\n")
        self.out = io.BufferedReader(self.process.stdout, 1)

    def send(self, data=b""):
        """What an upload brings; then its input ends."""
        self.process.stdin.write(data)
        self.process.stdin.close()
        return self

    def hear(self):
        assert self.out.readline() == BEGUN
        self.answer = json.loads(self.out.readline())
        return self.answer

    def rest(self):
        data = self.out.read()
        self.status, self.usage = self.process.wait(), None
        return data

    def __enter__(self):
        self.hear()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.out.close()


def ask(root, **order):
    """The answer to an order that has nothing behind it."""
    with Asking(root, **order) as asking:
        asking.rest()
        return asking.answer


def pack(root, form="tar", paths=(), **more):
    """An archive's bytes."""
    with Asking(root, do="pack", paths=list(paths), name="ws01", format=form, **more) as asking:
        assert asking.answer == {}
        data = asking.rest()
        assert asking.status == 0
        return data


def untar(data):
    return tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape")


def contents(data, form):
    """What is in an archive: the bytes of files, None for folders, by name; and what its list says is missing."""
    if form == "tar":
        with untar(data) as tar:
            names = {
                each.name: tar.extractfile(each).read() if each.isreg() else None for each in tar if not each.issym()
            }
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            names = {
                each.filename.rstrip("/"): None if each.is_dir() else archive.read(each) for each in archive.infolist()
            }
    missing = (names.pop("ws01 - not packed.txt", None) or b"").decode()
    assert all(name == "ws01" or name.startswith("ws01/") for name in names)
    return {name.removeprefix("ws01").removeprefix("/"): data for name, data in names.items()}, missing
