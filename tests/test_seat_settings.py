"""The section [seats]: where the ledger is, and no password of it in the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from vncgate.errors import SettingsError
from vncgate.settings import load


@pytest.fixture
def read(tmp_path):
    def read_(ledger):
        file = tmp_path / "vncgate.toml"
        file.write_text(f'[seats]\nledger = "{ledger}"\n')
        return load(file, {}).seats

    return read_


@pytest.mark.parametrize("ledger", ["", "postgresql://gate@db.example.org/vncgate", "sqlite:////var/lib/x.sqlite"])
def test_an_address_is_taken_as_it_is(read, ledger):
    assert read(ledger).ledger == ledger
    assert read(ledger).ledger_file is None


def test_a_path_is_that_of_a_file_with_the_address(read):
    assert read("/etc/vncgate/ledger").ledger_file == Path("/etc/vncgate/ledger")


@pytest.mark.parametrize("ledger", ["mysql://db/x", "postgresql://", "sqlite://", "ledger.sqlite"])
def test_what_is_no_address_is_refused(read, ledger):
    with pytest.raises(SettingsError, match=r"seats\.ledger: write postgresql://USER@HOST/DATABASE"):
        read(ledger)


@pytest.mark.parametrize("password", ["s3cret", "p@ss:word/x"])
def test_a_password_is_refused_and_not_repeated(read, password):
    with pytest.raises(SettingsError) as refused:
        read(f"postgresql://gate:{password}@db/vncgate")
    assert "write the address to a file" in str(refused.value)
    assert password not in str(refused.value)
