"""The nursery: forks workers, tells what became of them, and keeps nothing that is not its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vncgate.nursery import Nursery

PATIENCE = 10.0


class Watched:
    """A nursery and what it told."""

    def __init__(self, kept):
        self.nursery = kept
        self.fates = asyncio.Queue()
        self.gone = asyncio.Event()
        kept.listen(lambda pid, words: self.fates.put_nowait((pid, words)), self.gone.set)


@pytest.fixture
async def watched():
    kept = Watched(await Nursery.execute())
    yield kept
    kept.nursery.close()


async def pid_of(end):
    """The process number of a worker, from its first message: the channel's other end has no credentials of it."""
    end.setblocking(False)
    async with asyncio.timeout(PATIENCE):
        line = await asyncio.get_running_loop().sock_recv(end, 65536)
    return json.loads(line)["pid"]


async def until(condition, seconds=PATIENCE):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def status(pid, key):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return line.split(":", 1)[1].strip()
    raise LookupError(key)


def is_alive(pid):
    try:
        return not status(pid, "State").startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors(pid):
    return sorted(str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if int(each.name) > 2)


async def test_a_workers_fate_is_told_in_words(watched):
    with watched.nursery.start() as end:
        pid = await pid_of(end)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            assert await watched.fates.get() == (pid, "was killed by SIGKILL")
    with watched.nursery.start() as end:
        pid = await pid_of(end)
    async with asyncio.timeout(PATIENCE):  # the other end of its channel is closed: nothing is left to be done
        assert await watched.fates.get() == (pid, "ended with exit status 0")


async def test_names_and_descriptors_are_its_own_alone(watched):
    leak = socket.create_server(("127.0.0.1", 0))
    leak.set_inheritable(True)
    with leak, watched.nursery.start() as end:
        pid = await pid_of(end)
        parent = int(status(pid, "PPid"))
        assert Path(f"/proc/{pid}/comm").read_text() == "vncgate-worker\n"
        assert Path(f"/proc/{parent}/comm").read_text() == "vncgate-nursery\n"
        assert [name.partition(":")[0] for name in descriptors(parent)] == ["socket"]
        kinds = [name for name in descriptors(pid) if not name.startswith(("anon_inode:", "pipe:", "/dev/null"))]
        assert f"socket:[{os.fstat(leak.fileno()).st_ino}]" not in kinds
        assert descriptors(parent)[0] not in kinds, "a worker that held the nursery's end would hide its death"
        signals = [name for name in kinds if name.startswith("socket:")]
        assert len(signals) <= 3, kinds  # the channel, and the pair by which a loop hears of signals


async def test_it_ends_with_its_last_worker_when_nobody_needs_it_any_more(watched):
    with watched.nursery.start() as end:
        pid = await pid_of(end)
        parent = int(status(pid, "PPid"))
        watched.nursery.close()
        await asyncio.sleep(0)
        assert is_alive(parent)
    await until(lambda: not is_alive(pid) and not is_alive(parent))


async def test_its_death_is_told_and_costs_no_worker(watched):
    with watched.nursery.start() as end:
        pid = await pid_of(end)
        os.kill(int(status(pid, "PPid")), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            await watched.gone.wait()
        assert is_alive(pid)
        with pytest.raises(OSError):
            watched.nursery.start()
    await until(lambda: not is_alive(pid))


async def test_executed_it_imports_nothing_from_where_the_daemon_happens_to_be(tmp_path, monkeypatch):
    for name in ("socket", "vncgate", "uvloop"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('from the working directory')")
    monkeypatch.chdir(tmp_path)
    kept = await Nursery.execute()
    with kept.start() as end:
        assert await pid_of(end)
    kept.close()


async def test_a_nursery_that_cannot_be_started_leaves_nothing(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(FileNotFoundError):
        await Nursery.execute()


SCRIPT = """
import json, os, resource, signal, socket, sys
from vncgate.nursery import Nursery

def send(end, **body):
    end.send(json.dumps(body).encode())

"""


def run_script(body):
    """What a script says that has no loop and no thread, and so may fork."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(body)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_forked_it_shares_what_was_imported_and_none_of_the_descriptors():
    said, errors = run_script(
        """
        leak = open("/etc/hostname")
        shared = {"seen": "before the fork"}

        def work(end):
            names = []
            for number in os.listdir("/proc/self/fd"):
                if int(number) > 2 and os.path.exists(f"/proc/self/fd/{number}"):  # and not the listing's own
                    names.append(os.readlink(f"/proc/self/fd/{number}"))
            send(
                end,
                shared=shared["seen"],
                names=names,
                inode=os.fstat(end.fileno()).st_ino,
                ignored=signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
                session=os.getsid(0) == os.getppid(),
                ours=os.getppid() == DAEMON,
            )

        DAEMON = os.getpid()
        nursery = Nursery.fork(work)
        end = nursery.start()
        body = json.loads(end.recv(65536))
        assert body["shared"] == "before the fork"
        assert body["ignored"] and body["session"] and not body["ours"]
        assert body["names"] == [f"socket:[{body['inode']}]"], body
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no child of ours")
        """
    )
    assert said == ["no child of ours"]
    assert not errors


def test_a_worker_that_fails_says_why_and_ends_with_status_1():
    said, errors = run_script(
        """
        def work(end):
            raise RuntimeError("worn out")

        nursery = Nursery.fork(work)
        nursery.start()
        print(json.loads(nursery._sock.recv(65536))["status"])
        """
    )
    assert said == ["1"]
    assert "RuntimeError: worn out" in errors


def test_where_no_process_can_be_forked_it_says_so_and_goes_on():
    said, errors = run_script(
        """
        real, calls = os.fork, []

        def fork():  # the first is the nursery's own, the second that of its first worker
            calls.append(0)
            if len(calls) == 3:
                raise BlockingIOError(11, os.strerror(11))
            return real()

        os.fork = fork

        def work(end):
            send(end, it="works")

        nursery = Nursery.fork(work)
        print(nursery.start().recv(100))
        print(nursery.start().recv(100))
        """
    )
    assert said == ["b''", """b'{"it": "works"}'"""]
    assert "cannot be forked: Resource temporarily unavailable" in errors


def test_out_of_descriptors_it_goes_on():
    """The end of the channel is lost on its way, and so closed."""
    said, _ = run_script(
        """
        def work(end):
            send(end, pid=os.getppid())

        nursery = Nursery.fork(work)
        pid = json.loads(nursery.start().recv(100))["pid"]
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))  # it has closed that one
        print(nursery.start().recv(100))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        print(json.loads(nursery.start().recv(100))["pid"] == pid)
        """
    )
    assert said == ["b''", "True"]


def test_a_daemon_that_dies_without_reading_is_no_trouble_to_it():
    said, errors = run_script(
        """
        import select

        nursery = Nursery.fork(lambda end: None)
        nursery.start()
        select.select([nursery._sock], [], [], 10)  # the fate of the worker, which nobody reads
        """
    )
    assert not said
    assert not errors
