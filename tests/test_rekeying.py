"""New passwords in a token file: what changes, and what stays as it was."""

from __future__ import annotations

import pytest

from vncgate.errors import TokensError
from vncgate.rekeying import Rekeyed, rekey
from vncgate.tokens import parse

TEXT = """\ufeff# our class, keep private
ws01 - p1 - - k3Vq9xTb   pin=123456  name="Ada L."   # first
ws02 - p2 - - 'a b"c'

  # with a server of its own
ws03 node01 p3 7003 5901 secret03 pin=111111
ws04 - p4 - - ''
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ws.tokens"
    path.write_text(TEXT, encoding="utf-8")
    path.chmod(0o640)
    return path


def test_only_passwords_of_desktops_that_the_gate_starts_change(file):
    before = parse(TEXT.encode()).roster
    assert rekey(file) == Rekeyed(given=2, others=1)
    after = parse(file.read_bytes()).roster
    changed = [name for name in before if before[name].password != after[name].password]
    assert changed == ["ws01", "ws02"]
    assert [after[name].pin for name in after] == [before[name].pin for name in before]
    old, new = TEXT.splitlines(), file.read_text(encoding="utf-8").splitlines()
    assert [index for index, line in enumerate(old) if new[index] != line] == [1, 2]
    assert new[1].endswith('   pin=123456  name="Ada L."   # first'), "comments and columns stay"
    assert len(new[1]) == len(old[1])
    assert file.stat().st_mode & 0o777 == 0o640


def test_pins_and_all_where_asked_for(file):
    before = parse(TEXT.encode()).roster
    assert rekey(file, with_pins=True, of_all=True) == Rekeyed(given=3, others=0)
    after = parse(file.read_bytes())
    assert not after.errors
    assert all(after.roster[name].pin != before[name].pin for name in ("ws01", "ws03"))
    assert after.roster["ws03"].password != before["ws03"].password
    assert not after.roster["ws04"].password, "one that has none gets one from the gate with each start"


def test_each_gets_another_one(file):
    rekey(file)
    first = file.read_text()
    rekey(file)
    assert file.read_text() != first
    passwords = [account.password.reveal() for account in parse(file.read_bytes()).roster.values()]
    assert len(set(passwords)) == len(passwords)


def test_a_file_with_errors_stays(file):
    file.write_text(TEXT + "nonsense\n")
    before = file.read_bytes()
    with pytest.raises(TokensError, match="vncgate check"):
        rekey(file)
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(TokensError, match="cannot be written: No such file"):
        rekey(tmp_path / "none")


def test_line_ends_of_windows_stay(file):
    file.write_bytes(b"ws01 - p1 - - k3Vq9xTb\r\nws02 - p2 - - Hm7wPz4c pin=123456\r\n")
    rekey(file, with_pins=True)
    lines = file.read_bytes().split(b"\r\n")
    assert [len(line) for line in lines] == [22, 33, 0]
    assert not parse(file.read_bytes()).problems
