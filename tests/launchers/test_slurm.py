"""The place `slurm` without a cluster: when it asks, what it does in doubt, what its job is."""

import asyncio
import contextlib
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import Kind, SlurmPlace
from vncgate.launchers import slurm, slurm_errors
from vncgate.launchers.base import Handle, Seen, Spec
from vncgate.launchers.scripts import Scripts, quote_job
from vncgate.launchers.slurm import Slurm
from vncgate.launchers.slurm_jobs import Job
from vncgate.model import Desktop, Secret

GOLDEN = Path(__file__).parents[1] / "golden" / "scripts" / "job.sh"
NONCE = "0123456789abcdef"
HOSTILE = 'o\'neil "the" $(touch pwned) `touch pwned` \\ # %j ~ * \u202e\u2028 ü'


def now():
    return asyncio.get_running_loop().time()


class Cluster:
    """A transport of tests: jobs by number, and when it was asked for them."""

    def __init__(self):
        self.all = {}
        self.asked = []
        self.users = []
        self.scripts = []
        self.trouble = None
        self.lasts = 0.0  # seconds that an answer takes
        self.to_die = 0  # further questions that a cancelled job is listed as ending
        self.cancelled = []
        self.located = []

    async def whoami(self):
        return "school"

    async def submit(self, script, owner):
        number = str(len(self.scripts) + 1)
        self.scripts.append(script)
        nonce = script.partition("--comment=")[2].split("\n")[0]
        self.all[number] = Job(number, "PENDING", "Priority", comment=nonce, user="school")
        if self.trouble:
            raise self.trouble
        return number

    async def jobs(self, users):
        self.asked.append(now())
        self.users.append(sorted(users))
        if self.lasts:
            await asyncio.sleep(self.lasts)
        if self.trouble:
            raise self.trouble
        for number in set(self.cancelled):
            self.to_die -= 1
            if self.to_die < 0:
                self.all.pop(number, None)
        return list(self.all.values())

    async def cancel(self, job):
        self.cancelled.append(job)
        self.all[job] = Job(job, "COMPLETING", comment=self.all[job].comment)

    async def address(self, node):
        self.located.append(node)
        return f"10.0.0.{node.removeprefix('n')}"

    async def aclose(self):
        pass


class Here:
    """A share whose work is done at once, so that a clock that jumps does not run ahead of it."""

    async def do(self, work, *args):
        return work(*args)


@pytest.fixture
def cluster():
    return Cluster()


# --- The place --------------------------------------------------------------------------------------------------------


def spec(nonce=NONCE, account="ws01", kind=None, **more):
    return Spec(account, nonce, "", kind or Kind(command="xterm"), Secret("secret01"), **more)


