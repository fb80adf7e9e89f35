"""Listening sockets that outlive their proxies, and words for those that cannot be had."""

from __future__ import annotations

import resource
import socket

import pytest

from vncgate.errors import ListenError
from vncgate.listeners import Listeners, bind, name_of, raise_descriptor_limit


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


class Keeper:
    """What it holds now, and all that it was told."""

    def __init__(self):
        self.kept = {}
        self.told = []

    def keep(self, name, sock):
        self.told.append(("keep", name))
        self.kept[name] = sock

    def forget(self, name):
        self.told.append(("forget", name))
        self.kept.pop(name, None)


@pytest.fixture
def keeper():
    return Keeper()


def is_served(port):
    """Whether somebody listens."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_names_are_fit_for_systemd():
    """FDNAME= of sd_notify(3): no colon, at most 255 characters."""
    assert name_of("127.0.0.1", 6100) == "listen-127.0.0.1-6100"
    assert name_of("::1", 6100) == "listen-__1-6100"


def test_the_keeper_hears_of_each_socket_once_and_of_its_end(keeper, free_port):
    listeners = Listeners("127.0.0.1", keeper)
    one, other = free_port.many(2)
    sock = listeners.open(one, "ws01")
    listeners.open(one, "ws01")
    listeners.open(other, "the shared port", "127.0.0.1")
    first, second = name_of("127.0.0.1", one), name_of("127.0.0.1", other)
    assert keeper.told == [("keep", first), ("keep", second)]
    assert keeper.kept[first] is sock
    assert listeners.all() == keeper.kept
    listeners.close(one)
    listeners.close(one)
    assert keeper.told[2:] == [("forget", first)]
    listeners.close_all()
    assert keeper.told[3:] == [], "what is kept is for the next process"
    assert not listeners.all()


def test_a_port_that_cannot_be_had_is_not_kept(keeper, taken):
    with pytest.raises(ListenError):
        Listeners("127.0.0.1", keeper).open(taken, "ws01")
    assert not keeper.told


def test_what_was_inherited_is_taken_up_with_its_backlog(keeper):
    sock = bind("127.0.0.1", 0, "the process before")
    port = sock.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as waiting:
        listeners = Listeners("127.0.0.1", keeper, {name_of("127.0.0.1", port): sock})
        assert listeners.open(port, "ws01") is sock
        assert keeper.told == [("keep", name_of("127.0.0.1", port))]
        listeners.settled()
        accepted, address = sock.accept()
        assert address == waiting.getsockname()
        accepted.close()
        listeners.close(port)
    assert not is_served(port)
    listeners.open(port, "ws01")  # once closed it is bound again
    listeners.close_all()


def test_what_was_inherited_of_another_address_is_not_taken_up(keeper, free_port):
    port = free_port()
    other = bind("127.0.0.2", port, "the process before")
    listeners = Listeners("127.0.0.1", keeper, {name_of("127.0.0.2", port): other})
    assert listeners.open(port, "ws01") is not other
    listeners.close_all()


def test_what_was_inherited_and_is_not_needed_is_closed_when_all_is_open(keeper):
    needed, stale = bind("127.0.0.1", 0, "before"), bind("127.0.0.1", 0, "before")
    ports = [sock.getsockname()[1] for sock in (needed, stale)]
    names = [name_of("127.0.0.1", port) for port in ports]
    listeners = Listeners("127.0.0.1", keeper, dict(zip(names, (needed, stale), strict=True)))
    listeners.open(ports[0], "ws01")
    assert is_served(ports[1]), "not before"
    listeners.settled()
    assert keeper.told == [("keep", names[0]), ("forget", names[1])]
    assert is_served(ports[0])
    assert not is_served(ports[1])
    listeners.close_all()


def test_what_was_inherited_ends_here_with_a_start_that_fails(keeper):
    """And is kept by whoever kept it, for the next attempt."""
    stale = bind("127.0.0.1", 0, "before")
    listeners = Listeners("127.0.0.1", keeper, {name_of("127.0.0.1", stale.getsockname()[1]): stale})
    listeners.close_all()
    assert stale.fileno() < 0
    assert not keeper.told


def test_what_is_left_to_the_next_process_is_closed_no_more(keeper, free_port):
    port = free_port()
    listeners = Listeners("127.0.0.1", keeper)
    listeners.open(port, "ws01")
    listeners.leave()
    listeners.close(port)
    assert is_served(port)
    assert keeper.told == [("keep", name_of("127.0.0.1", port))]
    listeners.close_all()
