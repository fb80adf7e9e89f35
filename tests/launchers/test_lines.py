"""Tests of vncgate.launchers.lines on a real sshd: commands there, and what they may say."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket

import pytest

from tests.ports import free_ports
from vncgate import process
from vncgate.errors import LaunchError, SilentError
from vncgate.launchers.lines import Lines
from vncgate.launchers.ways import Ways
from vncgate.process import Result

pytestmark = pytest.mark.real

HERE = "127.0.0.1", getpass.getuser()
HOSTILE = 'o\'neil "the" $(touch pwned) `touch pwned` \\ ! # * \n ; ü'


@pytest.fixture(scope="module", autouse=True)
def server(sshd):
    """It is there before a test is: what it is made of is not counted as left behind."""


@pytest.fixture
async def hosts(sshd):
    hosts = Lines(sshd.place())
    yield hosts
    await hosts.aclose()


async def run(hosts, *argv, stdin="", timeout=20.0, **env) -> Result:
    return await hosts.run(HERE, argv, timeout=timeout, stdin=stdin, env=env)


async def test_a_command_there_is_run_as_one_here_would_be(hosts):
    assert await run(hosts, "cat", stdin="#!/bin/bash\n") == Result(0, "#!/bin/bash\n", "")
    assert await run(hosts, "sh", "-c", "echo no >&2; exit 3") == Result(3, "", "no\n")
    assert (await run(hosts, "nonesuch")).status == 127
    assert (await run(hosts, "printf", "%s|", HOSTILE, "")).stdout == f"{HOSTILE}||"


async def test_it_sees_what_it_is_given_and_who_it_is_and_nothing_else(hosts, sshd):
    said = (await run(hosts, "env", A=HOSTILE)).stdout
    assert f"A={HOSTILE}\n" in said
    assert f"HOME={sshd.home}\n" in said
    names = re.findall(r"^(\w+)=", said.replace(HOSTILE, ""), re.MULTILINE)
    assert sorted(names) == ["A", "HOME", "LOGNAME", "PATH", "USER"]


async def test_a_class_of_commands_takes_turns_in_one_connection(hosts, sshd):
    """sshd has ten sessions for a connection."""
    before = sshd.log.count("Accepted publickey")
    results = await asyncio.gather(*(run(hosts, "sh", "-c", f"sleep 0.1; echo {number}") for number in range(30)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(30)]
    assert sshd.log.count("Accepted publickey") - before == 1


async def test_an_answer_without_end_and_one_that_does_not_come(hosts, monkeypatch):
    monkeypatch.setattr(process, "LONGEST_OUTPUT", 100_000)
    with pytest.raises(OSError, match="answers with more than"):
        await run(hosts, "yes")
    with pytest.raises(TimeoutError):
        await run(hosts, "sleep", "2", timeout=0.3)  # where root is, it goes on there
    assert (await run(hosts, "echo")).status == 0


@pytest.mark.parametrize(
    ("host", "words"),
    [("no-such-host.invalid", "it is not known: no such host$"), ("a" * 64, "it is not known: that is no host name$")],
)
async def test_a_host_that_has_no_address(host, words, sshd, monkeypatch):
    def resolver(name, *args, **options):
        name.encode("idna") if isinstance(name, str) else None
        raise socket.gaierror(socket.EAI_NONAME, "x")

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    hosts = Lines(sshd.place())
    with pytest.raises(LaunchError, match=f"no ssh connection to {host} port {sshd.port}: {words}"):
        await hosts.run((host, ""), ["true"], timeout=5.0, stdin="", env={})
    await hosts.aclose()


async def test_a_connection_that_is_lost_meanwhile(hosts, sshd, tmp_path):
    command = f"cd {tmp_path} && touch begun && while [ -e begun ]; do sleep 0.1; done"
    running = asyncio.ensure_future(run(hosts, "sh", "-c", command))
    async with asyncio.timeout(20):
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.02)
    sshd.cut()
    with pytest.raises(ConnectionError, match=r"the connection to 127\.0\.0\.1 was lost"):
        await running
    (tmp_path / "begun").unlink()  # it goes on there until then


async def test_a_host_that_is_not_there(sshd, short_folder):
    hosts = Lines(sshd.place(port=free_ports(1)[0]))
    with pytest.raises(SilentError, match=r"no ssh connection to 127\.0\.0\.1 port \d+: it refused the connection$"):
        await run(hosts, "true")
    with pytest.raises(LaunchError):
        await Ways(hosts, short_folder).lead("0123456789abcdef", HERE, ("127.0.0.1", 5901))
    assert list(short_folder.iterdir()) == []
    await hosts.aclose()
