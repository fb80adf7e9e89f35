import os
import stat
from pathlib import Path

import pytest

from tests.doctor.cases import case, results, told
from vncgate.doctor import files
from vncgate.doctor.files import Seen

FILE = Path("/etc/x")


@pytest.mark.parametrize(
    ("mode", "uid", "whom", "wanted"),
    [
        (0o100644, 0, "Apache", []),
        (None, 0, "Apache", []),
        (0o100664, 0, "Apache", ["warning"]),
        (0o100646, 0, "the gate", ["error"]),
        (0o100644, 1000, "Apache", ["warning"]),
        (0o100644, 1000, "the gate", []),
    ],
)
def test_who_can_change_what_commands(mode, uid, whom, wanted):
    assert results(files.commands(Seen(FILE, mode, uid), whom)) == wanted


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        (None, []),
        (stat.S_IFDIR | 0o755, []),
        (stat.S_IFDIR | 0o750, ["error"]),
        (stat.S_IFDIR | 0o777, ["error"]),
        (0o100644, ["error"]),
    ],
)
def test_the_folder_of_the_pages(mode, wanted):
    assert results(files.pages(Seen(FILE, mode))) == wanted


@pytest.mark.parametrize(("free", "wanted"), [(1 << 30, []), (20 << 20, ["warning"]), (1 << 20, ["error"])])
def test_room_on_the_disk(free, wanted):
    assert results(files.room(FILE, free)) == wanted


async def test_what_is_looked_at(tmp_path):
    snippet, config, export = tmp_path / "s.conf", tmp_path / "c.toml", tmp_path / "pages"
    for path in (snippet, config):
        path.touch()
        path.chmod(0o644)
    export.mkdir()
    each = case(config=config, flags={"apache.snippet": snippet, "landing.export": export}, control=tmp_path / "c")
    export.chmod(0o755)
    if os.getuid() == 0:
        assert results(await files.check(each)) == ["ok"]
    for path in (snippet, config):
        path.chmod(0o666)
    export.chmod(0o700)
    found = [message for result, message in told(await files.check(each)) if result == "error"]
    assert [message.split(": ")[0] for message in found] == [str(config), str(snippet), str(export)]
