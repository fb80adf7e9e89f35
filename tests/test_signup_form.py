"""What was typed into the form, and what is said about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.signup_form import Filled, digest, faults, is_email, person_id, pin_of, read
from vncgate.signup_settings import USUAL, SignupField

KEY = "k" * 22
TYPES = ("text", "email", "tel", "number", "textarea", "choice", "checkbox")


def question(**values):
    return SignupField.model_validate({"name": "q", "label": "Question", **values})


def wrong(field, answer, **more):
    """What is said about one answer; nothing where it is good."""
    filled = read((field,), {"answer.q": answer, "key": KEY})
    return faults((field,), {}, "", filled, "en", **more).get("answer.q", "")


@pytest.mark.parametrize(
    ("values", "answer", "words"),
    [
        ({"required": True}, " \t\u200b", "Please fill in this field."),
        ({"required": True}, "x", ""),
        ({}, "", ""),
        ({}, "x" * 201, "Please write no more than 200 characters."),
        ({"type": "textarea"}, "x\n" * 1000, ""),
        ({"type": "textarea"}, "x" * 4001, "Please write no more than 4000 characters."),
        ({"type": "email"}, "a@b.de", ""),
        ({"type": "email"}, "ada@bücher.example", ""),
        ({"type": "email"}, "a@b", "Please write an e-mail address such as name@example.org."),
        ({"type": "email"}, "a b@c.de", "Please write an e-mail address such as name@example.org."),
        ({"type": "email"}, "a@c.de, b@c.de", "Please write an e-mail address such as name@example.org."),
        ({"type": "email"}, "a@b.de\r\nBcc: c@d.de", "Please write an e-mail address such as name@example.org."),
        ({"type": "number"}, "3,5", ""),
        ({"type": "number"}, "three", "Please write a number in digits."),
        ({"type": "tel"}, "+49 (221) 470-0", ""),
        ({"type": "tel"}, "ask", "Please write a telephone number such as +49 221 123456."),
        ({"type": "choice", "options": ["a", "b"]}, "b", ""),
        ({"type": "choice", "options": ["a", "b"]}, "c", "Please choose one of these."),
        ({"type": "choice", "options": ["a", "b"], "required": True}, "", "Please choose one of these."),
        ({"type": "checkbox", "required": True}, "", "Please tick this box, or you cannot sign up."),
        ({"type": "checkbox", "required": True}, "on", ""),
        ({"pattern": "[0-9]{7}"}, "1234567", ""),
        ({"pattern": "[0-9]{7}"}, "12345678", "Please write it in the way that is asked for."),
        (
            {"pattern": "[0-9]{7}", "help": "Seven digits."},
            "7",
            "Please write it in the way that is asked for: Seven digits.",
        ),
    ],
)
def test_an_answer(values, answer, words):
    assert wrong(question(**values), answer) == words


@given(st.sampled_from(TYPES), st.text())
def test_whatever_is_typed_is_kept_in_one_printable_line_or_refused(kind, text):
    field = question(type=kind, options=["a"] if kind == "choice" else [])
    answer = read((field,), {"answer.q": text}).answers["q"]
    assert answer.replace("\n", "").isprintable()
    assert kind == "textarea" or "\n" not in answer
    assert isinstance(wrong(field, text), str)
    assert read((field,), {"answer.q": answer}).answers["q"] == answer  # nothing changes a second time


def test_what_is_not_in_the_form_is_left_out():
    filled = read(USUAL, {"answer.name": " Ada ", "answer.role": "admin", "key": "short", "accept.x": "1"})
    assert filled == Filled({"name": "Ada", "email": ""}, {"x": "1"}, "", "")


def test_documents_and_the_code():
    filled = read((), {"accept.terms": digest("old"), "code": "Nova 7"})
    said = faults((), {"terms": digest("new"), "licence": digest("l")}, "nova-8", filled, "en")
    assert list(said) == ["code", "accept.terms", "accept.licence"]
    assert "changed" in said["accept.terms"]
    assert faults((), {"terms": digest("old")}, "NOVA-7", filled, "en") == {}


def test_what_follows_from_the_key():
    assert person_id(KEY) == person_id(KEY) != person_id("l" * 22)
    assert KEY not in person_id(KEY)
    pins = {pin_of(f"{number:022}", 6) for number in range(2000)}
    assert all(len(pin) == 6 and pin.isdecimal() for pin in pins)
    assert len(pins) > 1990  # as random as the key


@pytest.mark.parametrize("text", ["", "@", "a@b..de", "<a@b.de>", "a@b.de" + "x" * 250, "a@b\u2028c.de"])
def test_no_address(text):
    assert not is_email(text)
