"""The landing page and the viewer as static files, for Apache to serve.

Names and links then live without the daemon; the state of each desktop shows where Apache passes `api/` on to one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from vncgate.errors import PublishError
from vncgate.files import replace_file
from vncgate.model import Roster
from vncgate.render.cards import Card
from vncgate.render.pages import Pages
from vncgate.render.reach import Reach
from vncgate.settings import Settings
from vncgate.web import assets

MANIFEST = ".vncgate-export.json"
"""The names of all files in the folder that are ours: these are replaced and removed, and no others."""


def export(directory: Path, settings: Settings, roster: Roster) -> None:
    """Make `directory` a static copy of the site, for the accounts of `roster`.

    Each file changes in one step, and the page that links to others comes after them, so a reader never meets
    half a site. Files of ours that are no longer needed are removed; a file that is not ours is never touched,
    and PublishError is raised, with nothing changed, where one is in the way. Files are readable for all (0644),
    whatever the umask. It blocks on the disk. Raises SettingsError as web.app.build() does.
    """
    files = _site(settings, roster)
    try:
        _write(directory, files)
    except OSError as error:
        raise PublishError(f"{error.filename or directory}: cannot be written: {error.strerror or error}") from None


def _site(settings: Settings, roster: Roster) -> dict[str, bytes]:
    """All files by name, in the order in which they are written."""
    loaded = assets.load(settings.landing)
    pages = Pages(settings.landing, assets.digests(loaded), static=True)
    reach = Reach(settings, fronted=True)
    files = {f"static/{name}": asset.body for name, asset in loaded.items()}
    for account in roster.values():
        files[f"desk/{account.path}/index.html"] = pages.desk(account, reach, root="../../").encode()
    files["index.html"] = pages.landing((Card(account) for account in roster.values()), reach).encode()
    return files


def _write(directory: Path, files: dict[str, bytes]) -> None:
    ours = _manifest(directory)
    for name in files:
        if name not in ours and (directory / name).exists():
            raise PublishError(f"{directory / name}: is not vncgate's; name an empty folder, or remove that file")
    _folder(directory)
    # Named before they are written: whatever happens in between, the next export knows them for ours.
    _put_manifest(directory, ours.union(files))
    for name, body in files.items():
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            _folder(directory / parent)
        replace_file(directory / name, body)
    _remove(directory, ours.difference(files))
    _put_manifest(directory, files)


def _remove(directory: Path, names: Iterable[str]) -> None:
    for name in names:
        (directory / name).unlink(missing_ok=True)
        for parent in PurePosixPath(name).parents[:-1]:
            with contextlib.suppress(OSError):  # another file is in it
                (directory / parent).rmdir()


def _folder(path: Path) -> None:
    if not path.is_dir():
        path.mkdir()
        path.chmod(0o755)


def _manifest(directory: Path) -> set[str]:
    try:
        names = json.loads((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        return set()
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and _inside(name) for name in names):
        raise PublishError(f"{directory / MANIFEST}: is damaged; remove the folder, and it is made anew")
    return set(names)


def _inside(name: str) -> bool:
    """Whether a name stays in the folder, which others may be able to write to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()


def _put_manifest(directory: Path, names: Iterable[str]) -> None:
    replace_file(directory / MANIFEST, json.dumps(sorted(names), indent=0).encode())
