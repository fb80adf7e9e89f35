import pytest

from vncgate.errors import SettingsError
from vncgate.render.static import edition
from vncgate.settings import load as settings
from vncgate.web.assets import bodies, load


def landing(**flags):
    return settings(flags={f"landing.{name}": value for name, value in flags.items()}).landing


def test_ours_novncs_and_the_accent():
    files = load(landing(accent="#7a003c"))
    assert files["site.css"].media_type == "text/css"
    assert files["landing.js"].media_type == files["novnc/core/rfb.js"].media_type == "text/javascript"
    assert files["icon.svg"].media_type == "image/svg+xml"
    assert b"--accent: #7a003c" in files["site/theme.css"].body
    assert "novnc/LICENSE.txt" in files  # noVNC's licence travels with it
    assert edition(bodies(load(landing()))) != edition(bodies(files))


def test_the_sites_own_logo_and_style_sheet(tmp_path):
    (tmp_path / "uni.PNG").write_bytes(b"\x89PNG")
    (tmp_path / "uni.css").write_text("h1 { color: red }")
    files = load(landing(logo=tmp_path / "uni.PNG", stylesheet=tmp_path / "uni.css"))
    assert files["site/logo.png"].media_type == "image/png"
    assert files["site/style.css"].body == b"h1 { color: red }"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("logo", "nowhere.png", "landing.logo: .*nowhere.png cannot be read: No such file"),
        ("stylesheet", "nowhere.css", "landing.stylesheet: .*nowhere.css cannot be read"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_the_setting(tmp_path, name, value, said):
    with pytest.raises(SettingsError, match=said):
        load(landing(**{name: tmp_path / value}))