@pytest.fixture
async def place(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(slurm, "Commands", lambda *_: cluster)
    settings = SlurmPlace(type="slurm", folder=tmp_path / "shared", user="root" if os.geteuid() == 0 else "")
    place = Slurm("hpc", settings, tmp_path / "gate", Scripts(None))
    place._share = place._scripts.files = Here()
    yield place
    await place.aclose()


def sessions(place):
    return sorted(path.name for path in place._settings.folder.glob("*"))


@pytest.mark.virtual_time
async def test_a_desktop_from_the_queue_to_its_end(place, cluster):
    handle = await place.submit(spec())
    assert handle == Handle("hpc", "ws01", NONCE, job="1")
    assert (await place.query(handle)).reason == "other jobs are before it"
    cluster.all["1"] = Job("1", "RUNNING", host="n1", comment=f"vncgate:{NONCE}", ends=500.0)
    await asyncio.sleep(3)
    seen = await place.query(handle)
    assert (seen.seen, seen.desktop, seen.host, seen.ends) == (Seen.RUNNING, None, "n1", 500.0)
    folder = place._folder(handle)
    # Where its node is, only the cluster can say: the report may be any participant's work.
    (folder / "report").write_text(f"{NONCE} unix /run/docker.sock\n")
    assert (await place.query(handle)).desktop is None
    (folder / "report").write_text(f"{NONCE} tcp evil.example.org 5901\n")
    assert (await place.query(handle)).desktop == Desktop("10.0.0.1", 5901)
    assert (await place.query(handle)).desktop == Desktop("10.0.0.1", 5901)
    assert cluster.located == ["n1"]
    await place.cancel(handle)
    assert (sessions(place), cluster.cancelled) == ([], ["1"])
    assert (await place.query(handle)).seen is Seen.GONE


@pytest.mark.virtual_time
async def test_a_new_job_is_not_looked_for_in_an_old_answer(place, cluster):
    first = await place.submit(spec())
    await place.query(first)
    second = await place.submit(spec("f" * 16))
    assert (await place.query(second)).seen is Seen.PENDING
    assert len(cluster.asked) == 2


@pytest.mark.virtual_time
async def test_a_user_whose_jobs_were_not_asked_for_is_not_without_jobs(place, cluster):
    await place.query(Handle("hpc", "ws01", NONCE))
    await place.query(Handle("hpc", "ws02", "f" * 16, user="ada"))
    assert cluster.users == [[""], ["", "ada"]]


@pytest.mark.virtual_time
async def test_a_silent_cluster_ends_nothing(place, cluster):
    handle = await place.submit(spec())
    cluster.trouble = SilentError("nobody there")
    seen = await place.query(handle)
    assert (seen.seen, seen.reason) == (Seen.UNKNOWN, "nobody there")
    with pytest.raises(LaunchError, match="nobody there"):
        await place.cancel(handle)
    assert sessions(place) == [NONCE]


@pytest.mark.virtual_time
async def test_a_share_that_hangs_says_nothing_of_a_desktop(place, cluster):
    handle = await place.submit(spec())
    cluster.all["1"] = Job("1", "RUNNING", comment=f"vncgate:{NONCE}")

    async def do(work, *args):
        raise LaunchError("it hangs")

    place._share.do = do
    assert (await place.query(handle)).seen is Seen.UNKNOWN


@pytest.mark.virtual_time
@pytest.mark.parametrize("error", [LaunchError("refused"), SilentError("cannot be reached now")])
async def test_a_job_that_was_refused_leaves_nothing(place, cluster, error):
    cluster.trouble = error
    with pytest.raises(LaunchError, match=str(error)):
        await place.submit(spec())
    assert sessions(place) == []
    assert cluster.asked == []


@pytest.mark.virtual_time
async def test_a_job_of_which_nobody_knows_whether_it_was_taken_is_looked_for(place, cluster):
    cluster.trouble = UnsureError("no answer in time")
    submitting = asyncio.ensure_future(place.submit(spec()))
    await asyncio.sleep(8)
    assert not submitting.done()
    cluster.trouble = None
    assert (await submitting).job == "1"
    assert sessions(place) == [NONCE]


@pytest.mark.virtual_time
async def test_a_cluster_that_answers_before_it_comes_to_the_job_is_asked_again(place, cluster):
    cluster.trouble = UnsureError("no answer in time")
    submitting = asyncio.ensure_future(place.submit(spec()))
    await asyncio.sleep(8)
    cluster.trouble, later, cluster.all = None, cluster.all, {}
    while len(cluster.asked) < 4:
        await asyncio.sleep(1)
    cluster.all = later
    assert (await submitting).job == "1"


@pytest.mark.virtual_time
async def test_a_job_that_was_not_taken_is_an_error(place, cluster):
    cluster.trouble = UnsureError("no answer in time")
    submitting = asyncio.ensure_future(place.submit(spec()))
    await asyncio.sleep(8)
    cluster.trouble, cluster.all = None, {}
    with pytest.raises(LaunchError, match="no answer in time"):
        await submitting
    assert sessions(place) == []


@pytest.mark.virtual_time
async def test_a_cluster_that_stays_silent_is_not_waited_for_without_end(place, cluster):
    cluster.trouble = UnsureError("no answer in time")
    with pytest.raises(LaunchError, match="no answer in time"):
        await place.submit(spec())
    assert now() < slurm.DOUBT_TIMEOUT + 4
    assert sessions(place) == []  # where it turns up later it finds nothing to run


@pytest.mark.virtual_time
async def test_ending_waits_until_the_job_has_left(place, cluster):
    handle = await place.submit(spec())
    cluster.to_die = 4
    await place.cancel(handle)
    assert now() >= 12
    assert sessions(place) == []


@pytest.mark.virtual_time
async def test_a_job_that_does_not_end_keeps_its_files(place, cluster):
    handle = await place.submit(spec())
    cluster.to_die = 1000
    with pytest.raises(LaunchError, match="does not end within 120 s"):
        await place.cancel(handle)
    assert sessions(place) == [NONCE]


@pytest.mark.virtual_time
async def test_a_job_of_somebody_else_with_its_comment_is_left_alone(place, cluster):
    """Everybody sees the comment in the queue: while the number is not known, a job like it could be put there."""
    cluster.all["9"] = Job("9", "RUNNING", host="evil", comment=f"vncgate:{NONCE}", user="mallory")
    handle = Handle("hpc", "ws01", NONCE)
    assert (await place.query(handle)).seen is Seen.GONE
    await place.cancel(handle)
    assert cluster.cancelled == []
    cluster.all["1"] = Job("1", "RUNNING", host="n1", comment=f"vncgate:{NONCE}", user="school")
    await asyncio.sleep(3)
    assert (await place.query(handle)).host == "n1"


@pytest.mark.virtual_time
async def test_a_job_that_slurm_put_back_in_its_queue_is_no_desktop_any_more(place, cluster):
    handle = await place.submit(spec())
    for state in ("PENDING", "RUNNING", "FAILED"):
        cluster.all["1"] = Job("1", state, host="n1", comment=f"vncgate:{NONCE}", restarts=1)
        await asyncio.sleep(3)
        seen = await place.query(handle)
        assert (seen.seen, seen.exit_status) == (Seen.GONE, None)
        assert "higher priority" in seen.reason
    cluster.all["1"] = Job("1", "PENDING", comment=f"vncgate:{NONCE}", restarts=1)
    await asyncio.sleep(3)
    await place.cancel(handle)
    assert cluster.cancelled == ["1"], "nor does it begin again later"


@pytest.mark.virtual_time
async def test_what_slurm_says_in_its_own_words_is_in_the_log_once_and_nowhere_else(place, cluster, caplog):
    cluster.trouble = slurm_errors.problem("sbatch: error: Batch job submission failed: /etc/secret of plugin x: 42\n")
    for nonce in (NONCE, "f" * 16):
        with pytest.raises(LaunchError) as error:
            await place.submit(spec(nonce))
        assert "plugin" not in str(error.value)
    said = [record.getMessage() for record in caplog.records]
    words = "hpc: Slurm did not do as it was asked; the gate's log has what it said. "
    assert [line for line in said if "plugin" in line] == [f"{words}Slurm said: /etc/secret of plugin x: 42"]


class Roads:
    """Ways of tests: who is led where."""

    def __init__(self):
        self.led, self.ended, self.looks = [], [], []

    async def lead(self, nonce, through, there):
        assert self.looks == [nonce], "an end while this lasts would be forgotten"
        self.led.append((through, there))
        return Desktop(unix=f"/gate/{nonce}")

    def end(self, nonce):
        self.ended.append(nonce)

    @contextlib.contextmanager
    def look(self, nonce):
        self.looks.append(nonce)
        yield
        self.looks.remove(nonce)

    def close(self):
        pass


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("login", "user", "led", "listens"),
    [
        ("", "", (("10.0.0.1", ""), ("127.0.0.1", 5901)), "-localhost)"),
        ("login1", "", (("login1", ""), ("10.0.0.1", 5901)), "-localhost=0)"),
        ("school@login1", "", (("login1", "school"), ("10.0.0.1", 5901)), "-localhost=0)"),
    ],
)
async def test_through_ssh_the_cluster_says_where_to_and_the_server_listens_as_narrowly_as_it_can(
    place, cluster, login, user, led, listens
):
    place._settings = place._settings.model_copy(update={"reach": "ssh", "login": login})
    roads = place._ways = Roads()
    handle = await place.submit(spec(user=user))
    assert f"options+=({listens}" in (place._folder(handle) / "desktop.sh").read_text()
    cluster.all["1"] = Job("1", "RUNNING", host="n1", comment=f"vncgate:{NONCE}")
    (place._folder(handle) / "report").write_text(f"{NONCE} tcp 127.0.0.1 5901\n")
    assert (await place.query(handle)).desktop == Desktop(unix=f"/gate/{NONCE}")
    assert (roads.led, roads.ended) == ([led], [])
    cluster.all["1"] = Job("1", "COMPLETED", comment=f"vncgate:{NONCE}")
    await asyncio.sleep(3)
    await place.query(handle)
    assert roads.ended == [NONCE]


