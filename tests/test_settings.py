"""Settings: their sources and order, what is refused and how, and that each one is documented.

Run as a program, it brings the tables of docs/settings.md up to date.
"""

from __future__ import annotations

import contextlib
import math
import re
import tomllib
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from vncgate.errors import SettingsError
from vncgate.kinds import PLACES, Kind, Resources
from vncgate.settings import (
    Access,
    EngineName,
    Form,
    HostPort,
    Settings,
    _fields,
    load,
    setting_names,
)
from vncgate.signup_settings import PerLanguage, SignupDocument, SignupField

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"
NAMES = list(setting_names())

SAMPLES = {  # for each setting, what a variable may say, and the value that it means
    "web": ("[::1]:9000", HostPort(host="::1", port=9000)),
    "listen": ("0.0.0.0", "0.0.0.0"),
    "public_url": ("https://workshop.example.org", "https://workshop.example.org/"),
    "access": ("seat", Access.SEAT),
    "shared_port": ("7777", 7777),
    "engine": ("websockify", EngineName.WEBSOCKIFY),
    "workers": ("2", 2),
    "drain_timeout": ("60", 60.0),
    "control": ("/run/x", Path("/run/x")),
    "watch": ("poll", "poll"),
    "poll_interval": ("0.5", 0.5),
    "trusted_proxies": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    "origins": ("https://A.example.org:8443", ("https://a.example.org:8443",)),
    "ping_interval": ("12", 12.0),
    "connect_timeout": ("2.5", 2.5),
    "handshake_timeout": ("3", 3.0),
    "handshakes": ("100", 100),
    "client_handshakes": ("9", 9),
    "max_connections": ("2", 2),
    "max_headers": ("8192", 8192),
    "max_frame": ("65536", 65536),
    "max_buffer": ("1048576", 1048576),
    "probe_interval": ("5", 5.0),
    "probe": ("off", False),
    "log_level": ("debug", "debug"),
    "apache.snippet": ("/etc/x.conf", Path("/etc/x.conf")),
    "apache.form": ("guide", Form.GUIDE),
    "apache.configtest": ("a2 -f '/x y' -t", ("a2", "-f", "/x y", "-t")),
    "apache.reload": ("", ()),
    "landing.title": ("A, B", "A, B"),
    "landing.welcome": ("**hello**", "**hello**"),
    "landing.logo": ("l.svg", Path("l.svg")),
    "landing.accent": ("#00AAff", "#00AAff"),
    "landing.templates": ("t", Path("t")),
    "landing.stylesheet": ("s.css", Path("s.css")),
    "landing.novnc_dir": ("n", Path("n")),
    "landing.export": ("e", Path("e")),
    "metrics.address": (":9480", HostPort(host="127.0.0.1", port=9480)),
    "metrics.accounts": ("off", False),
    "api.tokens": ("/etc/x", Path("/etc/x")),
    "api.kinds": ("xfce,gedit", ("xfce", "gedit")),
    "desktops.folder": ("/var/x", Path("/var/x")),
    "desktops.kind": ("mate", "mate"),
    "desktops.templates": ("t", Path("t")),
    "desktops.end": ("2026-03-06T18:00:00+01:00", datetime(2026, 3, 6, 17, tzinfo=UTC)),
    "desktops.warn": ("60", 60.0),
    "languages.folder": ("l", Path("l")),
    "languages.offered": ("de, en", ("de", "en")),
    "languages.default": ("de", "de"),
    "seats.ledger": ("postgresql://gate@db/vncgate", "postgresql://gate@db/vncgate"),
    "seats.key": ("/etc/vncgate/seats.key", Path("/etc/vncgate/seats.key")),
    "seats.session_hours": ("12", 12.0),
    "seats.link_days": ("3.5", 3.5),
    "workshop.title": ("Summer school", "Summer school"),
    "workshop.place": ("Hall 2", "Hall 2"),
    "workshop.wifi": ("Wi-Fi: x", "Wi-Fi: x"),
    "workshop.signup_opens": ("2026-03-02T09:00:00+01:00", datetime(2026, 3, 2, 8, tzinfo=UTC)),
    "workshop.doors_open": ("2026-03-02T09:00:00+01:00", datetime(2026, 3, 2, 8, tzinfo=UTC)),
    "workshop.ends": ("2026-03-02T09:00:00+01:00", datetime(2026, 3, 2, 8, tzinfo=UTC)),
    "workshop.overtime": ("600", 600.0),
    "workshop.files_until": ("2026-03-02T09:00:00+01:00", datetime(2026, 3, 2, 8, tzinfo=UTC)),
    "workshop.purge": ("2026-03-02T09:00:00+01:00", datetime(2026, 3, 2, 8, tzinfo=UTC)),
    "signup.enabled": ("on", True),
    "signup.code_file": ("/etc/code", Path("/etc/code")),
    "signup.opens": ("2026-03-01T09:00:00+01:00", datetime(2026, 3, 1, 8, tzinfo=UTC)),
    "signup.closes": ("2026-03-06T18:00:00+01:00", datetime(2026, 3, 6, 17, tzinfo=UTC)),
    "signup.capacity": ("60", 60),
    "signup.waiting": ("off", False),
    "signup.information": ("**Room 7**", PerLanguage({"": "**Room 7**"})),
    "signup.privacy": ("Ask us.", PerLanguage({"": "Ask us."})),
    "mail.host": ("mail.example.org", "mail.example.org"),
    "mail.port": ("2525", 2525),
    "mail.security": ("tls", "tls"),
    "mail.ca_file": ("/etc/ca.pem", Path("/etc/ca.pem")),
    "mail.user": ("workshop", "workshop"),
    "mail.password_file": ("/etc/pw", Path("/etc/pw")),
    "mail.sender": ("The Workshop <w@example.org>", "The Workshop <w@example.org>"),
    "files.root": ("/scratch/{account}", "/scratch/{account}"),
    "files.through": ("place", "place"),
    "files.user": ("{account}", "{account}"),
    "files.quota": ("1000000", 1000000),
    "files.archives": ("/srv/archives", Path("/srv/archives")),
    "files.archive_days": ("7", 7),
}


