"""Slurm's commands as it is run: their arguments, their environment, and what they answer with."""

import pwd
import threading
from pathlib import Path

import pytest

from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import slurm_commands, slurm_jobs
from vncgate.launchers.slurm_commands import Commands

SOMEBODY = pwd.getpwuid(65534)


@pytest.fixture
def command(tmp_path):
    """Makes a command of some lines of sh; what it was given is in `<name>.seen` afterwards."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, script):
        path = folder / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{path}.seen; env >{path}.env\n{script}\n')
        path.chmod(0o755)
        return Path(f"{path}.seen")

    return make


@pytest.fixture
def commands(tmp_path):
    return lambda **more: Commands(
        SlurmPlace(**{"type": "slurm", "folder": tmp_path, "commands": tmp_path / "bin"} | more)
    )


async def test_submitting(command, commands, tmp_path):
    seen = command("sbatch", f"cat >{tmp_path}/script; echo 'sbatch: warning: hm' >&2; echo 17")
    assert await commands().submit("#!/bin/bash\nexit\n", None) == "17"
    assert seen.read_text().split() == ["--parsable"]
    assert (tmp_path / "script").read_text() == "#!/bin/bash\nexit\n"


async def test_submitting_as_somebody_to_a_cluster(command, commands):
    seen = command("sbatch", "echo '17;east'")
    assert await commands(cluster="east").submit("", SOMEBODY) == "17"
    assert seen.read_text().split() == ["--parsable", "--clusters=east", "--uid=65534", f"--gid={SOMEBODY.pw_gid}"]


async def test_nothing_of_the_gates_environment_but_what_commands_need(command, commands, monkeypatch, tmp_path):
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JWT", "secret")
    monkeypatch.setenv("CONDA_PREFIX", "/opt/conda")
    seen = command("sbatch", "echo 1")
    await commands(conf=tmp_path / "east.conf").submit("", None)
    environ = dict(line.split("=", 1) for line in seen.with_suffix(".env").read_text().splitlines())
    assert environ["SLURM_CONF"] == f"{tmp_path}/east.conf"
    assert "PATH" in environ
    assert not {"SBATCH_PARTITION", "SLURM_JOB_ID", "SLURM_JWT", "CONDA_PREFIX", "SLURM_TIME_FORMAT"} & set(environ)


@pytest.mark.parametrize(
    ("users", "filters"), [([""], ["--user=4321"]), (["ada"], ["--user=ada"]), (["ada", "bob"], []), ([], [])]
)
async def test_asking_for_jobs(command, commands, monkeypatch, users, filters):
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    seen = command("squeue", "")
    assert await commands(cluster="east").jobs(users) == []
    words = seen.read_text().split()
    assert words[:2] == ["--states=all", "--noheader"]
    assert words[2].startswith("--Format=JobID:20")
    assert words[3:] == [*filters, "--clusters=east"]
    assert "SLURM_TIME_FORMAT=%s\n" in seen.with_suffix(".env").read_text()


async def test_what_squeue_lists_is_read_outside_of_the_loop(command, commands, monkeypatch):
    command("squeue", "")
    threads = []
    monkeypatch.setattr(slurm_jobs, "parse_rows", lambda *_: threads.append(threading.current_thread()))
    await commands().jobs(["ada"])
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize(
    "script",
    ["echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1", "echo 'squeue: error: Invalid user: ada' >&2"],
)
async def test_no_list_is_not_an_empty_list(command, commands, script):
    command("squeue", script)
    with pytest.raises(SilentError):
        await commands().jobs(["ada"])


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (
            "echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1",
            LaunchError,
        ),
        ("echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1", UnsureError),
        ("echo what", LaunchError),
    ],
)
async def test_no_number_is_no_job(command, commands, script, error):
    command("sbatch", script)
    with pytest.raises(LaunchError) as caught:
        await commands().submit("", None)
    assert type(caught.value) is error


async def test_a_command_that_hangs_is_ended(command, commands, monkeypatch, tmp_path):
    command("sbatch", "sleep 1000 & wait")
    monkeypatch.setattr(slurm_commands, "SUBMIT_TIMEOUT", 0.2)
    with pytest.raises(UnsureError, match=r"sbatch did not end within 0\.2 s"):
        await commands().submit("", None)


async def test_a_command_that_is_not_there_is_named(command, commands):
    command("sbatch", "")
    with pytest.raises(LaunchError, match=r"scancel is not in .*bin: install"):
        await commands().cancel("7")
    command("scancel", "").with_suffix("").write_text("#!/no/such/shell\n")
    with pytest.raises(LaunchError, match=r"scancel cannot be run: No such file or directory"):
        await commands().cancel("7")


async def test_cancelling(command, commands):
    seen = command("scancel", "echo 'scancel: error: Kill job error on job id 7: Invalid job id specified' >&2; exit 1")
    await commands(cluster="east").cancel("7")
    assert seen.read_text().split() == ["--clusters=east", "7"]
    command("scancel", "echo 'scancel: error: Kill job error on job id 7: Access/permission denied' >&2")
    with pytest.raises(LaunchError, match="may not"):
        await commands().cancel("7")
