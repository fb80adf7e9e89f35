"""Listening sockets that outlive their proxies, and words for those that cannot be had."""

from __future__ import annotations

import resource
import socket

import pytest

from vncgate.errors import ListenError
from vncgate.listeners import Listeners, bind, raise_descriptor_limit


@pytest.fixture
def taken():
    sock = bind("127.0.0.1", 0, "test")
    yield sock.getsockname()[1]
    sock.close()


def test_a_port_is_bound_once_and_kept(free_port):
    listeners = Listeners("127.0.0.1")
    port = free_port()
    sock = listeners.open(port, "ws01")
    assert listeners.open(port, "ws01") is sock
    listeners.close(port)
    listeners.close(port)
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    listeners.open(port, "ws01")
    listeners.close_all()


def test_children_do_not_inherit_it():
    sock = bind("127.0.0.1", 0, "test")
    assert not sock.get_inheritable()
    sock.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1", "is in use by another program"), ("192.0.2.1", "this machine does not have that address")],
)
def test_why_a_port_cannot_be_had(taken, address, message):
    with pytest.raises(ListenError, match=f"account ws01: port {taken} on {address} .*{message}"):
        Listeners(address).open(taken, "account ws01")


def test_the_limit_of_open_files_is_lifted_but_not_without_end():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        limit = raise_descriptor_limit(4096)
        assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(4096, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