NAMED = {
    "[desktops.kinds.NAME]": Kind,
    "[desktops.kinds.NAME.sizes.SIZE]": Resources,
    "[[signup.fields]]": SignupField,
    "[[signup.documents]]": SignupDocument,
    **{f'[desktops.places.NAME] with type = "{name}"': place for name, place in PLACES.items()},
}


def variable(name):
    return "VNCGATE_" + name.upper().replace(".", "_")


def value(settings, name):
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


@pytest.fixture
def toml(tmp_path):
    """A function that writes a settings file and gives its path."""

    def write(text):
        path = tmp_path / "vncgate.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(*args, **kwargs):
    with pytest.raises(SettingsError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def test_nothing_needs_to_be_set():
    assert load() == Settings()
    assert load(environ={"PATH": "/bin"}) == Settings()


def test_the_samples_cover_every_setting():
    assert list(SAMPLES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_its_variable(name):
    text, expected = SAMPLES[name]
    settings = load(environ={variable(name): text})
    assert value(settings, name) == expected
    assert value(settings, name) != value(Settings(), name)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('kinds.x.place = "there"\nkinds.x.command = "a"', "kinds.x.place: there is no place 'there'; known are local"),
        ('kinds.x.comand = "a"', "desktops.kinds.x.comand: no such setting; did you mean desktops.kinds.x.command?"),
        ('kinds.x.title = "a"', "desktops.kinds.x.command: is missing"),
        (
            'kinds.x = {command = "a", geometry = "big"}',
            "desktops.kinds.x.geometry: write it as 1280x800 (it is 'big')",
        ),
        ('kinds.x = {command = "a", memory = "4GB"}', "desktops.kinds.x.memory: write it as 512M or 4G (it is '4GB')"),
        *(
            (
                f'kinds.x = {{command = "a", binds = ["/fine:ro", "{bind}"]}}',
                f"desktops.kinds.x.binds.1: write it as /outside:/inside or /outside:/inside:ro (it is '{bind}')",
            )
            for bind in ("data", "data:/data", "/data:data", "/a:/b:rx", "/a:/b:ro:ro", "/a::ro")
        ),
        *(
            (
                f'kinds.x = {{command = "a", environment = {{"{name}" = "1"}}}}',
                f"desktops.kinds.x.environment.{name}: write it as MY_VARIABLE: letters",
            )
            for name in ("MY-VAR", "A; id", "2B", "ü")
        ),
        ('kinds.x = {command = "a", time = "8h"}', "desktops.kinds.x.time: write it as 90 (minutes), 8:00:00 or "),
        (
            'kinds.x = {command = "a", home = "/s/{user}"}',
            "desktops.kinds.x.home: '{user}' stands for nothing: only {acc",
        ),
        (
            'kinds.x = {command = "a", overlay = "/s/{account"}',
            "desktops.kinds.x.overlay: '{account' stands for nothing",
        ),
        ('kinds.x = {command = "a", binds = ["/d", "/{a}:/a"]}', "desktops.kinds.x.binds.1: '{a}' stands for nothing"),
        ('places.x = {type = "local", user = "account}"}', "desktops.places.x.user: '}' stands for nothing"),
        ('kind.x.command = "a"', "desktops.kind: is a name; did you mean [desktops.kinds.x]?"),
        (
            'kinds.x = {command = "a", size.s.cores = 1}',
            "desktops.kinds.x.size: is a name; did you mean [desktops.kinds.x.s",
        ),
        (
            'kinds.x = {command = "a", sizes.s.home = "/h"}',
            "no such setting; it is one of the kind itself: write it below ",
        ),
        ("places.x = 1", "desktops.places.x: is a section: write [desktops.places.x]"),
        ('place.x.type = "ssh"', "desktops.place: no such setting; did you mean [desktops.places.x]?"),
        ('kinds.x = {command = "a", user = "b"}', "desktops.kinds.x.user: no such setting; it is one of places: "),
        ('places.x = {type = "local", image = "b"}', "desktops.places.x.image: no such setting; it is one of kinds: "),
        ('kinds.x = {command = "a", sizes.s.core = 1}', "desktops.kinds.x.sizes.s.core: no such setting"),
        ('kinds.x = {command = "a", size = "s"}', "desktops.kinds.x: size 's' is not among its sizes"),
        ('kinds.x = {command = "a", wrap = "apptainer"}', "desktops.kinds.x: wrap apptainer needs an image"),
        ('kinds.x = {command = "a", home = "x"}', "desktops.kinds.x: home: write it from the root on"),
        ('kinds.x = {command = "a", image = "-v/:/host"}', "desktops.kinds.x: image: its name cannot begin with -"),
        ('kinds.x = {command = "a", image = "a.sif"}', "kinds.x: its image is for wrap apptainer, or for a place"),
        ('kinds.x = {command = "a", policy = "pool"}', "policy pool needs to know how many to keep ready"),
        ('places.lock.type = "local"', "desktops: places.lock: a place cannot have this name"),
        ('places.x = {type = "ssh", hosts = "a[1-"}', "desktops.places.x.hosts: "),
        ('kinds."../x".command = "a"', "desktops.kinds.../x: write it as xfce or gpu-large: letters"),
        ('places.x.hosts = "a"', "desktops.places.x.type: is missing: one of local, ssh, slurm, docker"),
        ('places.x.type = "pbs"', "desktops.places.x.type: must be one of local, ssh, slurm, docker (it is 'pbs')"),
        ('places.x = {type = "ssh", hots = "a"}', "no such setting; did you mean desktops.places.x.hosts?"),
        (
            'places.x = {type = "slurm", folder = "/s", transport = "rest", rest = "h:6820"}',
            "needs rest, as http://host:6820",
        ),
        (
            'places.x = {type = "slurm", folder = "/s", transport = "rest", rest = "http://h", submit_host = "h"}',
            'submit_host is where commands are run: there are none with transport "rest"',
        ),
        ('places.x = {type = "slurm", folder = "/s", login = "h"}', 'login is for reach = "ssh"'),
        ('places.x = {type = "slurm", folder = "/s", submit_host = "-oX"}', "write it as login1 or school@login1"),
        ('kind = "x"\nkinds.y.command = "a"', "desktops: kind: there is no kind 'x'; known are y"),
        ('end = "tomorrow"', "desktops.end: write it with its zone, as 2026-03-06T18:00:00+01:00 (it is 'tomorrow')"),
        ("end = 2026-03-06T18:00:00", "as 2026-03-06T18:00:00+01:00 (it is 2026-03-06 18:00:00)"),
        ('end = "2026-03-06T18:00:00"', "desktops.end: write it with its zone, as 2026-03-06T18:00:00+01:00"),
        ("kinds = 3", "desktops.kinds: is a section"),
    ],
)
def test_what_desktops_are_made_of_is_checked(toml, lines, words):
    file = toml(f"[desktops]\n{lines}\n")
    said = refusal(file)
    assert said.startswith(f"{file}: ")
    assert words in said


