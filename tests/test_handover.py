"""What one process leaves to the next: by execve(2) with a file of memory, and by systemd."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from vncgate import handover
from vncgate.errors import SettingsError
from vncgate.handover import VARIABLE, State, inherit, start_anew, state_file

STATE = State(
    roster="ws01 node01 - 6101 5901 s3cret",
    tokens={"name": "/etc/tokens", "content": "pässword"},
    config={"name": "/etc/vncgate.toml"},
    stopped=["ws01", "ws02"],
    tally={"opened": 7},
    listening=["listen-127.0.0.1-6100"],
)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def close(found):
    for sock in (*found.listening.values(), *found.workers.values(), *filter(None, [found.control])):
        sock.close()
    found.reveal()


def left(state, **descriptors):
    """The environment that names a state with duplicates of `descriptors`, whose names have _ for -."""
    copies = {name.replace("_", "-"): os.dup(descriptor) for name, descriptor in descriptors.items()}
    return {VARIABLE: str(state_file(state, copies)), "OTHER": "stays"}


def test_nothing_was_left():
    environ = {"PATH": "/bin"}
    found = inherit(environ)
    assert found == handover.Inheritance()
    assert environ == {"PATH": "/bin"}


def test_the_state_survives_and_passwords_are_read_last():
    environ = left(STATE)
    found = inherit(environ)
    assert environ == {"OTHER": "stays"}
    assert found.state.tokens is None
    assert (found.state.config, found.state.stopped, found.state.tally, found.state.listening) == (
        STATE.config,
        STATE.stopped,
        STATE.tally,
        STATE.listening,
    )
    found.reveal()
    assert found.state == STATE
    found.reveal()
    assert found.state == STATE


def test_a_large_state_survives():
    state = State(tokens={"content": "x" * 3_000_000}, stopped=[f"ws{number}" for number in range(20_000)])
    found = inherit(left(state))
    found.reveal()
    assert found.state == state


def test_what_a_later_version_left_is_ignored_and_what_an_earlier_one_did_not_is_empty(monkeypatch):
    real = json.dumps

    def dumps(body):
        return real({"later": 1} if "tokens" in body else {"later": 1, "stopped": ["ws01"]})

    monkeypatch.setattr(handover.json, "dumps", dumps)
    environ = left(State())
    monkeypatch.undo()
    found = inherit(environ)
    found.reveal()
    assert found.state == State(stopped=["ws01"])


def test_the_file_has_no_name_and_is_not_inherited():
    file = state_file(STATE)
    assert not os.get_inheritable(file)
    assert "memfd:" in str(Path(f"/proc/self/fd/{file}").readlink())
    os.close(file)


def test_sockets_come_by_their_names_and_are_not_inherited(listener):
    one, other = socket.socketpair()
    with one, other:
        environ = left(
            STATE, listen_127=listener.fileno(), worker_17=one.fileno(), worker_18=other.fileno(), control=one.fileno()
        )
        found = inherit(environ)
        assert {name: sock.getsockname() for name, sock in found.listening.items()} == {
            "listen-127": listener.getsockname()
        }
        assert sorted(found.workers) == [17, 18]
        assert found.control is not None
        everything = [*found.listening.values(), *found.workers.values(), found.control]
        assert not any(sock.get_inheritable() for sock in everything)
        assert not found.listening["listen-127"].getblocking()
        close(found)


@pytest.mark.parametrize("name", ["listen_1", "worker_17", "control"])
def test_what_is_no_socket_is_closed(name):
    """The leak check counts it."""
    with tempfile.TemporaryFile() as file:
        found = inherit(left(State(), **{name: file.fileno()}))
    assert not found.listening
    assert not found.workers
    assert found.control is None
    close(found)


@pytest.mark.parametrize(
    "name", ["", "worker", "worker_", "worker_1a", "worker__1", "stored", "listener_1", "control_1"]
)
def test_what_has_a_name_that_says_nothing_is_closed(listener, name):
    found = inherit(left(State(), **{name: listener.fileno()}))
    assert not found.listening
    assert not found.workers
    assert found.control is None
    close(found)


def test_a_descriptor_that_is_not_there_is_no_trouble(listener):
    environ = {VARIABLE: str(state_file(State(), {"control": 99_999, "listen-1": os.dup(listener.fileno())}))}
    found = inherit(environ)
    assert found.control is None
    assert list(found.listening) == ["listen-1"]
    close(found)


@pytest.mark.parametrize("value", ["", "-1", "yes", "3;4"])
def test_a_variable_that_is_no_number_says_nothing(value):
    environ = {VARIABLE: value}
    assert inherit(environ) == handover.Inheritance()
    assert not environ


def test_a_state_that_no_daemon_left_is_told_in_words():
    with tempfile.TemporaryFile() as file:
        file.write(b"something else altogether")
        file.seek(0)
        with pytest.raises(SettingsError, match=VARIABLE):
            inherit({VARIABLE: str(file.fileno())})
    with pytest.raises(SettingsError, match=VARIABLE):
        inherit({VARIABLE: "99999"})


def test_of_another_process_systemds_variables_say_nothing(listener):
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "listen-1"}
    assert inherit(environ) == handover.Inheritance()
    assert not environ, "and go all the same: no child may believe in them"


SCRIPT = """
import json, os, socket, sys
from vncgate import handover

