"""`vncgate seats`: what organizers do on the command line, through a control socket that is real."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest
from aiohttp import web

from tests.web.organized import House
from vncgate import control
from vncgate.cli import main
from vncgate.errors import ControlError


class Operator:
    def __init__(self, house):
        self.house = house

    @property
    def organizing(self):
        if self.house is None:
            raise ControlError('nobody has a seat here: it takes the setting access = "seat"')
        return self.house.participants.organizing


async def metrics(_):
    return web.Response()


@pytest.fixture
async def house(tmp_path):
    async with House(tmp_path).open() as house:
        yield house


@pytest.fixture
async def command(house, tmp_path, capsys, monkeypatch):
    operator = Operator(house)

    async def give(*args):
        status = await asyncio.to_thread(main, ["seats", *args])
        return status, *capsys.readouterr()

    give.operator = operator
    monkeypatch.setenv("VNCGATE_CONTROL", str(tmp_path / "control"))
    async with control.serve(control.bind(tmp_path / "control"), operator, metrics):
        yield give


async def test_who_sits_where_and_names_only_where_asked(house, command):
    await house.person("Ada Lovelace", "ws01", email="ada@example.org")
    status, out, err = await command("list")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[3:] if line.strip()] == ["ws01", "ws02", "ws03", "ws04"]
    assert "Ada" not in out
    assert "Ada Lovelace" in (await command("list", "--names"))[1]
    seats = json.loads((await command("list", "ws0[12]", "--json"))[1])
    assert [seat["account"] for seat in seats] == ["ws01", "ws02"]
    assert "name" not in seats[0]
    for words in (("people",), ("people", "--json"), ("audit",)):
        assert "Ada" not in (await command(*words))[1]
    assert "ada@example.org" in (await command("people", "--names"))[1]


async def test_a_seats_life_on_the_command_line(house, command):
    assert await command("assign", "ws01", "--name", "Ada", "--email", "a@example.org") == (0, "ws01 is theirs.\n", "")
    assert (await command("spare", "ws04"))[1] == "ws04 is a spare.\n"
    assert (await command("swap", "ws01"))[1] == "ws01 shows the desktop of ws04.\n"
    assert "shows ws04" in (await command("list"))[1]
    assert (await command("swap-back", "ws01"))[0] == 0
    assert (await command("spare", "ws04", "--no"))[1] == "ws04 is no spare any more.\n"
    assert (await command("pin", "ws01"))[1].strip().isdigit()
    assert (await command("link", "ws01"))[1].startswith("http://127.0.0.1/seat#")
    assert (await command("move", "ws01", "ws02"))[1] == "ws02 is theirs.\n"
    assert (await command("extend", "ws0*", "--minutes", "30"))[1] == "There is more time: 4 seats.\n"
    assert (await command("message", "*", "--text", "Lunch"))[0] == 0
    assert (await command("sign-out", "ws02"))[1] == "All browsers are signed out: ws02.\n"
    assert (await command("revoke", "ws02", "ws03"))[0] == 0
    assert (await command("release", "ws02"))[1] == "ws02 is free.\n"
    added = json.loads((await command("add", "--name", "Bo", "--json"))[1])
    assert (await command("move-up", added["person"], "ws03"))[1] == "ws03 is theirs.\n"
    assert (await command("remove", added["person"]))[0] == 0
    entries = json.loads((await command("audit", "--json"))[1])
    assert {entry["who"] for entry in entries} == {"operator"}
    assert {"message", "forget somebody", "swap", "assign"} <= {entry["what"] for entry in entries}


async def test_who_asks_gets_all_that_is_kept_of_them_and_of_nobody_else(house, command):
    jo = await house.person("Jörg", "ws01", email="jo@example.org")
    await house.person("Ada", "ws02")
    status, out, err = await command("about", jo.id)
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert (told["name"], told["email"], told["seat"]["account"]) == ("Jörg", "jo@example.org", "ws01")
    assert "Ada" not in out
    assert ("operator", "export of a person", jo.id) in await house.audit()
    assert await command("about", "nobody") == (1, "", "vncgate: nobody with this id is known\n")


async def test_a_table_goes_out_and_in(house, command, tmp_path):
    file = tmp_path / "people.csv"
    await house.person("Jörg", "ws01")
    assert await command("export", str(file)) == (0, "", "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Jörg" in file.read_text(encoding="utf-8-sig")
    assert await command("import", str(file)) == (0, "1 lines were taken in.\n", "")
    assert (await command("export", "-"))[1].endswith("\r\n")
    file.write_bytes(b"name,account\nBo,ws09\nJ\xf6rg,\n")
    status, _, err = await command("import", str(file))
    assert status == 1
    assert err.splitlines() == [
        "vncgate: nothing was taken in; the table has errors",
        "line 3, cell 0: this is not UTF-8; from Excel, save it as “CSV UTF-8”",
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("pin", "ws09"), "there is no account ws09"),
        (("move-up", "nobody"), "nobody with this id is known"),
        (("swap", "ws01"), "there is no free spare seat"),
        (("extend", "ws01", "--minutes", "0"), "minutes is a number from 1 to 43200, or give until"),
        (("import", "/nowhere.csv"), "/nowhere.csv: cannot be read: No such file or directory"),
        (("export", "/nowhere/x.csv"), "/nowhere/x.csv: cannot be written: No such file or directory"),
    ],
)
async def test_what_is_refused_is_one_line(command, args, words):
    assert await command(*args) == (1, "", f"vncgate: {words}\n")


async def test_a_gate_without_seats_says_so(command):
    command.operator.house = None
    status, _, err = await command("list")
    assert (status, err) == (1, 'vncgate: nobody has a seat here: it takes the setting access = "seat"\n')


async def test_who_is_given_must_be_said(command):
    with pytest.raises(SystemExit):
        await command("assign", "ws01")
