"""An app for Open OnDemand (batch connect) from the same kinds and sizes, for sites whose portal that is.

Open OnDemand makes jobs, passwords and VNC servers itself; from us it gets a form, what to ask Slurm for, and the
script that is the session (https://osc.github.io/ood-documentation, "Interactive Apps"; release 2.0 or newer). The
account is then the user who is logged in.

ERB and YAML are the outer languages: `<%` of ours is doubled where ERB reads it, and texts are YAML's double-quoted
scalars, which are JSON's (YAML 1.2, section 1.3). In the script every word is quoted for bash.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from vncgate.errors import SettingsError
from vncgate.kinds import PATTERN, DesktopsSettings, Kind, SlurmPlace, Wrap

Commands = Callable[[Sequence[str], Kind, str, str, str], list[list[str]]]
"""Of argv, kind, folder, home and account: what is to be run in this order, so that `argv` runs in the kind's image."""

SCRIPT = "template/script.sh.erb"
"""The one file that must be executable: Open OnDemand keeps its mode."""
_VARIABLE = re.compile("\x02(\\w+)\x03")


def files(settings: DesktopsSettings, inside: Commands) -> dict[str, str]:
    """The app's files by name. `inside` wraps a command so that it runs in a kind's image (apptainer).

    Raises SettingsError when no kind is run in a Slurm cluster.
    """
    kinds = {name: kind for name, kind in settings.kinds.items() if isinstance(settings.place(kind.place), SlurmPlace)}
    if not kinds:
        raise SettingsError("desktops.kinds: none has a place of type slurm, which Open OnDemand could start")
    return {
        "manifest.yml": _manifest(kinds),
        "form.yml": _form(kinds),
        "submit.yml.erb": _submit(settings, kinds),
        SCRIPT: _script(kinds, inside),
    }


def _manifest(kinds: dict[str, Kind]) -> str:
    titles = [kind.title or name for name, kind in kinds.items()]
    return "\n".join(
        [
            "---",
            f"name: {_yaml(titles[0] if len(titles) == 1 else 'Desktops')}",
            'category: "Interactive Apps"',
            'subcategory: "Desktops"',
            'icon: "fa://desktop"',
            'role: "batch_connect"',
            f"description: {_yaml('A desktop on the cluster: ' + ', '.join(titles) + '.')}",
            "",
        ]
    )


def _form(kinds: dict[str, Kind]) -> str:
    options = [
        f"      - [{_yaml(_label(kind, name, size))}, {_yaml(choice)}]" for choice, name, size, kind in _choices(kinds)
    ]
    attribute = ["attributes:", "  desktop:", '    label: "Desktop"', '    widget: "select"', "    options:"]
    return "\n".join(["---", "form:", '  - "desktop"', *attribute, *options, ""])


def _choices(kinds: dict[str, Kind]) -> Iterator[tuple[str, str, str, Kind]]:
    """What can be chosen: its word in the form, kind and size by name, and the kind in that size. Defaults first."""
    for name, kind in kinds.items():
        for size in dict.fromkeys([kind.size, *kind.sizes]):
            yield f"{name}/{size}" if size else name, name, size, kind.sized(size)


def _label(kind: Kind, name: str, size: str) -> str:
    """What people choose by: `Xfce, large (8 cores, 32G, 2 GPUs, 08:00:00)`."""
    resources = [
        f"{kind.cores} core{'' if kind.cores == 1 else 's'}" if kind.cores else "",
        kind.memory or "",
        f"{kind.gpus} GPU{'' if kind.gpus == 1 else 's'}" if kind.gpus else "",
        kind.time or "",
    ]
    told = ", ".join(filter(None, resources))
    return (kind.title or name) + (f", {size}" if size else "") + (f" ({told})" if told else "")


def _submit(settings: DesktopsSettings, kinds: dict[str, Kind]) -> str:
    lines = ["<%# Written by vncgate from the kinds and sizes of its settings. -%>", "---", "<%- case desktop -%>"]
    for choice, _, _, kind in _choices(kinds):
        place = settings.place(kind.place)
        assert isinstance(place, SlurmPlace)  # noqa: S101  (files() chose those)
        lines += [
            f"<%- when {_ruby(choice)} -%>",
            f"cluster: {_in_erb(_yaml(place.cluster or kind.place))}",
            "batch_connect:",
            '  template: "vnc"',
            f"  geometry: {_yaml(kind.geometry or '1280x800')}",
            *([f'  extra_args: "-depth {kind.depth}"'] if kind.depth != 24 else []),
            "script:",
            "  native:",
            *(f"    - {_in_erb(_yaml(word))}" for word in _native(kind, place)),
        ]
    return "\n".join([*lines, "<%- else -%>", '<%- raise "there is no such desktop" -%>', "<%- end -%>", ""])


