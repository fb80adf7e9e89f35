"""The app for Open OnDemand, read as that reads it: by Ruby's ERB (trim mode `-`) and YAML, then run by bash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.render.test_ood import EXTRA, TITLE, app
from vncgate.kinds import DesktopsSettings
from vncgate.launchers import apptainer
from vncgate.render.ood import SCRIPT, files

RUBY = shutil.which("ruby")
pytestmark = [pytest.mark.real, pytest.mark.skipif(RUBY is None, reason="there is no ruby")]

PROGRAM = """
require 'erb'; require 'json'; require 'ostruct'; require 'yaml'
asked = JSON.parse(STDIN.read)
puts JSON.generate(asked.map do |text, choice, is_yaml|
  context = OpenStruct.new(desktop: choice)
  context.context = context
  begin
    said = ERB.new(text, trim_mode: '-').result(context.instance_eval { binding })
    is_yaml ? YAML.safe_load(said) : said
  rescue StandardError => error
    "refused: #{error.message}"
  end
end)
"""


def rendered(*asked):
    """What Ruby makes of texts, each with the choice of the form, and whether it is YAML."""
    done = subprocess.run(
        [RUBY, "-Ku", "-e", PROGRAM], input=json.dumps(asked), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_choice_of_the_form_can_be_submitted_and_no_other():
    form, manifest = rendered((app()["form.yml"].replace("<%", "<%%"), "", True), (app()["manifest.yml"], "", False))
    options = form["attributes"]["desktop"]["options"]
    assert options[2][0] == TITLE
    assert manifest
    choices = [choice for _, choice in options]
    submit = app()["submit.yml.erb"]
    said = rendered(*((submit, choice, True) for choice in [*choices, "here", "xfce", "' or '", None]))
    assert said[4:] == ["refused: there is no such desktop"] * 4
    small, large, hostile, contained = said[:4]
    assert small["script"]["native"][3:] == [
        *("--cpus-per-task=2", "--mem=4G", "--time=08:00:00", "--partition=viz", "--account=school"),
    ]
    assert large["batch_connect"] == {"template": "vnc", "geometry": "1920x1080"}
    assert hostile["script"]["native"][-2:] == EXTRA
    assert contained["cluster"] == "hpc"


def run(script, folder, **environ):
    (folder / "script.sh").write_text(script)
    subprocess.run(["bash", "-n", "script.sh"], cwd=folder, check=True, timeout=10)
    (folder / "home").mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "USER": "ada", "DISPLAY": ":77"} | environ
    done = subprocess.run(["bash", "script.sh"], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, timeout=30)
    return done.returncode, done.stdout


def session(inside=None, **kind):
    values = {"places": {"hpc": {"type": "slurm", "folder": "/x"}}, "kinds": {"k": {"place": "hpc", **kind}}}
    (script,) = rendered((files(DesktopsSettings.model_validate(values), inside)[SCRIPT], "k", False))
    return script


def test_every_word_arrives_as_it_is_written(tmp_path):
    words = ["a b", "$(id)", "<%= 1 %>", "<%", "<%%", "%>", "-%>", "it's", "", "{account}", "\\n", "two\nlines", "é"]
    script = session(
        command=["sh", "-c", 'printf "%s|" "$HOME" "$PWD" "$VALUE" "$FROM_SETUP" "$DISPLAY" "$@"', "sh", *words],
        environment={"VALUE": "$HOME `id` ' \" {account}"},
        setup='FROM_SETUP="it\'s <%= set %>"\nexport FROM_SETUP',
        window_manager=["true"],
        home=f"{tmp_path}/of {{account}}",
    )
    status, out = run(script, tmp_path)
    home = f"{tmp_path}/of ada"
    assert status == 0
    assert out.split("|")[:-1] == [home, home, "$HOME `id` ' \" {account}", "it's <%= set %>", ":77", *words]


def test_a_session_in_an_image_gets_display_and_cookie(tmp_path):
    """With an `apptainer` of ours, which tells how it was called and runs what it is given."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "apptainer"
    fake.write_text(
        '#!/bin/bash\nprintf "%s\\n" "$@"; while [ "$1" != image.sif ]; do shift; done; shift; cd / && exec "$@"\n'
    )
    fake.chmod(0o755)
    (tmp_path / "image.sif").touch()
    (tmp_path / "cookie").write_text("a cookie")
    script = session(
        apptainer.commands,
        command=["sh", "-c", 'echo "in: $DISPLAY $(cat "$XAUTHORITY")"'],
        wrap="apptainer",
        image="image.sif",
        binds=["/data:/data:ro"],
    )
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    status, out = run(script, tmp_path, PATH=path, XAUTHORITY=f"{tmp_path}/cookie")
    assert status == 0
    assert out.splitlines()[-1] == "in: :77 a cookie"
    assert "type=bind,src=/tmp/.X11-unix,dst=/tmp/.X11-unix" in out.splitlines()
    assert f"type=bind,src={tmp_path},dst={tmp_path}" in out.splitlines()
    assert "type=bind,src=/data,dst=/data,ro" in out.splitlines()


def test_a_choice_that_the_form_has_not_runs_nothing(tmp_path):
    (script,) = rendered((app()[SCRIPT], "$(id)/x", False))
    assert run(script, tmp_path) == (1, "")
