"""The app for Open OnDemand against golden files, with names that mean something in YAML, ERB, Ruby and bash.

Run as a program, it writes the golden files. tests/real/test_ood.py has Ruby read them.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from vncgate.errors import SettingsError
from vncgate.kinds import DesktopsSettings
from vncgate.render.ood import SCRIPT, files

GOLDEN = Path(__file__).parents[1] / "golden" / "ood"
TITLE = 'It\'s <%= `id` %> "quoted" #{x} \a \u00fc \U0001f600 %> -%> \\'
EXTRA = ["--constraint=a&b", "--comment=<%= 1 %> \" ' %>"]
SETTINGS = r"""
[places.hpc]
type = "slurm"
folder = "/scratch/vncgate"
partition = "viz"
account = "school"

[places.big]
type = "slurm"
folder = "/scratch/vncgate"
cluster = "big"
qos = "interactive"
reservation = "work shop"

[kinds.here]
command = "xterm"

[kinds.xfce]
title = "Xfce"
place = "hpc"
command = "startxfce4"
cores = 2
memory = "4G"
time = "08:00:00"
size = "small"
[kinds.xfce.sizes.large]
cores = 8
memory = "32G"
gpus = 2
partition = "gpu"
geometry = "1920x1080"
[kinds.xfce.sizes.small]

[kinds.hostile]
place = "big"
command = ["gedit", "a b", "$(id)", "<%= 1 %>", "it's", ""]
window_manager = "openbox --config '/a b'"
setup = "module load a\necho \"<%= x %>\" 'b'"
environment = {A = "x y", B = "$HOME `id` <% %> ' \" \\ {account}", C = "two\nlines"}
home = "/scratch/school of {account}/home"
depth = 16

[kinds.contained]
place = "hpc"
command = "gedit"
wrap = "apptainer"
image = "/images/desk top.sif"
binds = ["/data:/data:ro", "/scratch/{account}"]
home = "/scratch/{account}"
"""


def settings(text=SETTINGS):
    values = tomllib.loads(text)
    if "hostile" in values["kinds"]:
        values["kinds"]["hostile"] |= {"title": TITLE, "extra": EXTRA}
    return DesktopsSettings.model_validate(values)


def inside(argv, kind, folder, home, account):
    return [["prepare", kind.image], ["inside", kind.image, *kind.binds, folder, home, account, *argv]]


def app():
    return files(settings(), inside)


@pytest.mark.parametrize("name", ["manifest.yml", "form.yml", "submit.yml.erb", SCRIPT])
def test_golden(name):
    assert app()[name] == (GOLDEN / name).read_text()
    assert len(app()) == 4


def test_what_is_only_yaml_is_read_as_it_was_meant():
    manifest, form = yaml.safe_load(app()["manifest.yml"]), yaml.safe_load(app()["form.yml"])
    assert manifest["role"] == "batch_connect"
    assert TITLE in manifest["description"]
    assert form["form"] == ["desktop"]
    assert form["attributes"]["desktop"]["options"] == [
        ["Xfce, small (2 cores, 4G, 08:00:00)", "xfce/small"],
        ["Xfce, large (8 cores, 32G, 2 GPUs, 08:00:00)", "xfce/large"],
        [TITLE, "hostile"],
        ["contained", "contained"],
    ]


def test_each_choice_has_its_resources():
    head, *cases = re.split(r"<%- when '(.*)' -%>\n", app()["submit.yml.erb"])
    found = {}
    for choice, text in zip(cases[::2], cases[1::2], strict=True):
        found[choice] = yaml.safe_load(text.partition("<%- else")[0].replace("<%%", "<%"))
    assert head.endswith("---\n<%- case desktop -%>\n")
    assert found["xfce/large"] == {
        "cluster": "hpc",
        "batch_connect": {"template": "vnc", "geometry": "1920x1080"},
        "script": {
            "native": [
                *("--nodes=1", "--ntasks=1", "--no-requeue", "--cpus-per-task=8", "--mem=32G", "--gres=gpu:2"),
                *("--time=08:00:00", "--partition=gpu", "--account=school"),
            ]
        },
    }
    hostile = found["hostile"]
    assert (hostile["cluster"], hostile["batch_connect"]["extra_args"]) == ("big", "-depth 16")
    assert hostile["script"]["native"][3:] == ["--qos=interactive", "--reservation=work shop", *EXTRA]


def test_erb_finds_no_tags_but_ours():
    for name in ("submit.yml.erb", SCRIPT):
        tags = re.findall(r"(?<!<)<%(?!%)(.*?)%>", app()[name])
        assert all(re.fullmatch(r"- (case|when|else|end|raise).*-|# Written by .*-", tag) for tag in tags), tags


def test_one_kind_gives_the_app_its_name():
    text = SETTINGS.partition("[kinds.hostile]")[0]
    assert yaml.safe_load(files(settings(text), inside)["manifest.yml"])["name"] == "Xfce"


def test_without_a_kind_for_slurm_there_is_no_app():
    with pytest.raises(SettingsError, match="none has a place of type slurm"):
        files(settings('[kinds.here]\ncommand = "xterm"'), inside)


if __name__ == "__main__":
    for name, text in app().items():
        (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
        (GOLDEN / name).write_text(text)
