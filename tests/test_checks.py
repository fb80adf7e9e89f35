"""A roster that does not fit the settings is told so, account by account."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vncgate.checks import NO_KINDS, TEMPLATES, check_roster, check_settings, doubts
from vncgate.errors import SettingsError
from vncgate.model import Account, Desktop, Problem, Roster, Secret, Severity
from vncgate.settings import Settings, load


def roster(port):
    return Roster((Account("ws01", Desktop("node01", 5901), "path01", port, Secret("x"), line=3),))


@pytest.mark.parametrize(
    ("flags", "port", "message"),
    [
        ({}, 6000, None),
        ({}, None, None),
        ({"engine": "websockify"}, None, "needs the shared port, which engine `websockify` does not have"),
        ({"engine": "websockify"}, 8081, None),
        ({"shared_port": 0}, None, "it needs the shared port, and the setting shared_port is 0"),
        ({}, 8081, "websocketport 8081 is the gate's shared port"),
        ({}, 8080, "websocketport 8080 is the port of the pages (setting web)"),
        ({"web": "off"}, 8080, None),
        ({"web": "192.0.2.1:8080"}, 8080, None),
        ({"web": "0.0.0.0:8080"}, 8080, "websocketport 8080 is the port of the pages (setting web)"),
        ({"metrics.address": ":9480"}, 9480, "websocketport 9480 is the port of the metrics (setting metrics.address)"),
        ({"metrics.address": "192.0.2.1:9480"}, 9480, None),
    ],
)
def test_accounts(flags, port, message):
    problems = check_roster(roster(port), load(flags=flags))
    if message is None:
        assert problems == ()
    else:
        (problem,) = problems
        assert problem.line == 3
        assert message in problem.message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, None),
        ({"public_url": ""}, "public_url: access `seat` needs it"),
        ({"engine": "websockify"}, "access: `seat` needs engine `relay`"),
        ({"web": "off"}, "web: is off, but with access `seat` people sign in on the pages"),
        ({"landing.export": "/var/www"}, "landing.export: pages as files let nobody sign in"),
        ({"landing.novnc_dir": "/usr/share/novnc"}, "landing.novnc_dir: with access `seat` only our own viewer"),
    ],
)
def test_access_by_seat(flags, message):
    settings = load(flags={"access": "seat", "public_url": "https://workshop.example.org/"} | flags)
    if message is None:
        check_settings(settings)
    else:
        with pytest.raises(SettingsError, match=re.escape(message)):
            check_settings(settings)


KINDS = b"""
[desktops.kinds.xfce]
command = "startxfce4"
sizes = {small = {cores = 1}, large = {cores = 8}}
[desktops.kinds.gedit]
command = "gedit"
"""


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("xfce", "", None),
        ("xfce", "large", None),
        ("gedit", "", None),
        ("", "", "which kind of desktop? Write desktop= with one of xfce, gedit, or the setting desktops.kind"),
        ("mate", "", "there is no kind of desktop 'mate' in the settings; known are xfce, gedit"),
        ("xfce", "huge", "desktop xfce has no size 'huge'; known are small, large"),
        ("gedit", "large", "desktop gedit has no size 'large'; it has none"),
    ],
)
def test_what_a_launcher_is_to_start(kind, size, message):
    accounts = Roster((Account("ws01", None, "path01", None, Secret("x"), kind=kind, size=size, line=3),))
    problems = check_roster(accounts, load(Path("x.toml"), content=KINDS))
    assert [(problem.severity, problem.message) for problem in problems] == (
        [(Severity.ERROR, f"account ws01: {message}")] if message else []
    )


def test_without_kinds_what_a_launcher_is_to_start_stays_offline():
    accounts = Roster((Account("ws01", None, "path01", None, Secret("x"), line=3),))
    assert check_roster(accounts, load()) == (Problem(3, 1, Severity.WARNING, NO_KINDS),)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"engine": "websockify", "apache.snippet": "/x", "apache.form": "single"}, "which engine `websockify` does"),
        (
            {"shared_port": 0, "apache.snippet": "/x", "apache.form": "single"},
            "needs the shared port, and the setting shared_port is 0",
        ),
        ({"shared_port": 8080}, "8080 is the port of the pages"),
        ({"metrics.address": ":8081"}, "shared_port: 8081 is the port of the metrics"),
    ],
)
def test_settings_that_contradict_each_other(flags, message):
    with pytest.raises(SettingsError, match=message):
        check_settings(load(flags=flags))


def test_settings_that_do_not():
    for flags in (
        {},
        {"engine": "websockify"},
        {"engine": "websockify", "apache.snippet": "/x", "apache.form": "guide"},
        {"shared_port": 0, "web": "off"},
        {"engine": "websockify", "apache.snippet": "/x"},
    ):
        check_settings(load(flags=flags))


NOW = datetime(2026, 3, 6, 17, tzinfo=UTC)
DOCKER = 'place = "there", image = "i"', 'places.there.type = "docker"'
SLURM = 'place = "there"', 'places.there = {type = "slurm", folder = "/s"}'
SSH = 'place = "there"', 'places.there = {type = "ssh", hosts = "a"}'
SIF = 'wrap = "apptainer", image = "/no.sif"'
UNKEPT = "{}: a place of type {} does not keep to it"


@pytest.mark.parametrize(
    ("kind", "place", "words"),
    [
        ("cores = 2", None, UNKEPT.format("cores", "local")),
        ("sizes.s.gpus = 1", None, UNKEPT.format("sizes.s.gpus", "local")),
        ('memory = "1G"', SSH, UNKEPT.format("memory", "ssh")),
        ('time = "90", cores = 1', DOCKER, UNKEPT.format("time", "docker")),
        ('time = "90", cores = 1, partition = "p"', SLURM, None),
        ('geometry = "800x600"', None, None),
        ('overlay = "/o"', None, 'overlay: is for wrap = "apptainer"'),
        (SIF, None, "image: there is no /no.sif on this host"),
        (SIF, SSH, None),
        ('wrap = "apptainer", image = "/is/there"', None, None),
        (
            'policy = "pool", pool = 2, home = "/h/{account}"',
            None,
            "policy: no pool is kept, as {account} stands in home;",
        ),
        ('policy = "pool", pool = 2, home = "/h"', None, None),
        ("pool = 3", None, 'pool: is for policy = "pool"; this one is on_demand'),
    ],
)
def test_what_a_kind_says_but_hardly_means(kind, place, words):
    inside, section = place or ("", "")
    text = f'[desktops]\n{section}\nkinds.x = {{command = "a", {kind}{", " * bool(inside)}{inside}}}'
    said = list(doubts(load(Path("x.toml"), content=text.encode()), {Path("/is/there")}.__contains__, NOW))
    assert len(said) == bool(words)
    assert all(line.startswith(f"desktops.kinds.x.{words}") for line in said)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('places.lost = {type = "ssh", hosts = "a", key = "/nokey"}', "places.lost.key: there is no key file /nokey"),
        (
            'places.s = {type = "slurm", folder = "/s", known_hosts = "/no"}',
            "places.s.known_hosts: there is no file /no",
        ),
        ('places.lost = {type = "ssh", hosts = "a", key = "/is/there", known_hosts = "/is/there"}', None),
        ("end = 2026-03-06T17:59:00+01:00", "end: 2026-03-06 17:59:00+01:00 is over, so no desktop is started"),
        ("end = 2026-03-06T18:01:00+01:00", None),
    ],
)
def test_what_keeps_desktops_from_starting(setting, words):
    settings = load(Path("x.toml"), content=f"[desktops]\n{setting}\n".encode())
    said = list(doubts(settings, {Path("/is/there")}.__contains__, NOW))
    assert len(said) == bool(words)
    assert all(line.startswith(f"desktops.{words}") for line in said)


def test_templates_that_are_not_there():
    there = {Path("/empty"), Path("/full"), Path("/full") / TEMPLATES[1]}

    def said(folder):
        return list(doubts(load(flags={"desktops.templates": folder}), there.__contains__, NOW))

    assert said("/full") == []
    assert said("/empty")[0].startswith(f"desktops.templates: /empty has none of {', '.join(TEMPLATES)}")
    assert said("/none")[0].startswith("desktops.templates: there is no folder /none")


def test_a_portal_can_only_be_offered_kinds_that_there_are():
    with pytest.raises(SettingsError, match=r"api\.kinds: there is no kind of desktop 'xfce'; known are none"):
        check_settings(load(flags={"api.kinds": "xfce"}))


WORKSHOP = {"ends": datetime(2026, 3, 6, 18, tzinfo=UTC), "overtime": 600.0}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "its times are followed with access"),
        ({"access": "seat"}, "2026-03-06 18:10:00.+ is past"),
        (
            {"access": "seat", "desktops": {"end": datetime(2026, 3, 6, 18, tzinfo=UTC)}},
            "desktops.end .* is not after the end",
        ),
    ],
)
def test_times_of_the_workshop_that_are_hardly_meant(values, words):
    settings = Settings.model_validate({"public_url": "https://x.org/", "workshop": WORKSHOP, **values})
    said = [line for line in doubts(settings, lambda _: True, datetime(2026, 3, 7, tzinfo=UTC)) if "workshop: " in line]
    assert any(re.search(words, line) for line in said)
