"""Messages: every kind there and back, and what is not understood."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate import messages
from vncgate.messages import LONGEST, MOST_ACCOUNTS, MOST_ROUTES, Elsewhere, Holds, Ready, Report, decode, encode
from vncgate.model import Desktop, Route
from vncgate.people import Mode
from vncgate.tally import Refusal, Tally
from vncgate.tokens import LONGEST_NAME, LONGEST_SOCKET

KINDS = messages.Message.__args__
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "int": st.integers(0, 2**53),
    "float": st.floats(0, 1e12, allow_nan=False),
    "str": st.text(),
    "bool": st.booleans(),
    "dict[str, Any]": st.dictionaries(st.text(), VALUES, max_size=4),
    "dict[str, Any] | None": st.none() | st.dictionaries(st.text(), VALUES, max_size=4),
    "dict[str, int]": st.dictionaries(st.text(), st.integers(0, 2**53), max_size=4),
    "dict[str, float]": st.dictionaries(st.text(), st.floats(0, 1e12), max_size=4),
    "dict[str, dict[str, str]]": st.dictionaries(st.text(), st.dictionaries(st.text(), st.text()), max_size=4),
    "list[dict[str, Any]]": st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=3),
    "dict[str, tuple[int, int | None, int | None]]": st.dictionaries(
        st.text(), st.lists(st.none() | st.integers(0, 2**53), min_size=3, max_size=3), max_size=4
    ),
}
"""What a field of each type may hold; a tuple arrives as a list, as JSON has it."""
LONGEST_HOST = 253


def of_kind(kind):
    return st.builds(kind, **{field.name: FIELDS[field.type] for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_message_is_a_line_and_arrives_as_it_was(kind, data):
    message = data.draw(of_kind(kind))
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data(), more=st.dictionaries(st.text().map("new-{}".format), VALUES, max_size=3))
def test_what_a_later_version_adds_to_a_message_is_ignored(kind, data, more):
    message = data.draw(of_kind(kind))
    assert decode(json.dumps({**json.loads(encode(message)), **more}).encode()) == message


def test_a_field_that_came_later_has_a_default():
    assert decode(b'{"is":"Open","ticket":1,"route":{}}') == messages.Open(1, {}, listens=False)
    assert decode(b'{"is":"Report","connections":3,"traffic":{}}') == Report(3, {})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"\xff\xfe",
        b"null",
        b"7",
        b'"Ready"',
        b"[]",
        b"{}",
        b'{"is":"Unheard","pid":1}',
        b'{"is":["Ready"]}',
        b'{"is":null}',
        b'{"is":"Ready","pid":1}',  # and no version
        b'{"is":"Drain"',  # cut
        b"[" * 100_000,
    ],
)
def test_what_is_not_understood_is_nothing(line):
    assert decode(line) is None


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_nothing_and_raises_nothing(line):
    assert decode(line) is None


names = [f"{number:-<{LONGEST_NAME}}" for number in range(MOST_ACCOUNTS)]
full = Tally(
    *[2**53] * 5,
    refused=dict.fromkeys(Refusal, 2**53),
)


@pytest.mark.parametrize(
    "message",
    [
        # Ten terabytes each way, each; used after ten years.
        Report(
            100_000,
            dict.fromkeys(names, (9999, 10**13, 10**13)),
            None,
            dict.fromkeys(names, 315360000.1234567),
            dict.fromkeys(names, 3599.1234567),
        ),
        Report(100_000, {}, full.to_json()),
        Elsewhere(dict.fromkeys(names, 9999)),
        *messages.admits(2**53, {name: {f"{name:f>64}": Mode.CONTROL} for name in names}),
        *messages.admits(2**53, {name: {} for name in (*names, *(f"more{name[4:]}" for name in names))}),
        *messages.admits(2**53, {names[0]: {f"{n:064}": Mode.CONTROL for n in range(1500)}}),
        Holds(
            [
                messages.route_to_json(Route(name, Desktop(unix="\udcff" * LONGEST_SOCKET), name, 65535))
                for name in names[:MOST_ROUTES]
            ]
        ),
        Holds(
            [
                messages.route_to_json(Route(name, Desktop("h" * LONGEST_HOST, 65535), name, 65535))
                for name in names[:MOST_ROUTES]
            ]
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_longest_messages_are_received_whole(message):
    line = encode(message)
    assert len(line) <= LONGEST
    assert decode(line) is not None


@pytest.mark.parametrize(
    "route",
    [
        Route("ws01", Desktop("::1", 5901), "path-1", None),
        Route("ws01", Desktop(unix="/run/vnc/\udcff"), "path-1", 6101),
        Route("ws01", None, "path-1", 6101),
        Route("ws01", Desktop("::1", 5901), "path-1", None, watch_input=True),
        Route("ws01", Desktop("::1", 5901), "path-1", None, guarded=True),
    ],
)
def test_routes_arrive_as_they_were(route):
    body = json.loads(json.dumps(messages.route_to_json(route)))
    assert messages.route_from_json(body) == route


def test_what_earlier_versions_say_is_understood_and_they_understand_us():
    told = b'{"is":"Report","connections":1,"traffic":{"ws01":[1,7,9]},"tally":null}'
    assert decode(told) == Report(1, {"ws01": [1, 7, 9]}, None, {}, {})
    assert decode(b'{"is":"Suspect","name":"ws01","reason":"x"}') == messages.Suspect("ws01", "x", is_refused=False)
    asked = {"name": "ws01", "desktop": None, "path": "path-1", "port": None}
    assert messages.route_from_json(asked) == Route("ws01", None, "path-1", None, watch_input=False, guarded=False)
    # They take three figures of each account, and what they know of a route.
    assert json.loads(encode(Report(1, {"ws01": (1, 7, 9)}, None, {"ws01": 5.0})))["traffic"] == {"ws01": [1, 7, 9]}
    assert asked.items() <= messages.route_to_json(Route("ws01", None, "path-1", None, watch_input=True)).items()


ADMISSIONS = st.dictionaries(
    st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.sampled_from(Mode), max_size=9), max_size=9
)


@given(ADMISSIONS, st.integers(2, 12))
def test_admissions_of_any_length_arrive_as_they_were(admissions, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "MOST_ADMITTED", most)
        parts = list(messages.admits(7, admissions))
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    for part in parts:
        assert sum(1 + len(admitted) for admitted in part.admissions.values()) <= most
    assert messages.admissions_from([decode(encode(part)) for part in parts]) == admissions


def test_what_is_no_mode_here_admits_nobody():
    told = messages.Admit(1, {"ws01": {"a": "teach", "b": "view"}})
    assert messages.admissions_from([told]) == {"ws01": {"b": Mode.VIEW}}


def test_the_first_word_is_plain():
    """It crosses versions: an old master reads a new worker's, and a new one an old worker's."""
    assert encode(Ready(7, "1.2.3", 5.0)) == b'{"is":"Ready","pid":7,"version":"1.2.3","since":5.0}\n'
