import os
import socket

import pytest

from tests.doctor.cases import account, case, results, told
from vncgate.doctor import ports
from vncgate.doctor.ports import Port

IN_USE = "shared port (setting shared_port): port 8081 on 127.0.0.1 is in use by another program (ss -ltnp shows which)"


@pytest.mark.parametrize(
    ("holders", "pid", "served", "finding"),
    [
        ({7: "vncgate"}, 7, {8081}, ("ok", "1 port: 1 held by our gate, 0 free")),
        (None, 7, {8081}, ("ok", "1 port: 1 held by our gate, 0 free")),
        (
            {9: "nginx"},
            7,
            {8081},
            ("error", f"{IN_USE.removesuffix(' (ss -ltnp shows which)')}: nginx (process 9)"),
        ),
        (None, 0, set(), ("error", IN_USE.removesuffix(" (ss -ltnp shows which)"))),
    ],
)
def test_a_port_that_is_taken(holders, pid, served, finding):
    assert told(ports.judge([Port(8081, "x", IN_USE, holders)], pid, frozenset(served))) == [finding]


def test_a_gate_that_does_not_answer_us():
    (finding,) = ports.judge([Port(8081, "x", IN_USE, {7: "vncgate"})], 0, frozenset())
    assert "--control" in finding.advice


async def test_real_ports(free_port):
    web, shared, own = free_port.many(3)
    flags = {"web": f"127.0.0.1:{web}", "shared_port": shared}
    each = case(account("ws01", own), "ws02", flags=flags)
    assert told(await ports.check(each)) == [("ok", "3 ports: 3 free")]
    measured = case(flags=flags | {"metrics.address": f"127.0.0.1:{own}"})
    assert told(await ports.check(measured)) == [("ok", "3 ports: 3 free")]
    with socket.create_server(("127.0.0.1", own)):
        ((result, message),) = told(await ports.check(each))
        assert result == "error"
        assert message.startswith(f"account ws01: port {own} on 127.0.0.1 is in use by another program: ")
        assert f"(process {os.getpid()})" in message
        state = {"name": "ws01", "port": own, "state": "RUNNING"}
        each.status = {"pid": os.getpid(), "web": None, "shared_port": 0, "accounts": [state]}
        assert told(await ports.check(each)) == [("ok", "3 ports: 1 held by our gate, 2 free")]


async def test_an_address_that_this_machine_does_not_have():
    each = case(flags={"listen": "192.0.2.1", "web": "off"})
    assert results(await ports.check(each)) == ["error"]


async def test_no_port_is_wanted():
    assert await ports.check(case(flags={"web": "off", "shared_port": 0, "apache.form": "guide"})) == []
