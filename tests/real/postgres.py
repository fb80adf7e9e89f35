"""A real PostgreSQL for tests: a cluster of its own in a folder of its own, on a unix socket, ended by its pid.

with Postgres() as server:
    server.database()       # the URL of a new database on it
    server.restart()
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest

PATIENCE = 60.0
USER = "gate"


def programs() -> Path | None:
    """The folder of initdb and postgres: on PATH, or where Debian has them, the newest version's; None: nowhere."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _somebody() -> dict:
    """PostgreSQL refuses to run as root: who runs it instead, for subprocess."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("there is neither a user postgres nor a user nobody")


class Postgres:
    """One server, whose user has a password."""

    def __init__(self) -> None:
        self._programs = programs()
        if self._programs is None:
            pytest.skip("missing: initdb (Debian package postgresql)")
        self._as = _somebody()
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Postgres:
        self.folder = Path(tempfile.mkdtemp(prefix="vncgate-postgres-"))  # short: a socket's path has 107 bytes
        if self._as:
            os.chown(self.folder, self._as["user"], self._as["group"])
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        options = ("-A", "scram-sha-256", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync")
        argv = [self._programs / "initdb", *options, f"--pwfile={password}", self._data]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, database: str, password: str | None = None) -> str:
        """How a gate names a database here."""
        given = self.password if password is None else password
        return f"postgresql://{USER}:{quote(given)}@/{database}?host={quote(str(self.folder), safe='')}"

    def database(self, encoding: str = "UTF8") -> str:
        """The URL of a new database."""
        name = f"ledger_{secrets.token_hex(4)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
        return self.url(name)

    def emptied(self, url: str) -> str:
        """The URL again, of a database in which nothing is any more; sooner done than a new one."""
        with self.connect(url.rpartition("@/")[2].partition("?")[0]) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return url

    def connect(self, database: str = "postgres"):
        """A connection of psycopg, to look or to do something."""
        import psycopg  # here, because it is an extra

        return psycopg.connect(self.url(database), autocommit=True)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        settings = ("listen_addresses=", f"unix_socket_directories={self.folder}", "max_connections=40")
        argv = [self._programs / "postgres", "-D", self._data, *(word for each in settings for word in ("-c", each))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as
            )
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            said = (self.folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, f"postgres did not start:\n{said}"
            assert time.monotonic() < deadline, f"postgres does not serve:\n{said}"
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, how: int = signal.SIGINT) -> None:
        """End it; connections are cut (SIGINT), or it ends as in a crash (SIGQUIT). Once more does nothing."""
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)

    def restart(self, how: int = signal.SIGINT) -> None:
        """End it, and start it anew with what it has."""
        self.stop(how)
        self.start()
