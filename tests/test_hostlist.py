"""Slurm's host lists, expanded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.errors import HostListError
from vncgate.hostlist import LONGEST, expand


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node01", "node01"),
        ("node01,login.example.org,10.0.0.7,::1", "node01 login.example.org 10.0.0.7 ::1"),
        ("node[01-03,09]", "node01 node02 node03 node09"),
        ("node[8-10]", "node8 node9 node10"),
        ("node[08-10]", "node08 node09 node10"),
        ("node[098-101]", "node098 node099 node100 node101"),
        ("n[1,01,001]", "n1 n01 n001"),
        ("gpu[1-2]x[1-3]", "gpu1x1 gpu1x2 gpu1x3 gpu2x1 gpu2x2 gpu2x3"),
        ("[1-2][3-4]", "13 14 23 24"),
        ("a[1-2].b,c[5]d", "a1.b a2.b c5d"),
    ],
)
def test_expanded(text, hosts):
    assert expand(text) == hosts.split()


HOST = "a host is expected here, such as node01 or node[01-06]; brackets do not nest"
RANGE = "a number or a range such as 01-06 is expected here"


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", 1, HOST),
        ("a,", 3, HOST),
        (",a", 1, HOST),
        ("a,,b", 3, HOST),
        ("[", 1, HOST),
        ("a[1-[2]]", 2, "a bracket without its partner"),
        ("a[1-2", 2, "a bracket without its partner"),
        ("a]", 2, "a bracket without its partner"),
        ("a, b", 3, HOST),
        ("a b", 2, "only a comma may stand between two hosts"),
        ("a\n", 2, "only a comma may stand between two hosts"),
        ("a[]", 3, RANGE),
        ("a[1,]", 5, RANGE),
        ("a[1, 2]", 5, RANGE),
        ("b,a[1-2,x]", 9, RANGE),
        ("a[-2]", 3, RANGE),
        ("a[1-2-3]", 3, RANGE),
        ("a[٣]", 3, RANGE),
        ("a[" + "9" * 19 + "]", 3, RANGE),
        ("a[1,6-5]", 5, "the range runs backwards"),
        ("a[0-65536]", 3, "the list stands for more than 65536 hosts"),
        ("a[1-999999999999999999]", 3, "the list stands for more than 65536 hosts"),
        ("a[0-255]b[0-256]", 11, "the list stands for more than 65536 hosts"),
        ("b,a[0-255]b[0-255]", 13, "the list stands for more than 65536 hosts"),
        ("a[1-65536],b", 12, "the list stands for more than 65536 hosts"),
        ("a" + "[0-9]" * 1000, 23, "the list stands for more than 65536 hosts"),
    ],
)
def test_refused_with_the_place(text, at, message):
    with pytest.raises(HostListError) as caught:
        expand(text)
    assert str(caught.value) == f"host list, character {at}: {message}"


def test_the_longest_list():
    assert len(expand("a[0-255]b[0-255]")) == LONGEST
    assert len(expand("a[1-65536]")) == LONGEST


@given(st.text(st.sampled_from("ab19,-[] "), max_size=20))
def test_any_text_gives_hosts_or_an_error(text):
    try:
        hosts = expand(text)
    except HostListError:
        return
    assert hosts
    assert all(hosts)
    assert not set("".join(hosts)) & set("[], ")


@given(st.integers(0, 2000), st.integers(0, 50), st.integers(1, 6))
def test_ranges_count_up_in_the_width_of_their_first_number(first, more, width):
    hosts = expand(f"n[{first:0{width}}-{first + more}]")
    assert [int(host[1:]) for host in hosts] == list(range(first, first + more + 1))
    assert {len(host) for host in hosts if len(str(int(host[1:]))) <= width} <= {max(width, len(str(first))) + 1}
