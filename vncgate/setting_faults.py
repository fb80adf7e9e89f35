"""What is wrong with a setting, in words: where it stands, and what would be right. Pure."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from vncgate.kinds import PLACES, Kind, LocalPlace, Resources, Section
from vncgate.signup_settings import SignupDocument, SignupField

_NAMED = ("desktops.kinds", "desktops.places")
"""Sections whose own sections the file names."""
_LISTS: Mapping[str, type[Section]] = {"signup.fields": SignupField, "signup.documents": SignupDocument}
"""Sections of which the file has one after the other."""


def explain(detail: Any, sources: Mapping[str, str], names: Iterable[str]) -> str:
    """One of pydantic's errors as a line. `sources` says where settings and sections come from: a file, or the flag or
    variable itself; `names` are those of all settings and sections.
    """
    first, *rest = (str(part) for part in detail["loc"])
    parts = [first, *(part for part in rest if part != "[key]")]
    known: Iterable[str] = [*names, *_NAMED]
    if ".".join(parts[:2]) in _NAMED:
        section = ".".join(parts[:3])
        if parts[1] == "kinds":
            model: type[Section] = Resources if "sizes" in parts else Kind
        else:
            model = PLACES.get(parts[3], LocalPlace) if len(parts) > 3 else LocalPlace
            parts[3:4] = []  # the type, by which pydantic tells places apart
        known = [f"{section}.{field}" for field in model.model_fields]
        name = ".".join(parts)
    elif ".".join(parts[:2]) in _LISTS and len(parts) > 2:
        listed = ".".join(parts[:2])
        section = f"{listed}[{int(parts[2]) + 1}]"  # as people count
        known = [f"{section}.{field}" for field in _LISTS[listed].model_fields]
        name = ".".join([section, *parts[3:]])
    else:
        name = next((n for n in (".".join(parts[:2]), parts[0]) if n in sources), ".".join(parts[:2]))
    source = next((sources[n] for n in (name, ".".join(parts[:2]), parts[0]) if n in sources), "settings")
    where = source if source.startswith(("--", "VNCGATE_")) else f"{source}: {name}"
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: no such setting{_meant(name, detail['input'], known)}"
        case "string_type" if isinstance(detail["input"], dict) and f"{name}s" in known:
            return f"{where}: is a name; did you mean [{name}s.{next(iter(detail['input']), 'NAME')}]?"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{where}: is a section: write [{name}] and its settings in the lines below"
        case "missing":
            return f"{where}: is missing"
        case "union_tag_not_found":
            return f"{where}.type: is missing: one of {', '.join(PLACES)}"
        case "union_tag_invalid":
            return f"{where}.type: must be one of {', '.join(PLACES)} (it is {detail['ctx']['tag']!r})"
        case "path_type":
            message = "input should be a path"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
    is_told = detail["type"] == "value_error" and isinstance(detail["input"], dict)  # by the message, where to look
    given = str(value) if isinstance(value := detail["input"], date) else reprlib.repr(_without_password(value))
    return f"{where}: {message[:1].lower()}{message[1:]}{'' if is_told else f' (it is {given})'}"


def _without_password(value: object) -> object:
    """A value as a message may repeat it: an address (RFC 3986, section 3.2.1) without who logs in there, and how."""
    return re.sub(r"://.*@", "://***@", value) if isinstance(value, str) else value


def _meant(name: str, value: object, known: Iterable[str]) -> str:
    """What somebody may have meant by a `name` that is no setting; sections alone where it is one."""
    head, _, key = name.rpartition(".")
    if isinstance(value, dict):
        key = key.rstrip("s")
        if near := [section for section in _NAMED if section.endswith(f".{key}s")]:
            return f"; did you mean [{near[0]}.{next(iter(value), 'NAME')}]?"
    if ".sizes." in head and key in Kind.model_fields:
        return f"; it is one of the kind itself: write it below [{head.partition('.sizes.')[0]}]"
    if head.startswith("desktops.kinds.") and any(key in place.model_fields for place in PLACES.values()):
        return "; it is one of places: write it below [desktops.places.NAME]"
    if head.startswith("desktops.places.") and key in Kind.model_fields:
        return "; it is one of kinds: write it below [desktops.kinds.NAME]"
    return closest(name, known)


def closest(name: str, known: Iterable[str]) -> str:
    """What was meant by `name`, as a message's end; nothing where nothing is near it."""
    known = list(known)
    near = [full for full in known if full.endswith(f".{name}")] or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
