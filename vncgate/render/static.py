"""The files below static/, as pages link to them: static/EDITION/NAME.

What such an address gives never changes, so browsers keep it without asking; and a module's relative imports,
which can carry no hash of their own, stay within the edition.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping

IMPORT = re.compile(rb"""^[ \t]*(?:import|export)\b(?:[\s\w$*{},]*?\bfrom)?\s*["'](\.[^"'\n]*)["']""", re.MULTILINE)
"""A static import, or an export from elsewhere, of a relative address (ECMAScript 2025, sections 16.2.2 and 16.2.3)."""


def edition(files: Mapping[str, bytes]) -> str:
    """One hash, of 16 hexadecimal digits, of all names and contents together."""
    digest = hashlib.sha256()
    for name, body in sorted(files.items()):
        digest.update(b"%s\0%d\0%s" % (name.encode(), len(body), body))
    return digest.hexdigest()[:16]


def modules(entry: str, files: Mapping[str, bytes]) -> list[str]:
    """The module `entry`, then all that it imports, directly or through others; each once, the nearest first.

    An import of what is not among the files is left for the browser to complain of.
    """
    found = [entry]
    for name in found:  # it grows meanwhile
        for match in IMPORT.finditer(files.get(name, b"")):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1].decode()))
            if target in files and target not in found:
                found.append(target)
    return found
