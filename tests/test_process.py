import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate import process
from vncgate.process import LONGEST_LINE, Lines, Result, describe_exit, spawn
from vncgate.process import run as run_to_its_end

PATIENCE = 10.0


class Log(list):
    """The lines of a child's output; waits for one."""

    def __init__(self):
        self.written = asyncio.Event()

    def __call__(self, line):
        self.append(line)
        self.written.set()

    async def until(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self) < count:
                self.written.clear()
                await self.written.wait()
        return self


@pytest.fixture
async def run():
    """Start a shell's script, and see to it that it is gone afterwards."""
    started = []

    async def start(script, **options):
        log = Log()
        started.append(await spawn(["sh", "-c", script], name="script", log=log, **options))
        return started[-1], log

    yield start
    for child in started:
        await child.stop(0)


async def ended(child):
    async with asyncio.timeout(PATIENCE):
        return await asyncio.shield(child.exited)


def is_alive(pid):
    """Whether it runs; a zombie does not (those whose parent died are init's to reap)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_gone(pid):
    async with asyncio.timeout(PATIENCE):
        while is_alive(pid):
            await asyncio.sleep(0.01)


async def test_runs_as_the_command_itself_and_is_reaped(run):
    child, log = await run("echo $$; cat /proc/$$/comm; exit 3")
    assert await ended(child) == 3
    assert log == [str(child.pid), "sh"]
    assert not Path(f"/proc/{child.pid}").exists()


async def test_output_is_read_to_the_end(run):
    child, log = await run("seq 20000; echo last >&2; printf unfinished")
    assert await ended(child) == 0
    assert log == [*map(str, range(1, 20001)), "last", "unfinished"]


async def test_inherits_no_descriptor_but_its_stdin(run):
    leaky = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            child, log = await run("ls -l /proc/$$/fd; readlink /proc/$$/fd/0", stdin=listener.fileno())
            await ended(child)
            assert len([line for line in log if "->" in line]) == 3
            assert log[-1] == f"socket:[{os.fstat(listener.fileno()).st_ino}]"
    finally:
        os.close(leaky)


async def test_stdin_is_empty_by_default(run):
    child, log = await run("cat; pwd; echo $ONE $TWO", env={"ONE": "1"}, cwd=Path("/usr"))
    await ended(child)
    assert log == ["/usr", "1"]


async def test_nobody_speaks_to_systemd_for_the_daemon(run, monkeypatch):
    ours = "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM", "LISTEN_PID", "LISTEN_FDS"
    for name in (*ours, "LISTEN_FDNAMES", "KEPT"):
        monkeypatch.setenv(name, "1")
    child, log = await run("env")
    await ended(child)
    found = await run_to_its_end(["env"], timeout=PATIENCE)
    for lines in (log, found.stdout.splitlines()):
        names = {line.partition("=")[0] for line in lines}
        assert "KEPT" in names
        assert not [name for name in names if name.startswith(("NOTIFY_", "WATCHDOG_", "JOURNAL_", "LISTEN_"))]


async def test_signals_have_their_default(run):
    # Not of a shell, which blocks them while it forks; and not 32 and 33, which are the C library's own (nptl(7)).
    child, log = await run("exec grep -E '^Sig(Ign|Blk)' /proc/self/status")
    await ended(child)
    assert [int(line.split()[1], 16) & 0x7FFFFFFF for line in log] == [0, 0]


async def test_killed_by_a_signal(run):
    child, _ = await run("kill -9 $$")
    assert await ended(child) == -signal.SIGKILL


async def test_stop_lets_it_finish(run):
    child, log = await run("trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done")
    await log.until(1)
    await child.stop(PATIENCE)
    assert (child.exited.result(), log[-1]) == (0, "bye")


async def test_stop_kills_what_does_not_listen(run):
    child, log = await run("trap '' TERM; echo on; while :; do sleep 0.05; done")
    await log.until(1)
    await child.stop(0.1)
    assert child.exited.result() == -signal.SIGKILL


async def test_stop_of_one_that_ended_is_nothing(run):
    child, _ = await run("exit 0")
    await ended(child)
    await child.stop(1)
    await child.stop(1)


async def test_cancelled_stop_kills(run):
    child, log = await run("trap '' TERM; echo on; while :; do sleep 0.05; done")
    await log.until(1)
    stopping = asyncio.create_task(child.stop(PATIENCE), name="stop")
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await ended(child) == -signal.SIGKILL


@pytest.mark.parametrize("how", ["stop", "exit", "crash"])
async def test_its_children_end_with_it(run, how):
    child, log = await run(
        "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & read _; sleep 100", stdin=-1
    )
    (grandchild,) = map(int, await log.until(1))
    assert is_alive(grandchild)
    if how == "stop":
        await child.stop(0.1)
    else:
        os.kill(child.pid, signal.SIGTERM if how == "exit" else signal.SIGKILL)
        await ended(child)
    await until_gone(grandchild)


async def test_one_who_left_its_session_does_not_hold_it(run, monkeypatch):
    monkeypatch.setattr(process, "DRAIN_TIMEOUT", 0.05)
    child, log = await run("setsid sh -c 'echo $$; exec sleep 100' & wait $!; exit 7")
    (escaped,) = map(int, await log.until(1))
    try:
        os.kill(child.pid, signal.SIGKILL)
        assert await ended(child) == -signal.SIGKILL
        assert is_alive(escaped)
    finally:
        os.kill(escaped, signal.SIGKILL)


async def test_no_such_command():
    with pytest.raises(FileNotFoundError, match="no-such-command: command not found"):
        await spawn(["no-such-command"], name="nothing", log=print)


async def test_command_that_cannot_be_executed(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    log = Log()
    child = await spawn([broken], name="broken", log=log)
    assert await ended(child) == 1
    assert log == [f"{broken}: No such file or directory"]


OWNER = """
import asyncio, sys, {loop}
from vncgate.process import spawn
async def main():
    child = await spawn(["sh", "-c", "echo $$; exec sleep 100"], name="sleep", log=lambda line: print(line, flush=True))
    await child.exited
{loop}.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_killed_owner_takes_it_along(loop):
    owner = subprocess.Popen([sys.executable, "-c", OWNER.format(loop=loop)], stdout=subprocess.PIPE, text=True)
    with owner:
        child = int(owner.stdout.readline())
        assert is_alive(child)
        owner.kill()
    deadline = time.monotonic() + PATIENCE
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_describe_exit():
    assert describe_exit(0) == "ended with exit status 0"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-63) == "was killed by signal 63"


