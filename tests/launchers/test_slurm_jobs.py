"""What Slurm says about jobs. The rows are as squeue 22.05 wrote them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.launchers import slurm_jobs
from vncgate.launchers.base import Handle, Seen
from vncgate.launchers.slurm_jobs import Job, find, parse_rows, sighting, waiting

MARK = "qrstuvwxyzghijkl"
NONCE = "0123456789abcdef"


def row(number="7", mark=MARK, **fields):
    """A row of squeue's."""
    values = {
        "State": "RUNNING",
        "StartTime": "1795248772",
        "EndTime": "1795249372",
        "BatchHost": "n1",
        "exit_code": "0",
        "RestartCnt": "2",
        "UserName": "ada",
        "Reason": "None",
        "Comment": f"vncgate:{NONCE}",
    } | fields
    sizes = [word.rstrip("|").split(":") for word in slurm_jobs.row_format(mark).split(",")[1:]]
    return f"{number:<20}{mark}" + "".join(f"{values[name]:<{width}}|" for name, width in sizes)


def rows_of(text, users=("ada",)):
    return parse_rows(text, MARK, users)


def test_a_row():
    assert rows_of(row()) == [
        Job("7", "RUNNING", "None", "n1", f"vncgate:{NONCE}", 1795248772.0, 1795249372.0, 0, "ada", 2)
    ]


def test_times_and_nodes_that_are_not_known():
    (job,) = rows_of(row(State="PENDING", StartTime="N/A", EndTime="NONE", BatchHost="n/a"))
    assert (job.starts, job.ends, job.host) == (None, None, "")


def test_a_comment_cannot_forge_a_row():
    forged = "\n" + row("8", mark="", State="COMPLETED") + "\n" + row("7", mark="zzzz", State="COMPLETED")
    rows = row("9", Comment=forged) + "\n" + row() + "\n"
    assert [(job.id, job.state) for job in rows_of(rows)] == [("9", "RUNNING"), ("7", "RUNNING")]


def test_of_others_only_what_has_our_mark_is_kept():
    """Somebody's job may be ours by its mark alone, and one of ours by its user alone (a plug-in wrote its comment)."""
    rows = [row("7"), row("8", Comment=""), row("9", Comment="x"), row("10", UserName="bob", Comment="x")]
    assert [job.id for job in rows_of("\n".join(rows), ["bob"])] == ["7", "10"]


def test_the_name_of_a_cluster_is_no_row():
    assert len(rows_of(f"CLUSTER: east\n{row()}\n\n")) == 1


@given(st.text())
def test_any_text_is_read(text):
    rows_of(text)
    rows_of(row(Comment=text))


@given(st.lists(st.sampled_from([row(), row("8"), "", "|", MARK, f"{'1':<20}{MARK}|||", "1" * 20 + MARK + "|" * 11])))
def test_what_is_no_whole_row_is_left_out(lines):
    found = rows_of("\n".join(lines))
    assert len([job for job in found if job.host == "n1"]) == sum(line in (row(), row("8")) for line in lines)


@pytest.mark.parametrize(
    ("code", "status"),
    [("768", 3), ("9", -9), ("0", 0), ("3:0", 3), ("0:9", -9), ("", None), ("x", None), ("127", None), ("3:", 3)],
)
def test_exit_status(code, status):
    assert slurm_jobs.exit_status(code) == status


def seen(state, **more):
    return sighting(Job("7", state, **more))


def test_a_job_that_waits():
    found = seen("PENDING", reason="Priority", starts=100.0, ends=200.0)
    assert (found.seen, found.reason, found.starts, found.ends) == (
        Seen.PENDING, "other jobs are before it", 100.0, None
    )  # fmt: skip


def test_a_job_that_runs():
    found = seen("RUNNING", host="n1", reason="None", starts=100.0, ends=200.0)
    assert (found.seen, found.host, found.reason, found.starts, found.ends) == (Seen.RUNNING, "n1", "", None, 200.0)


