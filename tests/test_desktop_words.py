"""Times, positions and the ends of logs in words."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.desktop_words import AWAY, LONGEST_TAIL, is_scripts, last_words, ordinal, plain, plain_in_queue, span
from vncgate.launcher import OVER
from vncgate.launchers.apptainer import _CHECK
from vncgate.launchers.slurm_errors import problem
from vncgate.launchers.slurm_jobs import (
    _KINDS_OF_REASONS,
    _OVER,
    _REASONS,
    _WAITING,
    PUT_BACK,
    waiting,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7200, "2 h"), (3600.0, "1 h"), (300, "5 min"), (5400, "90 min"), (90, "90 s"), (1.2, "1 s"), (0.25, "0.2 s")],
)
def test_times(seconds, words):
    assert span(seconds) == words


def test_positions():
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th",
    ]  # fmt: skip


def test_the_last_two_lines_of_a_log():
    assert last_words("") == last_words(" \n\n") == ""
    assert last_words("one\n") == "one"
    assert last_words("one\ntwo\n\n  three  \n") == "two / three"


@given(st.text())
def test_whatever_a_log_says_its_words_are_fit_to_be_shown(text):
    words = last_words(text)
    assert words.isprintable()
    assert len(words) <= LONGEST_TAIL


SECRET = "/srv/vncgate/0a1b2c3d4e5f6a7b"
NO_SPACE = "there is no space left for its files: ask the organizers"
NO_IMAGE = "the image that it runs in is not there yet: tell the organizers"
NO_PROGRAM = "a program that it needs is not installed: tell the organizers"
HELD = "something holds it up: ask the organizers"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("", ""),
        ("stopped by the organizers", "stopped by the organizers"),
        ("stopped by the organizers; it cannot be ended yet: ssh node01: refused", "stopped by the organizers"),
        (OVER, OVER),
        ("nobody used it for 30 min", "nobody used it for 30 min"),
        ("3rd in line", "3rd in line"),
        ("1st in line: 8 desktops are there, and no more may be",
         "1st in line: 8 desktops are there, and no more may be"),
        ("the session ended", "you logged out, or what ran in it has ended"),
        ("The session ended with exit status 0.", "you logged out, or what ran in it has ended"),
        ("the session ended with exit status 127: xfce4: not found", ""),
        (f"{SECRET}: no folder for the desktops of ws01: No space left on device", NO_SPACE),
        ("The home folder /srv/homes/ws01 is over its quota: remove files from it.", NO_SPACE),
        (f"The desktop's folder {SECRET} cannot be written: Disk quota exceeded", NO_SPACE),
        ("The home folder /srv/homes/ws01 cannot be made: No space left on device", NO_SPACE),
        ("The home folder /srv/homes/ws01 cannot be made: Permission denied", ""),
        ("The home folder /srv/homes/ws01 is full: remove files from it.", NO_SPACE),
        ("still in the queue of hpc after 2 h: other jobs are before it",
         "it waited too long in the queue: try again later, or ask the organizers"),
        (f"no VNC login within 2 min (desktop unix:{SECRET}/vnc.sock is not there)",
         "it did not come up in time: try again, or tell the organizers"),
        ("no VNC login within 2 min (desktop node01:5901 does not answer within 5 s)",
         "it did not come up in time: try again, or tell the organizers"),
        ("Slurm refused the job: there is no such partition (sbatch: error: viz)",
         "the cluster does not take it: tell the organizers"),
        (f"the image localhost/{SECRET} is not on this host: build it there", NO_IMAGE),
        (f"The image {SECRET}.sif is missing on node01: vncgate images deploy brings it there.", NO_IMAGE),
        ("xfce4-session: command not found on node01", NO_PROGRAM),
        ("There is no Xvnc on node01: install TigerVNC's server (Debian, Ubuntu: tigervnc-standalone-server).",
         NO_PROGRAM),
        ("There is no apptainer on node01: install Apptainer.", NO_PROGRAM),
        (_OVER["NODE_FAIL"].format(host="node01"), "the computer that it ran on failed"),
        (PUT_BACK, "the computer that it ran on failed, or other work took its place"),
        (_OVER["PREEMPTED"], "other work took its place"),
        (_OVER["TIMEOUT"], "its time was up"),
        (_OVER["OUT_OF_MEMORY"], "it needed more memory than it may have: ask the organizers for more"),
        (str(problem("Unable to contact slurm controller (connect failure)")), AWAY),
        ("no ssh connection to node01: [Errno 111] Connect call failed", AWAY),
        ("the settings have no kind of desktop 'x', only xfce", ""),
        ("tell them that stopped by the organizers is a lie", ""),
    ],
)  # fmt: skip
def test_what_participants_read_of_a_reason(reason, words):
    assert plain(reason) == words
    assert plain_in_queue(reason) == words


ENDED = "the session ended with exit status 1"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("firefox: the connection to the display was lost\nX connection lost", ""),
        ("matlab: license server does not answer", ""),
        ("disk quota of tmp ok\nsegfault", ""),
        ("bash: line 1: xterm: command not found on line 7", ""),
        (f"The image {SECRET}.sif is missing on node01: vncgate images deploy brings it there.\nsegfault", ""),
        ("The session ended with exit status 1.", ""),
        (f"hm\nThe image {SECRET}.sif is missing on node01: vncgate images deploy brings it there.", NO_IMAGE),
        ("mktemp: failed to create directory via template '/tmp/vncgate-XXX': No space left on device", NO_SPACE),
        ("The home folder /srv/homes/ws01 is full: remove files from it.\n", NO_SPACE),
    ],
)  # fmt: skip
def test_what_a_session_wrote_is_a_stranger_s_word_but_for_lines_of_our_scripts(log, words):
    assert plain(ENDED, last_words(log)) == words
    assert plain("the session ended", last_words(log)) == words  # and nobody logged out
    assert plain("stopped by the organizers", last_words(log)) == (words or "stopped by the organizers")


def test_every_reason_of_the_scripts_is_known_as_theirs():
    template = (files("vncgate.launchers") / "templates" / "desktop.sh.j2").read_text()
    text = template.replace("$status", "3") + _CHECK
    for what_bash_puts_in in (r"\$\([^()]*(\([^()]*\))?[^()]*\)", r"\$(\{[^}]*\}|\w+)"):
        text = re.sub(what_bash_puts_in, "/word", text)
    said = [words for words in re.findall(r'(?:fail|reason|\{ echo) "([^"]*)"', text) if " " in words]
    assert len(said) == 14
    for line in said:
        assert is_scripts(line), line


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "others are before it"),
        ("Resources", "it waits for a free computer"),
        ("QOSMaxJobsPerUserLimit", "it waits for a free computer"),
        ("ReqNodeNotAvail, UnavailableNodes:node[01-20]", "it waits for a free computer"),
        ("None", ""),
        ("JobHeldAdmin", HELD),
        ("PartitionDown", HELD),
        ("PartitionTimeLimit", HELD),
        ("AccountNotAllowed", HELD),
        ("SomethingNew", ""),
    ],
)
def test_what_they_read_of_a_queues(reason, words):
    assert plain_in_queue(waiting(reason)) == words


def test_no_word_of_slurms_reaches_them():
    for reason in (*_REASONS.values(), *_WAITING.values(), *(words for _, words in _KINDS_OF_REASONS)):
        assert not {"scontrol", "qos", "slurm", "partition"} & set(
            plain_in_queue(reason).lower().replace("`", " ").split()
        )


@given(
    st.text(),
    st.sampled_from(["", "stopped by the organizers: ", "2nd in line: ", "nobody used it for 5 min ", "quota "]),
)
def test_nothing_that_a_reason_says_of_a_host_or_a_path_gets_through(text, before):
    for words in (plain, plain_in_queue):
        assert SECRET not in words(f"{before}{text}{SECRET}{text}")
        assert len(words(before + text)) < 100
