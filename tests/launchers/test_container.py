"""Tests of vncgate.launchers.container, and of the template that it reads: YAML from values, arguments from YAML."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.launchers.test_scripts import GOLDEN, HOSTILE, spec
from vncgate.errors import LaunchError
from vncgate.kinds import DockerPlace
from vncgate.launchers.container import Person, parse, quote
from vncgate.launchers.scripts import Scripts

PLACE = DockerPlace(type="docker")
ROOT = Person("root", 0, 0)

texts = st.text(st.characters(blacklist_characters="\0"))
names = st.text(st.characters(blacklist_characters="\0"), max_size=20)  # YAML's keys are no longer than 1024
plain = texts | st.integers() | st.booleans() | st.none()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=8)


@given(values)
@example(HOSTILE)
@example(["\x7f\x85\u2028\ufeff", "\U0001f600", "\udc80", "{{ x }}", "yes", "1e3", "null", "- a: b", "\t", "'"])
def test_whatever_is_quoted_is_that_value_in_yaml(value):
    assert yaml.safe_load(f"key: {quote(value)}\n") == {"key": value}


def test_a_nul_cannot_be_quoted():
    with pytest.raises(LaunchError, match="NUL"):
        quote(["a", {"b": "c\0"}])


def rendered(folder: str = "/run/vg/0123456789abcdef", person: Person = ROOT, users: str = "", templates=None, **kind):
    made = spec(image="desktop:1", **kind)
    return Scripts(templates).container(made, folder, PLACE, person, users)


def test_the_container_of_a_desktop():
    container = rendered(
        person=Person("ws01", 1001, 1002, (44, 100), "keep-id"),
        users="/run/vg/users",
        account="ws01",
        home="/scratch/ws01",
        binds=["/data:/data:ro", "/soft", "/scratch/{account}/tmp:/var/tmp"],
        cores=2,
        memory="4G",
        gpus=1,
        extra=["--init", "--hostname=desk"],
    )
    text = "".join(f"{word}\n" for word in container.argv("vncgate-0123456789abcdef"))
    assert text == (GOLDEN / "container.txt").read_text()


def test_hostile_values_are_one_argument_each():
    folder = f"/run/{HOSTILE}, readonly"
    container = rendered(folder, account=HOSTILE, home=f"/home/{HOSTILE}", binds=['/a,b"c:/d,type=tmpfs'])
    argv = container.argv("vncgate-x")
    assert argv[argv.index("desktop:1") + 1 :][-1] == folder
    assert f"--label=vncgate.account={HOSTILE}" in argv
    mounts = [next(csv.reader([word.removeprefix("--mount=")], strict=True)) for word in argv if "--mount" in word]
    assert ["type=bind", 'source=/a,b"c', "target=/d,type=tmpfs"] in mounts
    sources = [field for mount in mounts for field in mount if field.startswith("source=/run")]
    assert "".join(sources).startswith('source=/run/o\'neil "the" $(touch pwned)')


def test_no_image_can_be_an_option():
    with pytest.raises(LaunchError, match="image"):
        parse("image: --privileged")


def test_what_is_left_out_gives_no_argument():
    container = parse("{image: a, user: '', groups: [], network: null, labels: {}, limits: {memory: null}}")
    assert container.argv("n") == ["run", "--detach", "--pull=never", "--name=n", "a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image: a\nprivileged: true\n", "privileged: there is no such key"),
        ("image: a\nlimits: {cpu: 1}\nmount: []\n", "limits.cpu: there is no such key; mount: there is no such key"),
        ("image: a\nmounts: [{source: /a}]\n", "mounts.0.target: Field required"),
        ("image: a\ncommand: [1]\n", "command.0: Input should be a valid string"),
        ("image: a\n  b: [\n", "line 2 of what it gave"),
        ("- a\n", "the whole: Input should be"),
        ("", "the whole: Input should be"),
        ("image: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    ],
)
def test_a_template_that_gives_something_else_is_told_what(text, words):
    with pytest.raises(LaunchError) as error:
        parse(text)
    assert str(error.value).startswith("container.yml.j2")
    assert words in str(error.value)


def test_a_sites_own_template_goes_first(tmp_path: Path):
    (tmp_path / "container.yml.j2").write_text("image: {{ image }}\ncommand: [sleep, {{ account }}]\nnetwork: lab\n")
    argv = rendered(templates=tmp_path, account="o'neil: x").argv("n")
    assert argv[-4:] == ["--network=lab", "desktop:1", "sleep", "o'neil: x"]