def lines_of(*chunks):
    found = []
    lines = Lines(found.append)
    for chunk in chunks:
        lines.feed(chunk)
    lines.end()
    return found


@given(st.binary(), st.lists(st.integers(0, 100)))
def test_lines_are_the_same_however_they_come(data, cuts):
    cuts = sorted({min(cut, len(data)) for cut in cuts})
    assert lines_of(*(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))) == lines_of(data)


def test_lines_show_no_bytes_that_a_terminal_obeys():
    assert lines_of(b"a\x1b[31m\xff\tb\r\nc") == ["a\\x1b[31m\ufffd b", "c"]


@pytest.mark.parametrize("chunk", [1000, LONGEST_LINE, 10**9])
def test_overlong_lines_are_cut(chunk):
    data = b"x" * (3 * LONGEST_LINE) + b"\nnext\n" + b"y" * LONGEST_LINE + b"\n"
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    assert lines_of(*chunks) == ["x" * LONGEST_LINE + "…", "next", "y" * LONGEST_LINE]


@pytest.mark.parametrize("steps", range(4))
async def test_a_start_that_is_cancelled_leaves_no_child(steps):
    children = Path(f"/proc/self/task/{os.getpid()}/children")  # a server that a session's tests share is one
    before = children.read_text().split()
    starting = asyncio.ensure_future(spawn(["sleep", "60"], name="sleeper", log=print))
    for _ in range(steps):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children.read_text().split() == before


async def test_a_command_is_run_to_its_end():
    found = await run_to_its_end(
        ["sh", "-c", "cat; echo $A >&2; exit 3"], timeout=PATIENCE, stdin="ü\n", env={"A": "b"}
    )
    assert found == Result(3, "ü\n", "b\n")
    assert (await run_to_its_end(["sh", "-c", "kill -9 $$"], timeout=PATIENCE)).status == -9


async def test_names_of_files_that_are_no_utf8_come_as_they_are():
    found = await run_to_its_end(["od", "-An", "-tx1"], timeout=PATIENCE, stdin=os.fsdecode(b"\xff\xc3\xbc"))
    assert found.stdout.split() == ["ff", "c3", "bc"]


async def test_a_command_need_not_read_what_it_is_given():
    assert (await run_to_its_end(["true"], timeout=PATIENCE, stdin="x" * 1_000_000)).status == 0


async def test_a_command_that_takes_too_long_is_killed_with_all_it_started(tmp_path):
    with pytest.raises(TimeoutError):
        await run_to_its_end(["sh", "-c", "sleep 1000 & sleep 1000"], timeout=0.1)


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_command_leaves_no_child(steps):
    running = asyncio.ensure_future(run_to_its_end(["sleep", "1000"], timeout=PATIENCE))
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_command_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        await run_to_its_end(["/no/such/command"], timeout=PATIENCE)


async def test_a_command_that_leaves_something_running_is_not_waited_for_longer():
    done = await run_to_its_end(["sh", "-c", "setsid sleep 100 & echo $!"], timeout=20)
    os.kill(int(done.stdout), signal.SIGKILL)


@pytest.mark.parametrize("script", ["exec yes", "head -c 5000 /dev/zero >&2"])
async def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch, script):
    monkeypatch.setattr(process, "LONGEST_OUTPUT", 4096)
    monkeypatch.setattr(process, "MEASURE", 0.02)
    with pytest.raises(OSError, match="answers with more than 0 MiB"):
        await run_to_its_end(["sh", "-c", script], timeout=PATIENCE)
    assert (await run_to_its_end(["head", "-c", "4096", "/dev/zero"], timeout=PATIENCE)).stdout == "\0" * 4096
