"""What a line of the token file asks for. (What it cannot ask for: tests/test_launcher.py.)"""

from __future__ import annotations

import pytest

from vncgate.desktop_choice import choose, choose_other
from vncgate.errors import LaunchError
from vncgate.kinds import DesktopsSettings
from vncgate.model import Account, Secret

SIZES = {"small": {"cores": 1}, "large": {"cores": 8, "partition": "big"}}
SETTINGS = DesktopsSettings.model_validate(
    {"kinds": {"xfce": {"command": "x", "sizes": SIZES, "size": "small"}, "gedit": {"command": "g"}}, "kind": "xfce"}
)


def chosen(kind="", size=""):
    return choose(SETTINGS, Account("ws01", None, "p", None, Secret(""), kind=kind, size=size))


def test_what_a_line_leaves_out_is_the_settings():
    choice = chosen()
    assert (choice.name, choice.size, choice.kind.cores, choice.kind.partition) == ("xfce", "small", 1, None)
    assert str(choice) == "xfce (small)"
    assert (chosen(size="large").kind.cores, chosen(size="large").kind.partition) == (8, "big")
    assert str(chosen("gedit")) == "gedit"


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        ("kde", "", "the settings have no kind of desktop 'kde', only xfce, gedit"),
        ("", "huge", r"kind xfce has no size 'huge' \(its sizes: small, large\)"),
        ("gedit", "small", r"kind gedit has no size 'small' \(its sizes: none\)"),
    ],
)
def test_what_is_not_in_the_settings_is_told(kind, size, words):
    with pytest.raises(LaunchError, match=f"^{words}$"):
        chosen(kind, size)


@pytest.mark.parametrize(
    ("line", "asked", "offered", "found"),
    [
        (("", ""), ("gedit", ""), ["gedit"], "gedit"),
        (("", ""), ("", "large"), ["xfce"], "xfce (large)"),
        (("xfce", "large"), ("xfce", ""), ["xfce"], "xfce (small)"),
        (("", "large"), ("xfce", "large"), [], "xfce (large)"),
        (("", "large"), ("", "large"), ["gedit"], "xfce (large)"),
        (("", "large"), ("xfce", ""), [], "xfce (large)"),
        (("", ""), ("xfce", "small"), [], "xfce (small)"),
        (("", ""), ("gedit", ""), [], "kind gedit may not be chosen; on offer (setting api.kinds): none"),
        (("", ""), ("nothing", ""), ["xfce", "gedit"],
         "kind nothing may not be chosen; on offer (setting api.kinds): xfce, gedit"),
        (("", ""), ("", "large"), ["gedit"],
         "size large of kind xfce may not be chosen; on offer (setting api.kinds): gedit"),
        (("", ""), ("gedit", "small"), ["gedit"], "kind gedit has no size 'small' (its sizes: none)"),
        (("gone", ""), ("", "small"), ["xfce"], "the settings have no kind of desktop 'gone', only xfce, gedit"),
    ],
)  # fmt: skip
def test_what_may_be_chosen_in_the_place_of_what_a_line_says(line, asked, offered, found):
    account = Account("ws01", None, "p", None, Secret(""), kind=line[0], size=line[1])
    try:
        said = str(choose_other(SETTINGS, offered, account, *asked))
    except LaunchError as error:
        said = str(error)
    assert said == found
