"""Tests of vncgate.launchers.slurm_errors. What Slurm says is as 22.05 wrote it."""

import pytest

from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.launchers import slurm_errors


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            "sbatch: error: no x\nsbatch: error: Batch job submission failed: Invalid partition name specified",
            LaunchError,
            "Slurm refused the job: there is no such partition",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            LaunchError,
            "no such Slurm account",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", LaunchError, "no such QOS"),
        (
            "sbatch: error: Requested time limit is invalid (missing or exceeds some limit)",
            LaunchError,
            "more time than the partition allows",
        ),
        ("Socket timed out on send/recv operation", UnsureError, "cannot be reached now"),
        ("Unable to contact slurm controller (connect failure)", SilentError, "cannot be reached now"),
        ("sbatch: unrecognized option '--nope'", LaunchError, "sbatch does not know one of the options"),
        ("", LaunchError, "the gate's log has what it said"),
    ],
)
def test_what_slurm_refuses(said, kind, words):
    error = slurm_errors.problem(said)
    assert type(error) is kind
    assert words in str(error)
    assert type(silent := slurm_errors.silent(error)) is SilentError
    assert (str(silent), slurm_errors.said(silent)) == (str(error), slurm_errors.said(error))


@pytest.mark.parametrize(
    ("said", "own"),
    [
        ("sbatch: error: no x\nsbatch: error: Batch job submission failed: Invalid qos", "no x; Invalid qos"),
        ("sbatch: unrecognized option '--nope'", "sbatch: unrecognized option '--nope'"),
        ("sbatch: error: a\x1b[31m", "a\\x1b[31m"),
        ("", "nothing"),
        ("x" * 10_000, "x" * 500),
    ],
)
def test_what_slurm_said_itself_is_for_the_log(said, own):
    error = slurm_errors.problem(said)
    assert slurm_errors.said(error) == own
    assert own not in str(error)
    assert slurm_errors.said(LaunchError("ours")) == ""
