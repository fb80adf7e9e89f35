"""The publisher: what it writes, tests, takes back and reloads, on a clock that the test turns."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import stat
import threading

import pytest

from vncgate import publish
from vncgate.errors import PublishError
from vncgate.model import Account, Desktop, Outcomes, Roster, Secret
from vncgate.publish import ApachePublisher
from vncgate.render.apache import render
from vncgate.settings import Settings

PATIENCE = 10.0


def roster(*paths: str) -> Roster:
    accounts = (Account(path, Desktop("node01", 5901), path, None, Secret("canary77")) for path in paths)
    return Roster(tuple(accounts))


class Clock:
    """A clock that stands until it is turned; who sleeps on it waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleepers: list[tuple[float, asyncio.Future]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.sleepers.append((self.now + seconds, asyncio.get_running_loop().create_future()))
            await self.sleepers[-1][1]

    def turn(self, seconds: float) -> None:
        self.now += seconds
        for sleeper in [sleeper for sleeper in self.sleepers if sleeper[0] <= self.now]:
            self.sleepers.remove(sleeper)
            sleeper[1].set_result(None)


class Bench:
    """A publisher whose Apache is two shell commands that write down that they were called."""

    def __init__(self, folder, **values) -> None:
        self.folder = folder
        self.snippet = folder / "snippet.conf"
        self.calls_file = folder / "calls"
        self.calls_file.touch()
        self.clock = Clock()
        snippet = shlex.quote(str(self.snippet))
        # As Apache would: a snippet with the account `bad` is refused; so is any while the file `broken` is there.
        test = f"if grep -qs 'bad ' {snippet} || [ -e broken ]; then echo 'AH00526: Syntax error on line 3'; exit 1; fi"
        apache = {
            "snippet": self.snippet,
            "form": "guide",
            "configtest": self.command(f"echo test >> calls; {test}"),
            "reload": self.command("echo reload >> calls; if [ -e stuck ]; then echo 'it is stuck' >&2; exit 7; fi"),
        }
        self.settings = Settings(apache=apache | values)
        self.publisher = self.another()

    def command(self, script: str) -> tuple[str, ...]:
        return ("sh", "-c", f"cd {shlex.quote(str(self.folder))}; {script}")

    def another(self) -> ApachePublisher:
        return ApachePublisher(self.settings, clock=self.clock, sleep=self.clock.sleep)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().split()

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def text(self, *paths: str) -> str:
        return render(roster(*paths), self.settings)

    async def until(self, condition) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def reloaded(self, times: int) -> None:
        """Wait for the `times`th reload to be done with."""
        await self.until(lambda: self.calls.count("reload") == times and not self.publisher._lock.locked())


@pytest.fixture
async def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    await bench.publisher.aclose()


async def test_a_change_is_written_tested_and_loaded(bench):
    await bench.publisher.publish(roster("ws01"))
    assert bench.snippet.read_text() == bench.text("ws01")
    assert stat.S_IMODE(bench.snippet.stat().st_mode) == 0o644
    await bench.reloaded(1)
    assert bench.calls[0] == "test"
    assert bench.calls[-2:] == ["test", "reload"]
    assert bench.publisher.last_error == ""
    assert bench.files == {"calls", "snippet.conf"}


async def test_nothing_changed_nothing_done(bench):
    bench.snippet.write_text(bench.text("ws01"))
    before = bench.snippet.stat()
    await bench.publisher.publish(roster("ws01"))
    assert bench.snippet.stat() == before
    assert bench.calls == []


async def test_the_old_mode_and_owner_stay(bench):
    bench.snippet.write_text("old\n")
    bench.snippet.chmod(0o640)
    if os.getuid() == 0:
        os.chown(bench.snippet, 12, 34)
    before = bench.snippet.stat()
    await bench.publisher.publish(roster("ws01"))
    after = bench.snippet.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert bench.snippet.read_text() == bench.text("ws01")


async def test_what_apache_refuses_is_taken_back(bench):
    await bench.publisher.publish(roster("ws01"))
    await bench.reloaded(1)
    with pytest.raises(PublishError, match="AH00526: Syntax error on line 3") as refused:
        await bench.publisher.publish(roster("ws01", "bad"))
    assert str(bench.snippet) in str(refused.value)
    assert bench.publisher.last_error == str(refused.value)
    assert bench.publisher.written == Outcomes(successes=1, failures=1, is_good=False)
    assert bench.snippet.read_text() == bench.text("ws01")
    bench.clock.turn(1000)
    await bench.publisher.publish(roster("ws01"))
    assert bench.publisher.last_error == ""
    assert bench.publisher.written == Outcomes(successes=2, failures=1, is_good=True)
    assert bench.calls.count("reload") == 1
    assert not list(bench.folder.glob("*.pending"))


async def test_a_first_file_that_apache_refuses_is_removed(bench):
    with pytest.raises(PublishError):
        await bench.publisher.publish(roster("bad"))
    assert bench.files == {"calls"}


async def test_one_reload_a_minute_and_the_last_change_wins(bench):
    await bench.publisher.publish(roster("ws01"))
    await bench.reloaded(1)
    bench.clock.turn(10)
    await bench.publisher.publish(roster("ws02"))
    await bench.until(lambda: bench.clock.sleepers)
    bench.clock.turn(20)
    await bench.publisher.publish(roster("ws03"))
    assert bench.snippet.read_text() == bench.text("ws03")
    assert [due for due, _ in bench.clock.sleepers] == [1060.0]
    bench.clock.turn(29.9)
    await asyncio.sleep(0)
    assert bench.calls.count("reload") == 1
    bench.clock.turn(0.1)
    await bench.reloaded(2)
    assert not bench.clock.sleepers
    bench.clock.turn(1000)
    await bench.publisher.publish(roster("ws03"))
    assert bench.calls.count("reload") == 2


async def test_a_refused_change_does_not_cost_the_one_that_waits_its_reload(bench):
    await bench.publisher.publish(roster("ws01"))
    await bench.reloaded(1)
    await bench.publisher.publish(roster("ws02"))
    await bench.until(lambda: bench.clock.sleepers)
    with pytest.raises(PublishError):
        await bench.publisher.publish(roster("bad"))
    assert bench.snippet.read_text() == bench.text("ws02")
    assert (bench.folder / "snippet.conf.pending").exists()  # nor when the daemon ends now
    bench.clock.turn(60)
    await bench.reloaded(2)
    assert bench.files == {"calls", "snippet.conf"}


async def test_a_reload_under_way_never_meets_a_file_that_was_not_tested(tmp_path):
    reload = "echo reload >> calls; while [ ! -e go ]; do sleep 0.01; done; cat snippet.conf > loaded"
    bench = Bench(tmp_path)
    slow = bench.settings.apache.model_copy(update={"reload": bench.command(reload)})
    bench.settings = bench.settings.model_copy(update={"apache": slow})
    bench.publisher = bench.another()
    await bench.publisher.publish(roster("ws01"))
    await bench.until(lambda: "reload" in bench.calls)
    task = asyncio.create_task(bench.publisher.publish(roster("ws02")))
    await asyncio.sleep(0.1)  # time enough to write, were it let
    (tmp_path / "go").touch()
    await task
    assert (tmp_path / "loaded").read_text() == bench.text("ws01")
    await bench.publisher.aclose()


async def test_a_reload_that_fails_is_tried_again_and_told(bench):
    (bench.folder / "stuck").touch()
    await bench.publisher.publish(roster("ws01"))
    await bench.until(lambda: bench.clock.sleepers)
    assert "it is stuck" in bench.publisher.last_error
    assert "exit status 7" in bench.publisher.last_error
    assert bench.publisher.reloaded == Outcomes(failures=1, is_good=False)
    (bench.folder / "stuck").unlink()
    await bench.publisher.publish(roster("ws01"))
    assert "it is stuck" in bench.publisher.last_error
    bench.clock.turn(60)
    await bench.reloaded(2)
    assert bench.publisher.last_error == ""
    assert bench.publisher.reloaded == Outcomes(successes=1, failures=1, is_good=True)


async def test_no_reload_while_something_else_in_apaches_configuration_is_broken(bench):
    await bench.publisher.publish(roster("ws01"))
    await bench.reloaded(1)
    await bench.publisher.publish(roster("ws02"))
    (bench.folder / "broken").touch()
    await bench.until(lambda: bench.clock.sleepers)
    bench.clock.turn(60)
    await bench.until(lambda: bench.clock.sleepers and bench.publisher.last_error)
    assert bench.calls.count("reload") == 1
    assert "not reloaded" in bench.publisher.last_error
    (bench.folder / "broken").unlink()
    bench.clock.turn(60)
    await bench.reloaded(2)


async def test_a_reload_that_a_stop_cut_off_is_made_by_the_next_daemon(bench, caplog):
    await bench.publisher.publish(roster("ws01"))
    await bench.reloaded(1)
    await bench.publisher.publish(roster("ws02"))
    await bench.until(lambda: bench.clock.sleepers)
    await bench.publisher.aclose()
    assert "has not loaded the last change" in caplog.text
    bench.publisher = bench.another()
    await bench.publisher.publish(roster("ws02"))
    await bench.reloaded(2)
    await bench.publisher.aclose()
    bench.publisher = bench.another()
    await bench.publisher.publish(roster("ws02"))
    assert bench.calls.count("reload") == 2


async def test_cancelled_in_the_test_the_old_file_is_back(tmp_path):
    bench = Bench(tmp_path)
    bench.snippet.write_text("old\n")
    slow = bench.settings.apache.model_copy(update={"configtest": bench.command("echo test >> calls; sleep 60")})
    publisher = ApachePublisher(bench.settings.model_copy(update={"apache": slow}))
    task = asyncio.create_task(publisher.publish(roster("ws01")))
    await bench.until(lambda: bench.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.snippet.read_text() == "old\n"
    assert bench.files == {"calls", "snippet.conf"}
    await publisher.aclose()


async def test_cancelled_while_it_is_written_the_old_file_is_back(bench, monkeypatch):
    """A thread cannot be cancelled: it writes on."""
    bench.snippet.write_text("old\n")
    begun, go = threading.Event(), threading.Event()
    real = publish.replace_file

    def slow(path, data):
        if path == bench.snippet and not begun.is_set():
            begun.set()
            assert go.wait(PATIENCE)
        return real(path, data)

    monkeypatch.setattr(publish, "replace_file", slow)
    task = asyncio.create_task(bench.publisher.publish(roster("ws01")))
    await bench.until(begun.is_set)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.snippet.read_text() == "old\n"
    assert bench.files == {"calls", "snippet.conf"}


@pytest.mark.parametrize("old", ["# the good old file\n", None], ids=["there was one", "there was none"])
async def test_killed_in_the_test_the_next_daemon_does_not_trust_the_file(bench, caplog, old):
    if old is not None:
        bench.snippet.write_text(old)
    # What a daemon that was killed leaves.
    publish._replace(bench.snippet, bench.snippet.read_bytes() if old else None, bench.text("bad").encode(), None)
    with pytest.raises(PublishError):
        await bench.publisher.publish(roster("bad"))
    assert bench.snippet.read_text() == (old or "")
    assert bench.files == {"calls", "snippet.conf"}
    assert "was not tested when the gate ended" in caplog.text
    await bench.publisher.publish(roster("ws01"))
    assert bench.snippet.read_text() == bench.text("ws01")
    await bench.reloaded(1)
    assert bench.files == {"calls", "snippet.conf"}


async def test_a_test_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "COMMAND_TIMEOUT", 0.2)
    bench = Bench(tmp_path, configtest=("sh", "-c", "echo thinking; sleep 60"))
    with pytest.raises(PublishError, match=r"did not end within 0\.2 s"):
        await bench.publisher.publish(roster("ws01"))
    assert not bench.snippet.exists()


async def test_publishing_twice_at_once_is_one_after_the_other(bench):
    await asyncio.gather(*(bench.publisher.publish(roster(path)) for path in ("ws01", "ws02", "ws03")))
    assert bench.snippet.read_text() == bench.text("ws03")
    await bench.until(lambda: "reload" in bench.calls and not bench.publisher._lock.locked())


async def test_single_form_never_tests_nor_reloads(tmp_path, caplog):
    bench = Bench(tmp_path, form="single")
    await bench.publisher.publish(roster("ws01"))
    assert "reload Apache this once" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        await bench.publisher.publish(roster("ws01", "ws02"))
    assert not caplog.text
    assert bench.snippet.read_text() == bench.text("ws01", "ws02") == bench.text()
    assert bench.calls == []
    await bench.publisher.aclose()


async def test_without_a_reload_command_the_file_is_only_written_and_tested(tmp_path):
    bench = Bench(tmp_path, reload=())
    await bench.publisher.publish(roster("ws01"))
    assert bench.calls == ["test"]
    assert bench.files == {"calls", "snippet.conf"}
    await bench.publisher.aclose()


async def test_without_a_snippet_nothing_happens(tmp_path):
    publisher = ApachePublisher(Settings())
    await publisher.publish(roster("ws01"))
    await publisher.aclose()
    assert publisher.last_error == ""


async def test_what_cannot_be_done_is_said_plainly(tmp_path):
    nowhere = Bench(tmp_path, snippet=tmp_path / "none" / "snippet.conf")
    with pytest.raises(PublishError, match=r"none/snippet\.conf: cannot be written: No such file or directory"):
        await nowhere.publisher.publish(roster("ws01"))
    missing = Bench(tmp_path, configtest=("no-such-apachectl", "configtest"))
    with pytest.raises(PublishError, match="no-such-apachectl: command not found"):
        await missing.publisher.publish(roster("ws01"))
    unreachable = Bench(tmp_path)
    unreachable.settings = unreachable.settings.model_copy(update={"shared_port": 0})
    with pytest.raises(PublishError, match="account 'ws01'"):
        await unreachable.another().publish(roster("ws01"))
    assert unreachable.files == {"calls"}