def test_all_that_is_wrong_with_the_pages_is_told_at_once(toml):
    accent, logo = refusal(toml("[landing]\naccent = 'blue'\nlogo = 'x.exe'\n")).splitlines()
    assert "landing.accent: write it as #2563eb" in accent + logo
    assert "landing.logo: should end in .gif" in accent + logo


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(toml):
    file = toml("shared_port = 1\n[apache]\nform = 'guide'\nsnippet = 'f'\n")
    environ = {"VNCGATE_SHARED_PORT": "2", "VNCGATE_APACHE_SNIPPET": "e"}
    assert load(file).shared_port == 1
    assert load(file, environ).shared_port == 2
    settings = load(file, environ, {"shared_port": 3, "apache.snippet": "g", "web": None})
    assert settings.shared_port == 3
    assert settings.apache.snippet == Path("g")
    assert settings.apache.form is Form.GUIDE
    assert settings.web == Settings().web


def test_an_empty_text_and_off_take_away_what_the_file_set(toml):
    file = toml("web = '127.0.0.1:1'\n[landing]\nlogo = 'x.png'\n")
    settings = load(file, {"VNCGATE_LANDING_LOGO": "", "VNCGATE_WEB": "off", "VNCGATE_METRICS_ADDRESS": ""})
    assert settings.landing.logo is None
    assert settings.web is None
    assert settings.metrics.address is None


