"""What is wrong with the settings of sign-up and mail, and how it is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vncgate.checks import check_settings, doubts
from vncgate.errors import SettingsError
from vncgate.settings import load
from vncgate.signup_settings import PerLanguage

FIELD = '[[signup.fields]]\nname = "q"\nlabel = "Q"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FIELD + 'pattern = "["', "signup.fields[1].pattern: is no regular expression: unterminated character set"),
        (FIELD + FIELD, "signup: fields: there are two of the name q"),
        (
            FIELD + FIELD.replace('"q"', '"r"') + 'tpye = "x"',
            "signup.fields[2].tpye: no such setting; did you mean signup.fields[2].type?",
        ),
        (FIELD + 'type = "choice"', "signup.fields[1]: type choice, and no other, needs options to choose among"),
        (FIELD + 'type = "choice"\noptions = ["a", "a"]', "signup.fields[1]: options: 'a' is there twice"),
        (FIELD + 'type = "date"', "signup.fields[1].type: input should be 'text', 'email'"),
        (
            FIELD.replace('"q"', '"email"'),
            'signup.fields[1]: type: the field named email is where mails go: write type = "email"',
        ),
        (FIELD.replace('"q"', '"Q"'), "signup.fields[1].name: write it as email or shoe_size"),
        ('[[signup.fields]]\nname = "q"', "signup.fields[1].label: is missing"),
        (
            '[[signup.fields]]\nname = "q"\nlabel.de = 3',
            "signup.fields[1].label: write a text, or one for each language",
        ),
        ('[[signup.documents]]\nname = "t"\ntitle = "T"', "signup.documents[1].file: is missing"),
        ('[[signup.documents]]\nname = "t"\ntitle = "T"\nfile = ""', "signup.documents[1].file: is empty"),
        (
            "[signup]\nopens = 2026-03-06T09:00:00",
            "signup.opens: write it with its time zone, as 2026-03-06T18:00:00+01:00",
        ),
        ("[signup]\nopens = 2026-03-06T09:00:00Z\ncloses = 2026-03-05T09:00:00Z", "signup: closes: is not after opens"),
        ("[signup]\ncapacity = 0", "signup.capacity: input should be greater than or equal to 1"),
        ('[mail]\nsender = "me"', "mail.sender: write it as workshop@example.org or"),
        ('[mail]\nsender = "a@b.de\\nBcc: c@d.de"', "mail.sender: write it as workshop@example.org or"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(text, words):
    with pytest.raises(SettingsError) as caught:
        load(Path("x.toml"), content=text.encode())
    assert str(caught.value).startswith(f"x.toml: {words}")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"signup.enabled": True}, "signup.enabled: a sign-up gives a seat"),
        ({"mail.host": "m", "public_url": "https://w.example.org/"}, "mail.sender: is missing"),
        ({"mail.host": "m", "mail.sender": "a@b.de"}, "public_url: is missing; mails have links to it"),
        ({"mail.user": "u"}, "mail.user: goes with mail.password_file"),
    ],
)
def test_what_contradicts_itself(flags, words):
    with pytest.raises(SettingsError) as caught:
        check_settings(load(flags=flags))
    assert str(caught.value).startswith(words)


def test_a_text_for_all_or_one_for_each_language():
    settings = load(Path("x.toml"), content=b'signup.information.en = "Room"\nsignup.information.pt-BR = "Sala"')
    words = settings.signup.information.words
    assert (words("en"), words("pt-BR"), words("de")) == ("Room", "Sala", "Room")
    assert PerLanguage({"": "any", "en": "Room"}).words("de") == "any"
    assert PerLanguage({"de": "Raum"}).words("en") == "Raum"
    assert not PerLanguage({})


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_port_of_mails(security, port):
    assert load(flags={"mail.security": security}).mail.at == port
    assert load(flags={"mail.security": security, "mail.port": 2525}).mail.at == 2525


def test_what_is_hardly_meant():
    text = b"""
        mail.host = "m"
        [signup]
        code_file = "/none/code"
        fields = [{name = "q", label = "Q"}]
        documents = [{name = "t", title = "T", file = {en = "/is/there", de = "/none/t.md"}}]
    """
    settings = load(Path("x.toml"), content=text)
    assert list(doubts(settings, {Path("/is/there")}.__contains__, datetime(2026, 3, 6, tzinfo=UTC))) == [
        "signup.documents: t: there is no file /none/t.md, so the gate does not start",
        "signup.code_file: there is no file /none/code, so the gate does not start",
        "mail.host: the sign-up form has no field named email, so nobody is written to",
    ]


def test_the_documents_example_is_good():
    text = (Path(__file__).parent.parent / "docs" / "sign-up.md").read_text()
    settings = load(Path("x.toml"), content=re.search(r"(?s)```toml\n(.*?)```", text)[1].encode())
    check_settings(settings)
    assert [field.name for field in settings.signup.questions] == ["name", "email", "student_number", "group"]
