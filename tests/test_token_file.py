"""Which token file counts, and that the last good roster stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from vncgate.control import HandedOver
from vncgate.errors import TokensError
from vncgate.handover import State
from vncgate.settings import Settings, load
from vncgate.token_file import NEW_KINDS, STAYS, TokenFile

GOOD = "ws01 node01 path01 - 5901 secret01\n"
BAD = GOOD + "ws02 node01\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "workshop.tokens"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def handed(text):
    return HandedOver("/elsewhere.tokens", text.encode())


async def refusal(reading):
    with pytest.raises(TokensError) as caught:
        await reading
    return str(caught.value)


async def test_a_file_with_errors_is_named_and_logged_once_until_it_is_good_again(path, caplog):
    file = TokenFile(path, Settings(), {}, State())
    file.serves(await file.first())
    path.write_text(BAD)
    for _ in range(2):
        assert f"{path}:2:1: error: " in await refusal(file.reload(None))
    assert file.trouble == f"{path} has 1 error{STAYS}"
    assert caplog.text.count(f"{path}:2:1") == 1
    path.write_text(GOOD)
    assert list(await file.reload(None)) == ["ws01"]
    assert (file.trouble, file.problems) == ("", ())


async def test_what_was_handed_over_and_is_bad_does_not_take_the_place_of_the_file(path):
    file = TokenFile(path, Settings(), {"CREDENTIALS_DIRECTORY": str(path.parent)}, State())
    await file.first()
    await file.reload(handed(GOOD.replace("ws01", "ws07")))
    await refusal(file.reload(handed(BAD)))
    assert list(await file.reload(None)) == ["ws07"]  # a credential does not follow the file on disk
    assert file.source == "/elsewhere.tokens"


async def test_a_file_that_the_daemon_can_read_itself_counts_again_at_the_next_reload(path):
    file = TokenFile(path, Settings(), {}, State())
    await file.reload(handed(GOOD.replace("ws01", "ws07")))
    assert list(await file.reload(None)) == ["ws01"]
    assert file.source == str(path)


async def test_of_a_kind_that_the_settings_do_not_have_it_says_how_new_ones_come_in(path):
    kinds = load(Path("x.toml"), content=b'[desktops.kinds.xfce]\ncommand = "a"\n')
    file = TokenFile(path, kinds, {}, State())
    file.serves(await file.first())
    await refusal(file.reload(handed(GOOD + "ws02 - path02 - - secret02 desktop=mate\n")))
    assert file.trouble == f"/elsewhere.tokens has 1 error{STAYS}{NEW_KINDS}"


async def test_accounts_wait_for_the_kinds_that_new_settings_may_have(path):
    file = TokenFile(path, Settings(), {}, State())
    file.serves(await file.first())
    wants = handed(GOOD + "ws02 - path02 - - secret02 desktop=xfce\n")
    assert "the settings have no kind of desktop to start" in await refusal(file.reload(wants, lacks_settings=True))
    assert list(await file.reload(None, lacks_settings=True)) == ["ws01"]
    assert list(await file.reload(wants)) == ["ws01", "ws02"]  # offline, as the warning says


async def test_a_file_that_was_emptied_throws_nobody_out(path):
    left = State(roster=GOOD)
    path.write_text("# all commented out\n")
    assert "has no accounts" in await refusal(TokenFile(path, Settings(), {}, left).load())
    assert "has no accounts" in await refusal(TokenFile(path, Settings(), {}, left).reload(handed("#\n")))
    assert list(await TokenFile(path, Settings(), {}, left).first()) == ["ws01"]  # what the gate before had
    assert list(await TokenFile(path, Settings(), {}, State()).first()) == []


async def test_new_passwords_are_written_where_they_may_be(path):
    path.write_text("# keep\nws01 - path01 - - secret01 pin=123456\nws02 node path02 - 5901 secret02\n")
    file = TokenFile(path, Settings(), {}, State())
    said = await file.rekey()
    assert said == "new VNC passwords: 1 in the token file, 1 left to VNC servers of their own"
    assert path.read_text().startswith("# keep\nws01")
    assert "secret01" not in path.read_text()
    assert "secret02" in path.read_text()


async def test_where_they_may_not_the_one_command_is_told(path, tmp_path):
    before = path.read_text()
    file = TokenFile(path, Settings(), {"CREDENTIALS_DIRECTORY": str(tmp_path)}, State())
    said = await file.rekey()
    assert said == "new VNC passwords are yours to write, as the gate may not: vncgate tokens rekey TOKENS"
    assert path.read_text() == before
    path.write_text("nonsense\n")
    said = await TokenFile(path, Settings(), {}, State()).rekey()
    assert said.endswith(f"then give the desktops new VNC passwords: vncgate tokens rekey {path}")
    assert path.read_text() == "nonsense\n"
