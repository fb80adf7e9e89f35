"""The section [files]: which folders it takes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vncgate.files_settings import FilesSettings


@pytest.mark.parametrize("root", ["", "/scratch/school/{account}", "{home}", "{home}/{account}/work", "/srv"])
def test_folders(root):
    assert FilesSettings(root=root).root == root


@pytest.mark.parametrize("root", ["scratch", "{account}", "/x/{home}", "/x/{user}", "/x/{", "{home}{home}", "/x\0"])
def test_folders_that_are_none(root):
    with pytest.raises(ValidationError):
        FilesSettings(root=root)
