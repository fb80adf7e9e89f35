import re

import pytest

from vncgate.render.theme import DARK, LIGHT, _rgb, contrast, theme


@pytest.mark.parametrize("accent", ["#2563eb", "#000000", "#ffffff", "#ffe600", "#00ff00", "#808080", "#7a003c"])
def test_any_accent_is_readable(accent):
    css = theme(accent)
    on_accent = re.search(r"--on-accent: (#\w{6})", css)[1]
    light, dark = re.findall(r"--accent-text: (#\w{6})", css)
    assert contrast(_rgb(on_accent), _rgb(accent)) >= 4.5
    assert contrast(_rgb(light), _rgb(LIGHT)) >= 4.5
    assert contrast(_rgb(dark), _rgb(DARK)) >= 4.5


def test_the_contrast_ratio_is_the_standards():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


def test_a_readable_accent_is_left_as_it_is():
    assert "--accent: #7a003c; --on-accent: #ffffff; --accent-text: #7a003c" in theme("#7a003c")
