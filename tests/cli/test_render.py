"""`vncgate render`: what is printed, what is written, and what is refused."""

from __future__ import annotations

import stat

import pytest

from vncgate.cli import main

GOOD = 'ws01 node01 ws01 6000 5901 canary77 name="Ada L."\nws02 node01 ws02 - 5902 canary88\n'


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    monkeypatch.delenv("VNCGATE_CONFIG", raising=False)
    path = tmp_path / "workshop.tokens"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def test_lines_go_to_standard_output(tokens, capsys):
    assert main(["render", "apache", str(tokens), "--form", "guide"]) == 0
    out, err = capsys.readouterr()
    assert "ProxyPass /ws01 ws://127.0.0.1:6000/websockify retry=3 timeout=90\n" in out
    assert "ProxyPass /ws02 ws://127.0.0.1:8081/ws/ws02 " in out
    assert "canary" not in out + err
    assert err == ""


def test_settings_say_how(tokens, tmp_path, capsys):
    config = tmp_path / "vncgate.toml"
    config.write_text('listen = "::1"\nshared_port = 9000\n')
    assert main(["render", "apache", str(tokens), "--config", str(config)]) == 0
    assert '"ws://[::1]:9000/ws/$1"' in capsys.readouterr().out


def test_a_file_is_replaced_and_keeps_its_mode(tokens, tmp_path, capsys):
    output = tmp_path / "snippet.conf"
    output.write_text("old\n")
    output.chmod(0o640)
    assert main(["render", "apache", str(tokens), "-o", str(output)]) == 0
    assert output.read_text().splitlines()[-1].startswith("ProxyPassMatch ")
    assert stat.S_IMODE(output.stat().st_mode) == 0o640
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["apache", "landing"])
def test_a_token_file_with_errors_is_told_and_nothing_written(kind, tokens, tmp_path, capsys):
    tokens.write_text(GOOD + "ws03 node01 api 6003 5903 canary99\nws01 node01\n")
    assert main(["render", kind, str(tokens), "-o", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{tokens}:3:13: error: " in err
    assert f"{tokens}:4:" in err
    assert not (tmp_path / "out").exists()


def test_accounts_that_do_not_fit_the_settings_are_told(tokens, monkeypatch, capsys):
    monkeypatch.setenv("VNCGATE_SHARED_PORT", "6000")
    assert main(["render", "apache", str(tokens)]) == 1
    assert f"{tokens}:1:1: error: account ws01: websocketport 6000 is the gate's shared port" in capsys.readouterr().err


def test_a_token_file_that_cannot_be_read(tmp_path, capsys):
    assert main(["render", "apache", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"vncgate: {tmp_path / 'none'}: cannot be read: No such file or directory\n"


def test_a_file_that_cannot_be_written(tokens, tmp_path, capsys):
    assert main(["render", "apache", str(tokens), "-o", str(tmp_path / "none" / "file")]) == 1
    assert "none/file: cannot be written: No such file or directory" in capsys.readouterr().err


def test_the_pages_as_files(tokens, tmp_path):
    assert main(["render", "landing", str(tokens), "-o", str(tmp_path / "pages")]) == 0
    assert "Ada L." in (tmp_path / "pages" / "index.html").read_text()
    assert (tmp_path / "pages" / "desk" / "ws02" / "index.html").exists()


KINDS = """
[desktops.places.hpc]
type = "slurm"
folder = "/scratch/vncgate"
[desktops.kinds.xfce]
place = "hpc"
command = "startxfce4"
wrap = "apptainer"
image = "/images/xfce.sif"
"""


def test_an_app_for_open_ondemand(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("VNCGATE_CONFIG", raising=False)
    (tmp_path / "vncgate.toml").write_text(KINDS)
    folder = tmp_path / "new" / "app"
    assert main(["render", "ood", "--config", str(tmp_path / "vncgate.toml"), "-o", str(folder)]) == 0
    assert capsys.readouterr() == ("", "")
    modes = {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}
    assert modes == {"manifest.yml": 0o644, "form.yml": 0o644, "submit.yml.erb": 0o644, "template/script.sh.erb": 0o755}
    assert "apptainer exec" in (folder / "template/script.sh.erb").read_text()


def test_an_app_that_cannot_be_written_or_has_no_kinds(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("VNCGATE_CONFIG", raising=False)
    assert main(["render", "ood", "-o", str(tmp_path / "app")]) == 1
    assert "none has a place of type slurm" in capsys.readouterr().err
    (tmp_path / "vncgate.toml").write_text(KINDS)
    assert main(["render", "ood", "--config", str(tmp_path / "vncgate.toml"), "-o", "/dev/null"]) == 1
    assert "/dev/null: cannot be written: " in capsys.readouterr().err
