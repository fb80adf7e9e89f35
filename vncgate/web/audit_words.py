"""What the audit log's entries say was done, in the reader's language. In the ledger and its CSV they stay English."""

from __future__ import annotations

import re

from vncgate.languages import N_, Words

DEEDS = (
    N_("add"),
    N_("assign"),
    N_("extend"),
    N_("export of a person"),
    N_("export of people"),
    N_("forget somebody"),
    N_("link"),
    N_("mail given up ({why})"),
    N_("message"),
    N_("move"),
    N_("new PIN"),
    N_("no spare"),
    N_("release"),
    N_("renew"),
    N_("restart desktop"),
    N_("revoke"),
    N_("share (control)"),
    N_("share (view)"),
    N_("sign out everywhere"),
    N_("spare"),
    N_("start desktop"),
    N_("stop desktop"),
    N_("swap"),
    N_("swap back"),
    N_("table of {count} people"),
    N_("workshop end"),
    N_("workshop freeze"),
    N_("workshop open"),
    N_("workshop purge"),
    N_("workshop: desktops are closed"),
    N_("workshop: desktops are closed, done"),
    N_("workshop: doors open"),
    N_("workshop: files are closed"),
    N_("workshop: overtime begins"),
    N_("workshop: personal data are removed"),
    N_("workshop: personal data are removed, done"),
    N_("workshop: sign-up opens"),
    N_("workshop: warning, 15 minutes before"),
    N_("workshop: warning, 5 minutes before"),
)
"""All that is written there."""

_WITH_VALUES = {
    text: re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.*)", re.escape(text))) for text in DEEDS if "{" in text
}


def said(what: str, words: Words) -> str:
    """What an entry says was done, in the language of `words`; as it is, where it is not known."""
    for text, pattern in _WITH_VALUES.items():
        if found := pattern.fullmatch(what):
            return words.gettext(text).format(**found.groupdict())
    return words.gettext(what)
