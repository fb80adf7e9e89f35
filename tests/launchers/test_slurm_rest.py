"""slurmrestd as it is asked: what #SBATCH lines become, and what is made of its answers."""

import json
import os
import pwd
import threading
from dataclasses import replace

import pytest
import pytest_asyncio
from aiohttp import web

from tests.launchers.test_slurm import HOSTILE, job
from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import slurm_errors, slurm_rest
from vncgate.launchers.slurm_jobs import Job
from vncgate.launchers.slurm_rest import Rest, properties

ME = pwd.getpwuid(os.geteuid()).pw_name
SOMEBODY = pwd.getpwuid(65534)


def lines(*directives):
    return "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in directives) + "\nexit\n"


def test_our_job_is_what_it_says():
    whole = job(
        {"account": "physics", "qos": "high", "reservation": "workshop"},
        folder=f"/shared/{HOSTILE}",
        cores=4,
        memory="8G",
        gpus=1,
        time="1-12:00:00",
        partition="batch",
        extra=["--constraint=a|b", "-L", "matlab:1"],
    )
    folder = f"/shared/{HOSTILE}/0123456789abcdef"
    assert properties(whole) == {
        "name": "vncgate-ws01",
        "comment": "vncgate:0123456789abcdef",
        "current_working_directory": folder,
        "standard_output": f"{folder.replace('%', '%%')}/log",
        "open_mode": "append",
        "nodes": [1, 1],
        "tasks": 1,
        "cpus_per_task": 4,
        "memory_per_node": 8192,
        "gres": "gpu:1",
        "time_limit": 2160,
        "partition": "batch",
        "account": "physics",
        "qos": "high",
        "reservation": "workshop",
        "constraints": "a|b",
        "licenses": "matlab:1",
    }


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("1:30:00", 90), ("1:30:01", 91), ("2-0", 2880), ("2-6", 3240), ("1-0:10", 1450)],
)
def test_times(text, minutes):
    assert properties(lines(f"--time={text}")) == {"time_limit": minutes}


@pytest.mark.parametrize(("text", "size"), [("4G", 4096), ("512", 512), ("512M", 512), ("1T", 1048576), ("512K", 1)])
def test_sizes(text, size):
    assert properties(lines(f"--mem {text}")) == {"memory_per_node": size}


def test_directives_end_with_the_first_command_and_comments_are_none():
    script = lines("-p gpu # not cpu", '--qos="a b"') + "#SBATCH --time=1\n"
    assert properties(script) == {"partition": "gpu", "qos": "a b"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--exclusive", "no word for sbatch's option --exclusive"),
        ("-Z", "no word for sbatch's option -Z"),
        ("gpu", "no word for sbatch's option gpu"),
        ("--mem=lots", "--mem has no such value: 'lots'"),
        ("--time=1:2:3:4", "--time has no such value"),
        ("--ntasks", "--ntasks has no such value"),
        ('--qos="a', "No closing quotation"),
    ],
)
def test_what_cannot_be_said_is_refused(line, words):
    with pytest.raises(LaunchError) as caught:
        properties(lines(line))
    assert words in str(caught.value)


class Slurmrestd:
    """Answers as it was told, and keeps what it was asked."""

    def __init__(self):
        self.answer = ""
        self.status = 200
        self.seen = []

    async def handle(self, request):
        self.seen.append((request.method, request.path, request.headers, await request.text()))
        return web.Response(text=self.answer, status=self.status)

    def says(self, body, status=200):
        self.answer, self.status = json.dumps(body), status


@pytest_asyncio.fixture
async def slurmrestd(tmp_path):
    server = Slurmrestd()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "socket")).start()
    yield server
    await runner.cleanup()


@pytest_asyncio.fixture
async def rest(tmp_path):
    made = []

    def make(**more):
        settings = {"type": "slurm", "folder": tmp_path, "transport": "rest", "rest": f"unix:{tmp_path}/socket"} | more
        made.append(Rest(SlurmPlace(**settings)))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text("SLURM_JWT=abc.def\n")
    return path


async def test_submitting(slurmrestd, rest):
    slurmrestd.says({"errors": [], "job_id": 17})
    assert await rest().submit(lines("--qos=a"), None) == "17"
    ((method, path, headers, body),) = slurmrestd.seen
    assert (method, path) == ("POST", "/slurm/v0.0.38/job/submit")
    assert '"qos": "a"' in body
    assert not [name for name in headers if name.startswith("X-SLURM")]


@pytest.mark.parametrize("more", [{}, {"job_id": None}, {"job_id": 0}])
async def test_a_job_that_was_taken_without_its_number_may_be_there(slurmrestd, rest, more):
    slurmrestd.says({"errors": []} | more)
    with pytest.raises(UnsureError, match="does not say which job it made"):
        await rest().submit(lines(), None)


async def test_a_token_says_who_asks(slurmrestd, rest, token):
    slurmrestd.says({"errors": [], "job_id": 17, "jobs": []})
    place = rest(rest_token=token)
    await place.submit(lines(), SOMEBODY)
    token.write_text("\nnew\n# of today\n")  # a cron job renews it
    await place.jobs([])
    who = [(headers["X-SLURM-USER-NAME"], headers["X-SLURM-USER-TOKEN"]) for _, _, headers, _ in slurmrestd.seen]
    assert who == [(SOMEBODY.pw_name, "abc.def"), (ME, "new")]


async def test_without_a_token_nobody_is_somebody_else(slurmrestd, rest):
    with pytest.raises(LaunchError, match="with a token only"):
        await rest().submit(lines(), SOMEBODY)
    assert slurmrestd.seen == []


