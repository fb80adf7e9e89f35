"""Whom X-Forwarded-For is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.forwarded import TrustedProxies

LOOPBACK = TrustedProxies(["127.0.0.0/8", "::1/128"])


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["10.9.9.9, 192.0.2.7"], "192.0.2.7"),  # the client wrote the first itself
        ("127.0.0.1", ["192.0.2.7, 127.0.0.2"], "192.0.2.7"),
        ("127.0.0.1", ["192.0.2.7", "127.0.0.2"], "192.0.2.7"),
        ("::ffff:127.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("127.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("192.0.2.1", ["10.9.9.9"], "192.0.2.1"),
        ("127.0.0.1", ["evil\nlog line"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["::1%eth0] connected to node09:1 ws99 [9.9.9.9"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7, fe80::1%eth0, 127.0.0.2"], "127.0.0.2"),
        ("fe80::1%eth0", ["192.0.2.7"], "fe80::1%eth0"),  # who connected, in the kernel's own words
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("", ["192.0.2.7"], ""),
    ],
)
def test_the_browsers_address(peer, headers, client):
    assert LOOPBACK.client(peer, headers) == client


@given(st.lists(st.text(max_size=40), max_size=5))
def test_whatever_is_forwarded_an_address_comes_out(headers):
    import ipaddress

    ipaddress.ip_address(LOOPBACK.client("127.0.0.1", headers))