def fds():
    return sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))

"""


def script(body):
    return [sys.executable, "-c", SCRIPT + textwrap.dedent(body)]


def said(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


AS_SYSTEMD = """
import os, socket, sys
for number, descriptor in enumerate(map(int, sys.argv[1].split(",")), 3):  # sd_listen_fds(3): from 3 on
    os.dup2(descriptor, 100 + number)
for number in range(3, 3 + int(sys.argv[2])):
    if number < 3 + len(sys.argv[1].split(",")):
        os.dup2(100 + number, number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2], LISTEN_FDNAMES=sys.argv[3])
os.execv(sys.executable, [sys.executable, "-c", sys.argv[4]])
"""
INHERITS = """
found = handover.inherit(os.environ)
everything = [*found.listening.values(), *found.workers.values(), *filter(None, [found.control])]
print(json.dumps({
    "listening": {name: sock.getsockname() for name, sock in found.listening.items()},
    "workers": {pid: sock.fileno() for pid, sock in found.workers.items()},
    "control": found.control is not None,
    "inheritable": [sock.get_inheritable() for sock in everything],
    "fds": fds(),
    "variables": [name for name in os.environ if name.startswith("LISTEN_") or name == "VNCGATE_STATE"],
}))
"""


def test_systemd_passes_what_it_kept(listener):
    one, other = socket.socketpair()
    with one, other, tempfile.TemporaryFile() as file:
        descriptors = [listener.fileno(), one.fileno(), other.fileno(), file.fileno(), listener.fileno()]
        found = said(
            [
                sys.executable,
                "-c",
                AS_SYSTEMD,
                ",".join(map(str, descriptors)),
                "5",
                "listen-127.0.0.1-6100:worker-17:control:listen-file:stored",
                script(INHERITS)[2],
            ],
            pass_fds=descriptors,
            close_fds=True,
        )
    assert found["listening"] == {"listen-127.0.0.1-6100": list(listener.getsockname())}
    assert found["workers"] == {"17": 4}
    assert found["control"]
    assert found["inheritable"] == [False] * 3
    assert not {6, 7} & set(found["fds"]), "the file, and the socket whose name says nothing"
    assert not found["variables"]


def test_systemd_may_pass_fewer_names_than_sockets(listener):
    found = said(
        [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), "2", "", script(INHERITS)[2]],
        pass_fds=[listener.fileno()],
    )
    assert not found["listening"]
    assert 3 not in found["fds"]


def test_it_starts_anew_as_the_same_process_with_its_sockets_and_their_backlog():
    found = said(
        script(
            """
            listener = socket.create_server(("127.0.0.1", 0))
            ours, theirs = socket.socketpair()
            client = socket.create_connection(listener.getsockname())
            client.set_inheritable(True)  # stays open over there, as the other end
            unrelated = socket.socket()
            script = f'''
            import os, socket, sys, json
            from vncgate import handover
            found = handover.inherit(os.environ)
            found.reveal()
            accepted, address = found.listening["listen-1"].accept()
            print(json.dumps({{
                "pid": os.getpid(), "tokens": found.state.tokens, "stopped": found.state.stopped,
                "same": address == tuple({client.getsockname()!r}), "worker": list(found.workers),
                "unrelated": os.path.exists("/proc/self/fd/{unrelated.fileno()}") and "open",
                "inheritable": [n for n in map(int, os.listdir("/proc/self/fd")) if n > 2
                    and n != {client.fileno()} and os.path.exists(f"/proc/self/fd/{{n}}") and os.get_inheritable(n)],
                "before": {os.getpid()}, "variable": handover.VARIABLE in os.environ}}))
            '''
            state = handover.State(tokens={"content": "secret"}, stopped=["ws01"])
            import textwrap
            handover.start_anew(
                [sys.executable, "-c", textwrap.dedent(script)], os.environ, state,
                {"listen-1": listener, "worker-17": ours},
            )
            """
        )
    )
    assert found["pid"] == found["before"]
    assert found["tokens"] == {"content": "secret"}
    assert found["stopped"] == ["ws01"]
    assert found["same"], "the connection that waited in the backlog"
    assert found["worker"] == [17]
    assert not found["unrelated"]
    assert not found["inheritable"]
    assert not found["variable"]


def test_code_that_cannot_be_started_changes_nothing(listener):
    environ = dict(os.environ)
    with pytest.raises(OSError, match="No such file"):
        start_anew(["/nonexistent/python"], environ, STATE, {"listen-1": listener})
    assert not listener.get_inheritable()
    assert environ == dict(os.environ)
    with socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()


def test_a_socket_that_is_closed_meanwhile_changes_nothing(listener):
    """Neither file nor socket is left for children to inherit."""
    closed = socket.socket()
    closed.close()
    with pytest.raises(OSError):
        start_anew([sys.executable, "-c", "print('started')"], {}, STATE, {"listen-1": listener, "listen-2": closed})
    assert not listener.get_inheritable()
