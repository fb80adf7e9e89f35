"""The session's cookie: what is taken for one, and what is known of it."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate import cookies

VALUE = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
OTHER = VALUE[::-1]


@pytest.mark.parametrize(
    ("headers", "secure", "expected"),
    [
        ([f"vncgate_session={VALUE}"], False, VALUE),
        ([f"a=1; vncgate_session={VALUE}; b=2"], False, VALUE),
        ([f"a=1;vncgate_session={VALUE}"], False, VALUE),
        (["a=1", f"vncgate_session={VALUE}"], False, VALUE),
        ([f"__Host-vncgate_session={VALUE}"], True, VALUE),
        ([f"__Host-vncgate_session={VALUE}; vncgate_session={OTHER}"], True, VALUE),
        ([f"vncgate_session={VALUE}"], True, None),
        ([f"__Host-vncgate_session={VALUE}"], False, None),
        ([f"__host-vncgate_session={VALUE}"], True, None),
        ([f"vncgate_session={VALUE}; vncgate_session={VALUE}"], False, None),
        ([f"vncgate_session={VALUE}; vncgate_session="], False, None),
        ([f"vncgate_session={VALUE}", f"vncgate_session={OTHER}"], False, None),
        ([f'vncgate_session="{VALUE}"'], False, None),
        ([f"vncgate_session={VALUE}="], False, None),
        ([f"vncgate_session={VALUE[:-1]}"], False, None),
        ([f"vncgate_session= {VALUE}"], False, None),
        ([f"vncgate_session={VALUE}\n"], False, None),
        (["vncgate_session"], False, None),
        ([f"xvncgate_session={VALUE}"], False, None),
        ([""], False, None),
        ([], False, None),
    ],
)
def test_what_counts(headers, secure, expected):
    assert cookies.session_value(headers, secure=secure) == expected


@given(st.lists(st.text(max_size=100), max_size=4), st.booleans())
def test_any_headers_are_read(headers, secure):
    assert cookies.session_value(headers, secure=secure) is None


@given(st.lists(st.sampled_from([f"vncgate_session={VALUE}", f"vncgate_session={OTHER}", "a=b", "x", ""]), max_size=5))
def test_of_two_none_counts(pairs):
    ours = [pair for pair in pairs if "=" in pair and pair != "a=b"]
    expected = ours[0].partition("=")[2] if len(ours) == 1 else None
    assert cookies.session_value(["; ".join(pairs)], secure=False) == expected


def test_the_digest_is_of_the_value_as_it_is_sent():
    assert cookies.digest(VALUE) == hashlib.sha256(VALUE.encode("ascii")).hexdigest()
    assert len(VALUE) == 43