def test_variables_that_are_no_settings_of_ours_are_let_be():
    assert load(environ={"VNCGATE_REQUIRE_ALL": "1", "VNCGATE_CONFIG": "/x"}) == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shared_prot = 1", "shared_prot: no such setting; did you mean shared_port?"),
        ("title = 'x'", "title: no such setting; did you mean landing.title?"),
        ("[aapache]\nform = 'single'", "aapache: no such setting; did you mean apache?"),
        ("[apache]\nfrom = 'single'", "apache.from: no such setting; did you mean apache.form?"),
        ("[kinds.x]\ncommand = 'a'", "kinds: no such setting; did you mean [desktops.kinds.x]?"),
        ("[kind.x]\ncommand = 'a'", "kind: no such setting; did you mean [desktops.kinds.x]?"),
        ("'' = 1", ": no such setting"),
        ("apache = 3", "apache: is a section: write [apache] and its settings in the lines below"),
        ("[[landing]]\ntitle = 'x'", "landing: is a section: write [landing] and its settings in the lines below"),
        ("[shared_port]\nx = 1", "shared_port: input should be a valid integer (it is {'x': 1})"),
        ("shared_port = '80'", "shared_port: input should be a valid integer (it is '80')"),
        ("shared_port = true", "shared_port: input should be a valid integer (it is True)"),
        ("shared_port = 65536", "shared_port: input should be less than or equal to 65535 (it is 65536)"),
        ("probe = 1", "probe: input should be a valid boolean (it is 1)"),
        ("probe = 'yes'", "probe: input should be a valid boolean (it is 'yes')"),
        ("ping_interval = 0", "ping_interval: input should be greater than 0 (it is 0)"),
        ("ping_interval = inf", "ping_interval: input should be a finite number (it is inf)"),
        ("ping_interval = 1e308", "ping_interval: input should be less than or equal to 86400 (it is 1e+308)"),
        ("poll_interval = 86401", "poll_interval: input should be less than or equal to 86400 (it is 86401)"),
        ("connect_timeout = true", "connect_timeout: input should be a valid number (it is True)"),
        ("engine = 'Relay'", "engine: input should be 'relay' or 'websockify' (it is 'Relay')"),
        ("origins = [1]", "origins: input should be a valid string (it is 1)"),
        ("origins = 'example.org'", "origins: 'example.org' is no origin such as https://workshop.example.org"),
        ("origins = 'https://a/b'", "origins: 'https://a/b' is no origin such as https://workshop.example.org"),
        ("trusted_proxies = '10.0.0.0/8 x'", "trusted_proxies: 'x' is no address or network such as 10.0.0.0/8"),
        ("listen = 'host'", "listen: write an IP address, for example 127.0.0.1 or ::1 (it is 'host')"),
        ('[apache]\nreload = "a \'b"', 'apache.reload: no closing quotation (it is "a \'b")'),
        ("[landing]\nlogo = 3", "landing.logo: input should be a path (it is 3)"),
        ('[landing]\nlogo = "a\\u0000"', "landing.logo: a path cannot have a NUL character (it is 'a\\x00')"),
        ("[landing]\naccent = 'red'", "landing.accent: write it as #2563eb (it is 'red')"),
        (
            "log_level = 2024-01-01",
            "log_level: input should be 'debug', 'info', 'warning' or 'error' (it is 2024-01-01)",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_what_would_be_right(toml, text, expected):
    file = toml(text)
    assert refusal(file).startswith(f"{file}: {expected}")


def test_wrong_variables_and_flags_are_named_as_they_were_written():
    assert refusal(environ={"VNCGATE_PROB": "1"}) == "VNCGATE_PROB: no such setting; did you mean VNCGATE_PROBE?"
    assert refusal(environ={"VNCGATE_SHARED_PORT": "x"}) == (
        "VNCGATE_SHARED_PORT: input should be a valid integer (it is 'x')"
    )
    assert refusal(flags={"apache.form": "x"}) == "--apache-form: input should be 'guide' or 'single' (it is 'x')"
    assert refusal(flags={"apache.foo": "x"}).startswith("--apache-foo: no such setting")


def test_a_wrong_value_that_something_stronger_replaces_does_no_harm(toml):
    assert load(toml("shared_port = 'x'"), {"VNCGATE_SHARED_PORT": "5"}).shared_port == 5


def test_a_variable_does_not_hide_that_the_file_has_a_value_in_place_of_a_section(toml):
    file = toml("apache = 3")
    assert refusal(file, {"VNCGATE_APACHE_FORM": "guide"}).startswith(f"{file}: apache: is a section")


def test_all_problems_are_told_at_once(toml):
    lines = refusal(toml("probe = 1\nfoo = 2\n"), {"VNCGATE_X": ""}, {"shared_port": -1}).splitlines()
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"web = ", "is not TOML"),
        (b"web = '\xff'", "is not UTF-8"),
        (b"x = " + b"[" * 100_000, "is not TOML"),
        (b"x = " + b"1" * 5000, "is not TOML"),
    ],
)
def test_a_file_that_is_no_toml(toml, text, expected):
    file = toml(text)
    assert refusal(file).startswith(f"{file}: {expected}")