@pytest.mark.parametrize(
    ("state", "words"), [("SUSPENDED", "suspended"), ("COMPLETING", "ending"), ("STOPPED", "SIGSTOP")]
)
def test_a_job_that_is_still_there(state, words):
    assert seen(state).seen is Seen.RUNNING
    assert words in seen(state).reason


@pytest.mark.parametrize("state", ["CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"])
def test_a_job_that_is_not_there_yet(state):
    assert seen(state).seen is Seen.PENDING
    assert seen(state).reason


@pytest.mark.parametrize(
    ("state", "words", "status"),
    [
        # Meant, or agreed to: nothing after which a desktop would be started again.
        ("CANCELLED", "cancelled", 0),
        ("TIMEOUT", "time limit", 0),
        ("DEADLINE", "deadline", 0),
        ("NODE_FAIL", "the node n1 failed", None),
        ("PREEMPTED", "higher priority", None),
        ("OUT_OF_MEMORY", "memory", None),
        ("BOOT_FAIL", "the node n1 did not boot", None),
        ("FAILED", "failed: JobLaunchFailure", None),
    ],
)
def test_a_job_that_is_over(state, words, status):
    found = seen(state, host="n1", reason="JobLaunchFailure", ends=200.0)
    assert (found.seen, found.exit_status, found.ends) == (Seen.GONE, status, None)
    assert words in found.reason
    assert Job("7", state).is_over


def test_exit_status_is_told_of_scripts_that_ended_by_themselves():
    assert seen("COMPLETED", exit_status=0).exit_status == 0
    failed = seen("FAILED", reason="NonZeroExitCode", exit_status=3)
    assert (failed.exit_status, failed.reason) == (3, "the job ended with exit status 3")
    assert seen("FAILED", exit_status=-9).reason == "the job was killed by SIGKILL"
    assert seen("CANCELLED", exit_status=15).exit_status == 0


def test_a_job_that_is_not_listed_is_gone_and_a_state_of_tomorrow_is_not():
    assert sighting(None).seen is Seen.GONE
    assert seen("HIBERNATED\n").seen is Seen.UNKNOWN
    assert seen("HIBERNATED\n").reason.isprintable()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "it waits for free nodes"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "not available (ReqNodeNotAvail, UnavailableNodes:n[1-2])"),
        ("ReqNodeNotAvail,_May_be_reserved_for_other_job", "not available (ReqNodeNotAvail,_May"),
        ("QOSMaxJobsPerUserLimit", "its QOS allows no more at the same time (QOSMaxJobsPerUserLimit)"),
        ("AssocGrpCpuLimit", "its Slurm account has as much as it may have (AssocGrpCpuLimit)"),
        ("PartitionTimeLimit", "ask for less"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved", "not available (Nodes_required"),
        ("SomethingNew", "SomethingNew"),
        ("Some\nthing", "Some\\nthing"),
    ],
)
def test_why_it_waits(reason, words):
    assert words in waiting(reason)


def handle(job="7"):
    return Handle("hpc", "ws01", NONCE, job=job)


def test_a_job_is_found_by_its_number_and_without_one_by_its_nonce():
    ours = Job("7", "RUNNING", comment=f"vncgate:{NONCE}", user="ada")
    other = Job("8", "RUNNING", comment="vncgate:other", user="ada")
    copy = Job("6", "RUNNING", comment=ours.comment, user="mallory")
    assert find([other, copy, ours], handle(), "") is ours
    assert find([other, copy, ours], handle(""), "ada") is ours
    assert find([other, copy], handle(""), "ada") is None


def test_a_number_that_was_given_a_second_time_is_not_ours():
    assert find([Job("7", "RUNNING", comment="vncgate:another")], handle(), "") is None


def test_a_job_whose_comment_the_site_wrote_over_is_ours():
    job = Job("7", "RUNNING", comment="billed to physics")
    assert find([job], handle(), "") is job