@pytest.mark.virtual_time
async def test_another_job_with_the_same_number_is_left_alone(place, cluster):
    handle = await place.submit(spec())
    cluster.all["1"] = Job("1", "RUNNING", comment="vncgate:somebody")
    assert (await place.query(handle)).seen is Seen.GONE
    await place.cancel(handle)
    assert cluster.cancelled == []


@pytest.mark.virtual_time
async def test_nobody_becomes_another_user_without_being_root(place, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    with pytest.raises(LaunchError, match=r"desktops as another user \(nobody\)"):
        await place.submit(spec(user="nobody"))
    for user in ("nobody such", "a\0b"):
        with pytest.raises(LaunchError, match="there is no user"):
            await place.submit(spec(user=user))
    assert sessions(place) == []


@pytest.mark.virtual_time
async def test_root_starts_no_desktops_as_root_unless_that_is_said(place, monkeypatch):
    place._settings = place._settings.model_copy(update={"user": "{account}"})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for user in ("root", ""):
        with pytest.raises(LaunchError, match="desktops do not run as root"):
            await place.submit(spec(user=user))
    assert sessions(place) == []


@pytest.mark.virtual_time
async def test_the_password_is_in_its_file_alone(place, cluster):
    await place.submit(spec())
    assert "secret01" not in cluster.scripts[0]
    folder = place._settings.folder / NONCE
    assert (folder / "passwd").stat().st_mode & 0o777 == 0o600
    assert b"secret01" not in b"".join(path.read_bytes() for path in folder.iterdir())


# --- The job ----------------------------------------------------------------------------------------------------------


def job(place=None, folder="/shared/vncgate", account="ws01", **kind):
    settings = SlurmPlace(**{"type": "slurm", "folder": folder} | (place or {}))
    its = Kind(**{"command": "xterm"} | kind)
    return Scripts(None).job(spec(account=account, kind=its), f"{folder}/{NONCE}", settings)


def test_golden():
    """After a change that is wanted, delete the file and run the test twice."""
    plain = job()
    whole = job(
        {"account": "physics", "qos": HOSTILE, "reservation": "workshop", "partition": "batch"},
        folder=f"/shared/{HOSTILE}",
        account=HOSTILE,
        cores=4,
        memory="8G",
        gpus=1,
        time="1-12:00:00",
        partition="gpu nodes",
        extra=["--constraint=a|b", "-L", "matlab:1"],
    )
    text = f"{plain}\n{'-' * 100}\n\n{whole}"
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
        pytest.fail(f"{GOLDEN} was written")
    assert text == GOLDEN.read_text()


def test_the_kinds_partition_goes_before_the_places():
    assert "#SBATCH --partition=batch\n" in job({"partition": "batch"})
    assert "#SBATCH --partition=gpu\n" in job({"partition": "batch"}, partition="gpu")


def test_bash_reads_what_was_meant(tmp_path):
    words = [HOSTILE, "", " ", "plain", "-n", "a\\\\b", "!!", "\t", "\x0b\x0c", "\x85\u2028", "\n; touch pwned", "\r\n"]
    script = f"printf '%s\\0' {quote_job(words)}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=tmp_path)
    assert done.stdout.decode().split("\0")[:-1] == words
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"])))
def test_one_word_is_one_word(text):
    assert shlex.split(quote_job(text), comments=True) == [text]
    assert "\n" not in quote_job(text)


def test_what_no_command_can_be_given_is_refused():
    with pytest.raises(LaunchError, match="NUL character"):
        quote_job("a\0b")


def test_no_value_is_a_line_of_the_script():
    hostile = "a\n#SBATCH --uid=root\rpwned"
    lines = job({"qos": hostile, "account": hostile}, account=hostile, extra=[hostile]).split("\n")
    assert not [line for line in lines if line.startswith(("#SBATCH --uid", "pwned"))]
    assert not [line for line in lines if "\r" in line]


async def test_a_sites_own_template_goes_before_ours(tmp_path):
    (tmp_path / "job.sh.j2").write_text("#!/bin/bash\n#SBATCH --comment=vncgate:{{ nonce }} --licenses={{ account }}\n")
    text = Scripts(tmp_path).job(spec(account="a b"), "/f", SlurmPlace(type="slurm", folder="/f"))
    assert f"--comment=vncgate:{NONCE} --licenses='a b'\n" in text
