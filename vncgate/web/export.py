"""The landing page and the viewer as static files, for Apache to serve.

Names and links then live without the daemon; the state of each desktop shows where Apache passes `api/` on to one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from vncgate import catalogues
from vncgate.errors import PublishError, SettingsError
from vncgate.files import replace_file
from vncgate.model import Roster
from vncgate.render.cards import Card
from vncgate.render.pages import Pages
from vncgate.render.reach import Reach
from vncgate.settings import Access, Settings
from vncgate.web import assets

MANIFEST = ".vncgate-export.json"
"""The names of all files in the folder that are ours, in two lists: `site`, what the pages are and link to, and
`previous`, what they linked to before. These are replaced and removed, and no others."""


def export(directory: Path, settings: Settings, roster: Roster) -> None:
    """Make `directory` a static copy of the site, for the accounts of `roster`.

    Each file changes in one step, and the page that links to others comes after them, so a reader never meets
    half a site. Files of ours that are no longer needed are removed, but a page that was loaded a moment before
    still finds its own: one edition below static/ is kept beside the current one. A file that is not ours is
    never touched, and PublishError is raised, with nothing changed, where one is in the way. Files are readable
    for all (0644), whatever the umask. It blocks on the disk. Raises SettingsError as web.app.build() does.
    """
    if settings.access is Access.SEAT:
        raise SettingsError("access: with `seat` people sign in, which pages as files cannot do")
    files = _site(settings, roster)
    try:
        _write(directory, files)
    except OSError as error:
        raise PublishError(f"{error.filename or directory}: cannot be written: {error.strerror or error}") from None


def _site(settings: Settings, roster: Roster) -> dict[str, bytes]:
    """All files by name, in the order in which they are written."""
    languages = catalogues.load(settings.languages)
    loaded = assets.load(settings.landing, languages)
    pages = Pages(settings.landing, assets.bodies(loaded), languages, static=True)
    reach = Reach(settings, fronted=True)
    files = {f"static/{pages.edition}/{name}": asset.body for name, asset in loaded.items()}
    for account in roster.values():
        files[f"desk/{account.path}/index.html"] = pages.desk(Card(account), reach, root="../../").encode()
    files["index.html"] = pages.landing((Card(account) for account in roster.values()), reach).encode()
    return files


def _write(directory: Path, files: dict[str, bytes]) -> None:
    site, previous = _manifest(directory)
    ours = site | previous
    for name in files:
        if name not in ours and (directory / name).exists():
            raise PublishError(f"{directory / name}: is not vncgate's; name an empty folder, or remove that file")
    _folder(directory)
    # Named before they are written: whatever happens in between, the next export knows them for ours.
    _put_manifest(directory, site.union(files), previous)
    for name, body in files.items():
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            _folder(directory / parent)
        replace_file(directory / name, body)
    # What the pages linked to until now; where it is the same edition still, the one before that stays.
    replaced = {name for name in site.difference(files) if name.startswith("static/")}
    previous = (replaced or previous).difference(files)
    _remove(directory, ours.difference(files, previous))
    _put_manifest(directory, files, previous)


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


def _manifest(directory: Path) -> tuple[set[str], set[str]]:
    try:
        match json.loads((directory / MANIFEST).read_bytes()):
            case {"site": [*site], "previous": [*previous]} if all(map(_inside, [*site, *previous])):
                return set(site), set(previous)
    except FileNotFoundError:
        return set(), set()
    except ValueError:
        pass
    raise PublishError(f"{directory / MANIFEST}: is damaged; remove the folder, and it is made anew")


def _inside(name: object) -> bool:
    """Whether it is a name that stays in the folder, which others may be able to write to."""
    path = PurePosixPath(name if isinstance(name, str) else "")
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()


def _put_manifest(directory: Path, site: Iterable[str], previous: Iterable[str]) -> None:
    names = {"site": sorted(site), "previous": sorted(previous)}
    replace_file(directory / MANIFEST, json.dumps(names, indent=0).encode())