def test_a_file_that_cannot_be_read(tmp_path):
    assert refusal(tmp_path / "none") == f"{tmp_path}/none: cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_from_an_editor_that_writes_a_byte_order_mark(toml):
    assert load(toml(b"\xef\xbb\xbfshared_port = 5\r\n")).shared_port == 5


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        (":80", "127.0.0.1", 80),
        ("[::1]:80", "::1", 80),
        ("localhost:0", "localhost", 0),
        ("gate.example.org:65535", "gate.example.org", 65535),
    ],
)
def test_host_and_port(text, host, port):
    web = load(flags={"web": text}).web
    assert (web.host, web.port) == (host, port)
    assert load(flags={"web": str(web)}).web == web


@pytest.mark.parametrize(
    "text", ["8080", "::1:80", "a:", "a b:80", "[g]:80", "a:x", "a:٣", "http://a:80", "a:-1", "[::1]"]
)
def test_no_host_and_port(text):
    assert 'write it as "HOST:PORT"' in refusal(flags={"web": text})


def test_brackets_are_for_ipv6():
    assert refusal(flags={"web": "[a]:80"}) == "--web: at least 3 parts expected in 'a' (it is '[a]:80')"


@pytest.mark.parametrize("text", ["web = 8080", "web = false", "[web]\nhost = 'a'\nport = 1"])
def test_host_and_port_are_a_text(toml, text):
    assert 'web: write it as "HOST:PORT"' in refusal(toml(text))