async def test_a_token_that_cannot_be_read_is_named(rest, tmp_path):
    with pytest.raises(LaunchError, match=r"nosuch: the token cannot be read: No such file or directory$"):
        await rest(rest_token=tmp_path / "nosuch").submit(lines(), None)


@pytest.mark.parametrize("text", ["", "SLURM_JWT=\n", "SLURM_JWT=a\0X-SLURM-USER-NAME: mallory\n", "a b", "ä\0"])
async def test_what_is_no_token_is_not_sent(slurmrestd, rest, token, text):
    token.write_text(text)
    with pytest.raises(LaunchError, match="token: its first line is no token: write it as") as caught:
        await rest(rest_token=token).submit(lines(), None)
    assert "mallory" not in str(caught.value)
    assert slurmrestd.seen == []


@pytest.mark.virtual_time
async def test_a_token_that_is_not_read_in_time(rest, token, monkeypatch):
    token.unlink()
    os.mkfifo(token)
    try:
        with pytest.raises(SilentError, match="does not answer within 20 s"):
            await rest(rest_token=token).jobs([])
    finally:
        token.write_text("for whoever still reads")


JOB = {
    "job_id": 7,
    "job_state": "PENDING",
    "state_reason": "Priority",
    "state_description": "",
    "batch_host": "",
    "comment": "vncgate:x",
    "start_time": 1795248819,
    "end_time": 0,
    "exit_code": 768,
    "user_name": "ada",
    "restart_cnt": 1,
}


async def test_jobs(slurmrestd, rest):
    others = JOB | {"job_id": 8, "comment": "", "job_resources": {"nodes": "n1"}}
    slurmrestd.says({"errors": [], "jobs": [others, JOB]})
    ours = Job("7", "PENDING", "Priority", "", "vncgate:x", 1795248819.0, None, 3, "ada", 1)
    assert await rest().jobs([]) == [ours]
    assert await rest().jobs(["ada"]) == [replace(ours, id="8", comment=""), ours]


async def test_a_long_list_is_read_where_it_does_not_hold_the_loop(slurmrestd, rest, monkeypatch):
    """Step by step, in another thread: json's own steps let nobody else have a turn."""
    steps, job = [], slurm_rest._job
    monkeypatch.setattr(slurm_rest, "_job", lambda *args: (steps.append(threading.current_thread()), job(*args))[1])
    slurmrestd.says({"errors": [], "jobs": [JOB] * 3})
    assert len(await rest().jobs([])) == 3
    assert len(steps) >= 3
    assert threading.current_thread() not in steps


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"description": "Failed while looking for jobs", "error": "Unspecified error"}], "jobs": []},
        {"errors": []},
        {"errors": [], "jobs": [{"job_id": 7}]},
        {"errors": [], "jobs": [{"job_id": 7, "job_state": "RUNNING"}]},
        {"errors": [], "jobs": [7]},
        {"errors": [], "jobs": [JOB | {"start_time": {"set": True}}]},
        {"errors": 3},
        [],
    ],
)
async def test_no_list_is_not_an_empty_list(slurmrestd, rest, body):
    slurmrestd.says(body)
    with pytest.raises(SilentError):
        await rest().jobs([])


async def test_what_is_no_answer_of_slurmrestd(slurmrestd, rest):
    slurmrestd.answer, slurmrestd.status = "Authentication failure", 401
    with pytest.raises(SilentError, match="does not accept the token of rest_token; has it run out") as caught:
        await rest().submit(lines(), None)
    assert type(caught.value) is SilentError, "it did nothing"
    assert slurm_errors.said(caught.value) == "Authentication failure"
    slurmrestd.status = 502
    with pytest.raises(UnsureError, match="HTTP status 502"):
        await rest().submit(lines(), None)


async def test_an_answer_without_end_is_not_read_to_its_end(slurmrestd, rest, monkeypatch):
    slurmrestd.says({"errors": [], "jobs": [JOB] * 1000})
    assert len(await rest().jobs([])) == 1000
    monkeypatch.setattr(slurm_rest, "LONGEST_ANSWER", 10_000)
    with pytest.raises(SilentError, match="slurmrestd answers with more than 0 MiB"):
        await rest().jobs([])


async def test_nobody_there(rest):
    with pytest.raises(SilentError, match="cannot be reached now: it is not there: no such socket$") as caught:
        await rest().submit(lines(), None)
    assert type(caught.value) is SilentError, "nobody heard it"


async def test_what_slurm_refuses_is_said_in_words(slurmrestd, rest):
    slurmrestd.says({"errors": [{"error_code": 2000, "error": "Invalid partition name specified"}]}, status=500)
    with pytest.raises(LaunchError, match="there is no such partition"):
        await rest().submit(lines(), None)
    slurmrestd.says({"errors": [{"error_code": 5004, "error": "Socket timed out on send/recv operation"}]}, status=500)
    with pytest.raises(UnsureError):
        await rest().submit(lines(), None)


async def test_cancelling(slurmrestd, rest):
    slurmrestd.says({"errors": [{"description": "unable to kill", "error": "Invalid job id specified"}]}, status=500)
    await rest().cancel("7")
    assert slurmrestd.seen[0][:2] == ("DELETE", "/slurm/v0.0.38/job/7")
    slurmrestd.says({"errors": [{"error": "Access/permission denied"}]}, status=500)
    with pytest.raises(LaunchError, match="may not"):
        await rest().cancel("7")
