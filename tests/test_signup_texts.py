"""Documents and the event code, in their files."""

from __future__ import annotations

import pytest

from vncgate.errors import SettingsError
from vncgate.signup_form import digest
from vncgate.signup_settings import SignupSettings
from vncgate.signup_texts import AGAIN, SignupTexts


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def settings(folder, **more):
    terms = {"name": "terms", "title": {"en": "Terms", "de": "Bedingungen"}}
    files = {"en": str(folder / "terms.md"), "de": str(folder / "agb.md")}
    return SignupSettings.model_validate({"documents": [terms | {"file": files}], **more})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "terms.md").write_text("Be kind.")
    (tmp_path / "agb.md").write_text("Freundlich sein.")
    (tmp_path / "code").write_text(" nova-7 \nwhat is below does not count\n")
    return tmp_path


async def test_in_each_language_its_own(folder):
    texts = SignupTexts(settings(folder, code_file=str(folder / "code")))
    assert [(each.title, each.text) for each in texts.documents("de")] == [("Bedingungen", "Freundlich sein.")]
    assert [each.digest for each in texts.documents("fr")] == [digest("Be kind.")]
    assert texts.code == "nova-7"


async def test_what_changes_is_taken_up_and_what_breaks_is_not(folder, caplog):
    clock = Clock()
    texts = SignupTexts(settings(folder), clock)
    (folder / "terms.md").write_text("Be kinder.")
    await texts.look_again()
    assert texts.documents("en")[0].text == "Be kind."  # not at every visit
    clock.now += AGAIN
    await texts.look_again()
    assert texts.documents("en")[0].text == "Be kinder."
    (folder / "terms.md").unlink()
    clock.now += AGAIN
    await texts.look_again()
    assert texts.documents("en")[0].text == "Be kinder."
    assert "terms.md cannot be read: No such file or directory; what it was counts on" in caplog.text


def test_all_that_cannot_be_read_is_told_at_once(folder):
    (folder / "terms.md").write_bytes(b"\xff")
    (folder / "agb.md").unlink()
    (folder / "code").write_text("\n")
    with pytest.raises(SettingsError) as caught:
        SignupTexts(settings(folder, code_file=str(folder / "code")))
    assert str(caught.value).splitlines() == [
        f"signup.documents: terms: {folder}/terms.md is not UTF-8",
        f"signup.documents: terms: {folder}/agb.md cannot be read: No such file or directory",
        f"signup.code_file: {folder}/code has no code in its first line",
    ]