def test_what_is_loopback():
    for web, expected in {"127.0.0.9:1": True, "[::1]:1": True, "localhost:1": True, "0.0.0.0:1": False}.items():
        assert load(flags={"web": web}).web.is_loopback is expected


def inline(value):
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(k)} = {inline(v)}" for k, v in value.items()) + "}"
    return repr(value) if not isinstance(value, float) or math.isfinite(value) else str(value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = st.sampled_from([*NAMES, *Settings.model_fields, *(n.partition(".")[2] for n in NAMES), "host", "port"]) | texts
values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | texts
    | st.sampled_from([s for s, _ in SAMPLES.values()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(deadline=None)
@given(
    st.dictionaries(keys, values, max_size=4),
    st.dictionaries(st.sampled_from([variable(n) for n in NAMES]) | texts.map("VNCGATE_".__add__), texts, max_size=3),
    st.dictionaries(st.sampled_from(NAMES) | texts, texts | st.integers() | st.none(), max_size=2),
)
def test_whatever_the_sources_say_there_are_settings_or_a_settings_error(tmp_path_factory, table, environ, flags):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text("\n".join(f"{inline(key)} = {inline(value)}" for key, value in table.items()), newline="\n")
    with contextlib.suppress(SettingsError):
        assert isinstance(load(file, environ, flags), Settings)


def shown(default, meaning):
    """A default as the tables have it; a `meaning` tells what None is written as: None ("auto")."""
    match default:
        case None if written := re.search(r'None \("(\w+)"\)', meaning):
            return f"`{written[1]}`"
        case None:
            return "*none*"
        case () | "" | PerLanguage(texts={}):
            return "*empty*"
        case bool():
            return f"`{str(default).lower()}`"
        case tuple():
            return f"`{' '.join(default)}`"
        case Enum():
            return f"`{default.value}`"
        case _:
            return f"`{default}`"


def tables():
    """The tables of all settings, a section each."""
    lines = []
    section = None
    for name, info in _fields().items():
        if name.rpartition(".")[0] != section:
            section = name.rpartition(".")[0]
            lines += ["", f"## [{section}]" if section else "## General settings", ""]
            if section:
                lines += [Settings.model_fields[section].annotation.__doc__, ""]
            lines += ["| Setting | Variable | Default | Meaning |", "|---|---|---|---|"]
        key = name.rpartition(".")[2]
        meaning = " ".join((info.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{key}` | `{variable(name)}` | {shown(info.default, meaning)} | {meaning} |")
    for title, model in NAMED.items():
        lines += ["", f"## {title}", "", model.__doc__, "", "| Setting | Default | Meaning |", "|---|---|---|"]
        for key, info in model.model_fields.items():
            meaning = " ".join((info.description or "").split()).replace("|", "\\|")
            if meaning:
                default = "**required**" if info.is_required() else shown(info.default, meaning)
                lines.append(f"| `{key}` | {default} | {meaning} |")
    return "\n".join([*lines, "", ""])


def with_tables(text):
    return re.sub(r"(?s)(?<=<!-- tables -->\n).*(?=<!-- /tables -->)", lambda _: tables(), text)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_says_what_it_means(name):
    assert _fields()[name].description


def test_the_document_is_current():
    text = DOCUMENT.read_text()
    assert text == with_tables(text), "bring it up to date: .venv/bin/python tests/test_settings.py"


def test_the_documents_example_is_good(toml):
    example = re.search(r"(?s)```toml\n(.*?)```", DOCUMENT.read_text())[1]
    assert load(toml(example)).landing.accent == "#00696f"
    assert len(tomllib.loads(example)) > 4


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
