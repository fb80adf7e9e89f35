"""Tests of vncgate.launchers.scripts: what is rendered, and what bash makes of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.real.conftest import need
from vncgate.errors import LaunchError
from vncgate.kinds import Kind
from vncgate.launchers.base import Spec
from vncgate.launchers.scripts import Listen, Scripts, Templates, quote
from vncgate.model import Secret

GOLDEN = Path(__file__).parent.parent / "golden" / "scripts"
NONCE = "0123456789abcdef"
OTHER = "fedcba9876543210"
HOSTILE = 'o\'neil "the" $(touch pwned) `touch pwned` \\ \n; touch pwned # \u202e* ~ !x'
BASH = ["bash", "--noprofile", "--norc"]

words = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))


def spec(*command: str, home: str = "", host: str = "", account: str = "ws01", **kind) -> Spec:
    return Spec(account, NONCE, host, Kind(command=command or ("true",), **kind), Secret("secret01"), home=home)


def run(folder: Path, spec: Spec, listen: Listen = Listen.SOCKET, **environment: str) -> subprocess.CompletedProcess:
    """The script as a place starts it, to its end; its output is text."""
    (folder / "passwd").write_bytes(bytes(8))
    (folder / "desktop.sh").write_text(Scripts(None).desktop(spec, str(folder), listen))
    environment = {"PATH": os.environ["PATH"], **environment}
    argv = [*BASH, str(folder / "desktop.sh")]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60)


# quote()


@settings(max_examples=40)
@given(st.lists(words, max_size=6))
@example([HOSTILE, "", "\r\n", "'", "\\'", "-n", "$'x'", "\x01\x7f", "é日本"])
def test_whatever_is_quoted_is_one_word_of_bash(texts):
    script = f"printf '%s\\0' {quote(texts)}" if texts else "true"
    out = subprocess.run([*BASH, "-c", script], capture_output=True, check=True).stdout
    assert out == b"".join(text.encode() + b"\0" for text in texts)


def test_a_nul_cannot_be_quoted():
    with pytest.raises(LaunchError, match="NUL"):
        quote(["a", "b\0c"])


# Templates


def test_the_script_of_a_desktop():
    rendered = Scripts(None).desktop(
        spec(
            "startxfce4",
            "--with",
            "two words",
            home="/scratch/o'neil",
            account="o'neil",
            window_manager="openbox",
            setup="module load matlab\nexport A='b c'",
            environment={"LANG": "de_DE.UTF-8", "MODE": HOSTILE},
            geometry="1024x768",
            depth=16,
        ),
        f"/var/lib/vncgate/local/{NONCE}",
        Listen.SOCKET,
    )
    golden = GOLDEN / "desktop.sh"
    if os.environ.get("VNCGATE_GOLDEN"):
        golden.write_text(rendered)
    assert rendered == golden.read_text()


@pytest.mark.parametrize("listen", Listen)
@pytest.mark.parametrize("kind", [{}, {"image": "x.sif"}, {"setup": HOSTILE, "window_manager": "openbox"}])
def test_every_form_of_it_is_bash(listen, kind, tmp_path):
    path = tmp_path / "desktop.sh"
    path.write_text(Scripts(None).desktop(spec("true", home=HOSTILE, account=HOSTILE, **kind), HOSTILE, listen))
    done = subprocess.run([*BASH, "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_site_has_its_own_templates(tmp_path):
    (tmp_path / "desktop.sh.j2").write_text("run {{ account }} {{ command }}\n")
    rendered = Scripts(tmp_path).desktop(spec("a", "b c", account="o'neil"), "/x", Listen.NETWORK)
    assert rendered == "run 'o'\"'\"'neil' a 'b c'\n"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("one\n{% if %}\n", r"desktop\.sh\.j2:2: Expected an expression"),
        ("one\ntwo\n{{ nonesuch }}\n", r"desktop\.sh\.j2:3: 'nonesuch' is undefined"),
        ("one\n{{ 1 / 0 }}\n", r"desktop\.sh\.j2:2: division by zero"),
        ("{% include 'other.j2' %}\n", r"there is no template other\.j2"),
        (b"\xff\n", r"template desktop\.sh\.j2 cannot be read"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_its_line(template, why, tmp_path):
    path = tmp_path / "desktop.sh.j2"
    path.write_bytes(template if isinstance(template, bytes) else template.encode())
    with pytest.raises(LaunchError, match=why):
        Scripts(tmp_path).desktop(spec(), "/x", Listen.NETWORK)


def test_what_is_no_file_is_neither_waited_for_nor_passed_over(tmp_path):
    os.mkfifo(tmp_path / "desktop.sh.j2")
    with pytest.raises(LaunchError, match=r"^template .*/desktop\.sh\.j2 is no regular file$"):
        Scripts(tmp_path).desktop(spec(), "/x", Listen.NETWORK)


def test_the_path_of_a_socket_has_an_end():
    Scripts(None).desktop(spec(), "/" + "x" * 97, Listen.SOCKET)
    with pytest.raises(LaunchError, match="107 bytes"):
        Scripts(None).desktop(spec(), "/" + "x" * 98, Listen.SOCKET)
    with pytest.raises(LaunchError, match="107 bytes"):
        Scripts(None).desktop(spec(), "/" + "é" * 49, Listen.SOCKET)
    Scripts(None).desktop(spec(), "/" + "x" * 98, Listen.NETWORK)


def test_a_template_is_quoted_as_its_language_asks(tmp_path):
    (tmp_path / "x.j2").write_text("{{ value }} {{ name }}")
    assert Templates(tmp_path, repr).render("x.j2", value="a'b", name=3) == '"a\'b" 3'


# What bash makes of it, with a real Xvnc


@pytest.mark.real
class TestRun:
    @pytest.fixture(autouse=True)
    def folder(self, short_folder):
        need("Xvnc")
        self.folder = short_folder
        self.home = str(short_folder / "home")

    def test_nothing_of_whoever_starts_it_reaches_the_session(self):
        outside = {
            "LD_PRELOAD": "", "LD_LIBRARY_PATH": "/nonesuch", "CONDA_PREFIX": "/c", "LOADEDMODULES": "m",
            "DISPLAY": ":7", "SSH_AUTH_SOCK": "/s",
            "XAUTHORITY": "/x", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/d", "PYTHONPATH": "/p",
            "NOTIFY_SOCKET": "/n", "CREDENTIALS_DIRECTORY": "/c", "BASH_FUNC_module%%": "() { :; }", "BASH_ENV": "/b",
            "LC_TIME": "C.UTF-8", "SLURM_JOB_ID": "7",
        }  # fmt: skip
        done = run(self.folder, spec("sh", "-c", "env -0 >env", home=self.home), **outside)
        assert done.returncode == 0, done.stderr
        lines = (Path(self.home) / "env").read_text().split("\0")[:-1]
        inside = dict(line.split("=", 1) for line in lines)
        display = inside.pop("DISPLAY")
        assert display != ":7"
        assert inside.pop("DBUS_SESSION_BUS_ADDRESS", "unix:").partition(",")[0] != "unix:path=/d"
        for name in ("USER", "LOGNAME", "SHELL", "LANG", "PATH"):
            assert inside.pop(name)
        assert inside.keys() <= {
            "HOME", "PWD", "OLDPWD", "SHLVL", "_", "VNCGATE_DESKTOP", "XDG_RUNTIME_DIR", "TMPDIR", "XAUTHORITY",
            "LC_TIME", "SLURM_JOB_ID",
        }  # fmt: skip
        assert inside["HOME"] == inside["PWD"] == self.home
        assert inside["VNCGATE_DESKTOP"] == NONCE
        assert not Path(inside["XDG_RUNTIME_DIR"]).exists()
        socket = f"/tmp/.X11-unix/X{display[1:]}"
        assert not Path(socket).exists() or f" {socket}\n" in Path("/proc/net/unix").read_text(), "nobody's"

    def test_inside_an_image_its_variables_are_kept(self):
        inside = spec("sh", "-c", 'echo "$CUDA_HOME|$PATH|$SSH_TTY" >env', home=self.home, image="x.sif")
        done = run(self.folder, inside, CUDA_HOME="/cuda", SSH_TTY="/dev/pts/1")
        assert done.returncode == 0, done.stderr
        assert (Path(self.home) / "env").read_text() == f"/cuda|{os.environ['PATH']}|\n"

    def test_the_runtime_folder_is_private_and_files_are_not(self):
        run(
            self.folder,
            spec("sh", "-c", "stat -c %a $XDG_RUNTIME_DIR $XAUTHORITY >modes; umask >>modes", home=self.home),
        )
        assert (Path(self.home) / "modes").read_text().split() == ["700", "600", "0022"]

    def test_nobody_can_foresee_the_name_of_its_folder_in_tmp(self):
        """A name that follows from what all can read, as Slurm's job comments, could be taken by anybody beforehand."""
        taken = Path("/tmp", f"vncgate-{NONCE}")
        taken.mkdir()
        try:
            one = spec("sh", "-c", "echo $XDG_RUNTIME_DIR; cat $XDG_RUNTIME_DIR/desktop", home=self.home)
            done = [run(self.folder, one), run(self.folder, one)]
        finally:
            taken.rmdir()
        folders = [each.stdout.splitlines()[-2] for each in done]
        assert [each.stdout.splitlines()[-1] for each in done] == [NONCE, NONCE], "it says whose it is"
        assert all(re.fullmatch("/tmp/vncgate-[A-Za-z0-9]{10}", name) and not Path(name).exists() for name in folders)
        assert folders[0] != folders[1]

    def test_what_earlier_desktops_left_is_removed_and_nothing_else(self):
        def left(name, *, age=600, whose=OTHER):
            folder = Path(tempfile.mkdtemp(prefix=f"vncgate-{name}-", dir="/tmp"))
            (folder / "number").write_text("98765\n")
            if whose:
                (folder / "desktop").write_text(f"{whose}\n")
            if name == "living":
                fcntl.flock(stack.enter_context((folder / "desktop").open()), fcntl.LOCK_EX)
            os.utime(folder, (time.time() - age,) * 2)
            return folder

        stack = contextlib.ExitStack()
        files = Path("/tmp/.X98765-lock"), Path("/tmp/.X11-unix/X98765")
        for file in files:
            file.touch()
        dead, *kept = left("dead"), left("living"), left("young", age=0), left("other", whose="")
        link = Path(f"{dead}-link")
        link.symlink_to(kept[-1])
        try:
            done = run(self.folder, spec(home=self.home))
            assert done.returncode == 0, done.stderr
            assert [path.exists() for path in (dead, *kept, link)] == [False, True, True, True, True]
            assert not any(file.exists() for file in files)
        finally:
            stack.close()
            link.unlink()
            for path in (dead, *kept):
                shutil.rmtree(path, ignore_errors=True)
            for file in files:
                file.unlink(missing_ok=True)

    def test_a_folder_is_locked_as_long_as_anything_of_its_desktop_lives(self):
        look = 'flock -n "$XDG_RUNTIME_DIR/desktop" true && echo free || echo held'
        assert run(self.folder, spec("sh", "-c", look, home=self.home)).stdout.endswith("held\n")

    def test_the_display_is_for_those_with_its_cookie(self):
        need("xdpyinfo")
        look = "xdpyinfo >/dev/null && echo mine; XAUTHORITY=/dev/null xdpyinfo || echo not mine"
        done = run(self.folder, spec("sh", "-c", look, home=self.home))
        assert done.stdout.split("\n")[-3:-1] == ["mine", "not mine"]

    def test_setup_lines_are_run_before_the_command(self):
        setup = 'greet() { echo "it\'s $1"; }\nexport GREETING=$(greet me); cd /'
        done = run(self.folder, spec("sh", "-c", 'echo "$GREETING"; pwd', home=self.home, setup=setup))
        assert "it's me\n/\n" in done.stdout

    def test_a_mistake_in_the_setup_lines_is_shown_and_ends_nothing_else(self):
        done = run(self.folder, spec("echo", "here", home=self.home, setup="if then"))
        assert "syntax error" in done.stderr
        assert done.returncode == 0
        assert "here" in done.stdout

    @pytest.mark.parametrize(("listen", "where"), [(Listen.NETWORK, "node'07"), (Listen.SOCKET, "vnc.sock")])
    def test_it_reports_in_one_line(self, listen, where):
        copy = f"until [ -e {self.folder}/report ]; do sleep 0.01; done; cp {self.folder}/report ."
        done = run(self.folder, spec("sh", "-c", copy, home=self.home, host="node'07"), listen)
        assert done.returncode == 0, done.stderr
        report = (Path(self.home) / "report").read_text()
        assert report.startswith(f"{NONCE} ")
        assert where in report

    def test_a_taken_port_is_evaded(self):
        need("unshare", "ip")
        if os.geteuid() != 0:
            pytest.skip("makes namespaces: needs root")
        copy = f"cp {self.folder}/report ."
        script = Scripts(None).desktop(spec("sh", "-c", copy, home=self.home), str(self.folder), Listen.NETWORK)
        (self.folder / "desktop.sh").write_text(script)
        (self.folder / "passwd").write_bytes(bytes(8))
        # In namespaces of its own display 0 is free, and its port is not.
        held = """import socket, subprocess, sys
with socket.create_server(("127.0.0.1", 5900)):
    sys.exit(subprocess.run(sys.argv[1:]).returncode)"""
        inside = f"""ip link set lo up && mkdir -p /tmp/.X11-unix && mount -t tmpfs -o mode=1777 none /tmp/.X11-unix &&
            exec {quote([sys.executable, "-c", held, "bash", f"{self.folder}/desktop.sh"])}"""
        done = subprocess.run(["unshare", "-nm", "sh", "-c", inside], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        port = int((Path(self.home) / "report").read_text().split()[-1])
        assert port >= 6000

    def test_the_session_s_exit_status_is_its_own(self):
        done = run(self.folder, spec("sh", "-c", "exit 7", home=self.home))
        assert done.returncode == 7
        assert (self.folder / "status").read_text() == "7\n"
        assert done.stderr.endswith("The session ended with exit status 7.\n")

    def test_a_command_that_is_not_there(self):
        done = run(self.folder, spec("startnonesuch", home=self.home))
        assert done.returncode == 127
        assert "startnonesuch: command not found on " in done.stderr.splitlines()[-1]

    def test_a_home_that_is_not_there_and_one_that_cannot_be_made(self):
        (self.folder / "file").touch()
        done = run(self.folder, spec(home=f"{self.folder}/file/home"))
        assert done.returncode == 1
        assert (
            done.stderr.splitlines()[-1] == f"The home folder {self.folder}/file/home cannot be made: Not a directory"
        )

    def test_no_server(self):
        (self.folder / "bin").mkdir()
        for program in Path("/usr/bin").iterdir():
            if program.name not in ("Xvnc", "Xtigervnc"):
                (self.folder / "bin" / program.name).symlink_to(program)
        # The PATH of an image is kept.
        done = run(self.folder, spec(home=self.home, image="x.sif"), PATH=f"{self.folder}/bin")
        assert done.returncode == 1
        assert "install TigerVNC's server (Debian, Ubuntu: tigervnc-standalone-server" in done.stderr.splitlines()[-1]

    def test_a_server_that_does_not_start(self):
        done = run(self.folder, spec(home=self.home, geometry="99999x99999"))
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("Xvnc did not start: ")

    def test_who_leaves_the_session_and_forgets_its_environment_is_ended_too(self):
        if not Path("/usr/bin/python3").exists():
            pytest.skip("missing: /usr/bin/python3 (Debian package python3)")
        stray = f"1000.{os.getpid()}"
        done = run(self.folder, spec("sh", "-c", f"(setsid env -i sleep {stray} &); sleep 0.1", home=self.home))
        assert done.returncode == 0, done.stderr
        assert subprocess.run(["pgrep", "-f", stray]).returncode == 1

    def test_an_xvnc_that_dies_ends_the_desktop(self):
        kill = 'pid=$(pgrep -f -- "-auth $XAUTHORITY" | head -n 1); kill -KILL $pid; sleep 1000'
        done = run(self.folder, spec("sh", "-c", kill, home=self.home))
        assert done.stderr.splitlines()[-1].startswith("Xvnc ended by itself")
        assert done.returncode == 137