def _native(kind: Kind, place: SlurmPlace) -> Iterator[str]:
    """Arguments of sbatch."""
    yield from ("--nodes=1", "--ntasks=1", "--no-requeue")
    for flag, value in {
        "--cpus-per-task": kind.cores,
        "--mem": kind.memory,
        "--gres": kind.gpus and f"gpu:{kind.gpus}",
        "--time": kind.time,
        "--partition": kind.partition or place.partition,
        "--account": place.account,
        "--qos": place.qos,
        "--reservation": place.reservation,
    }.items():
        if value:
            yield f"{flag}={value}"
    yield from kind.extra or ()


def _script(kinds: dict[str, Kind], inside: Commands) -> str:
    lines = [
        "#!/bin/bash",
        "# The session of a desktop. Written by vncgate from the kinds of its settings.",
        "# Open OnDemand runs it in the job, in its own folder, on the display of a VNC server that it has started.",
        "export USER=${USER:-$(id -un)}",
        'folder=$(cd -- "$(dirname -- "$0")" && pwd)',
        "stage=${1-}",
        "<%- case context.desktop.to_s.split('/').first -%>",
    ]
    for name, kind in kinds.items():
        lines += [f"<%- when {_ruby(name)} -%>", *map(_in_erb, _session(kind, inside))]
    return "\n".join([*lines, "<%- else -%>", "exit 1", "<%- end -%>", ""])


def _session(kind: Kind, inside: Commands) -> Iterator[str]:
    home = kind.home and _with_user(kind.home)
    if kind.wrap is Wrap.APPTAINER:
        yield 'if [ -z "$stage" ]; then'
        yield "  # Inside the image there are neither this display's socket nor its cookie."
        yield '  cp -- "${XAUTHORITY:-$HOME/.Xauthority}" "$folder/Xauthority" || exit'
        display = ["env", f"DISPLAY={_of('DISPLAY')}", f"XAUTHORITY={_of('folder')}/Xauthority"]
        argv = [*display, "bash", f"{_of('folder')}/script.sh", "session"]
        shown = kind.model_copy(update={"binds": (*kind.binds, "/tmp/.X11-unix")})  # noqa: S108
        *before, last = inside(argv, shown, _of("folder"), home, _of("USER"))
        yield from (f"  {_bash(command)} || exit" for command in before)
        yield f"  exec {_bash(last)}"
        yield "fi"
    if home:
        yield f"export HOME={_bash([home])}"
        yield 'mkdir -p -- "$HOME" || exit'
    yield 'cd -- "$HOME" || exit'
    for name, value in kind.environment.items():
        yield f"export {name}={_bash([value])}"
    yield 'if [ "$stage" != bus ] && bus=$(type -P dbus-run-session); then'
    yield '  exec "$bus" -- bash "$folder/script.sh" bus'
    yield "fi"
    if kind.setup:
        yield "[ -r /etc/profile ] && . /etc/profile"
        yield f"eval {_bash([kind.setup])}"
    if kind.window_manager:
        yield f"{_bash(kind.window_manager)} &"
    yield f"exec {_bash(kind.command)}"


def _of(variable: str) -> str:
    """What stands in a word for the value of a variable of the script."""
    return f"\x02{variable}\x03"


def _with_user(text: str) -> str:
    return PATTERN.sub(_of("USER"), text)


def _bash(words: Sequence[str]) -> str:
    """Words for bash: as they are, but for the values of variables in them."""
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    parts = _VARIABLE.split(word)
    return "".join(f'"${part}"' if i % 2 else shlex.quote(part) for i, part in enumerate(parts) if part) or "''"


def _yaml(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def _ruby(text: str) -> str:
    """A string of Ruby inside of an ERB tag; `text` is of names, which have no quotes."""
    return f"'{text}'"


def _in_erb(text: str) -> str:
    return text.replace("<%", "<%%")
