"""The wrap `apptainer`: from commands to commands that run inside an image. Pure, so that it goes with every host.

What stands in the small shell programs is constant; whatever comes from settings is an argument of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

from vncgate.kinds import Kind
from vncgate.launchers.base import Bind, binds, expand

_CHECK = """
command -v apptainer >/dev/null || { echo "There is no apptainer on $(uname -n): install Apptainer." >&2; exit 1; }
test -e "$1" || { echo "The image $1 is missing on $(uname -n): vncgate images deploy brings it there." >&2; exit 1; }
"""
# In one step, so that no half overlay stays when it is interrupted.
_OVERLAY = """
test -e "$1" && exit
rm -f -- "$1.new" && apptainer overlay create --sparse --size "$2" "$1.new" >&2 && mv -- "$1.new" "$1"
"""
_CLEAN = """
# Which of the GPUs a batch system gave to this job, where it does not hide the others.
if [ -n "${CUDA_VISIBLE_DEVICES-}" ]; then export APPTAINERENV_CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"; fi
exec apptainer exec --cleanenv "$@"
"""
_OWN_HOME = """
home=$(getent passwd "$(id -u)" | cut -d: -f6)
set -- --home "${home:-$HOME}" "$@"
"""


def commands(argv: Sequence[str], kind: Kind, folder: str, home: str, account: str) -> list[list[str]]:
    """What is to be run in this order, so that `argv` runs inside the image of `kind`; see Scripts.commands().

    Inside are, at the paths that they have outside, `folder` and `home` (empty: the user's own home folder).
    Raises LaunchError for `binds` that are none.
    """
    outside = [Bind(folder, folder, readonly=False), *binds(kind, account)]
    before = [_shell(_CHECK, kind.image)]
    options = []
    if home:
        before.append(["mkdir", "-p", "--", home])
        outside.append(Bind(home, home, readonly=False))
    if kind.contain:
        # Else /tmp is in memory, and of 64 MiB.
        work = f"{folder}/work"
        before.append(["mkdir", "-p", "--", work])
        options += ["--containall", "--workdir", work]
    if kind.nvidia:
        options.append("--nv")
    if kind.overlay:
        overlay = expand(kind.overlay, account)
        before.append(_shell(_OVERLAY, overlay, str(kind.overlay_size)))
        options += ["--overlay", overlay]
    for bind in outside:
        options += ["--mount", bind.as_mount("src", "dst", "ro")]
    program = _OWN_HOME + _CLEAN if kind.contain and not home else _CLEAN
    return [*before, _shell(program, *options, kind.image, *argv)]


def _shell(program: str, *arguments: str) -> list[str]:
    """A program of statements that have a line each, as one line: all that a job script can have."""
    statements = [line for line in program.splitlines() if line and not line.startswith("#")]
    return ["sh", "-c", "; ".join(statements), "sh", *arguments]
