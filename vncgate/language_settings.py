"""The section `[languages]` of the settings' file."""

from __future__ import annotations

from vncgate.kinds import File, Section, Words


class LanguagesSettings(Section):
    """The languages of the pages, the mails and the cards. English and German are there; a site adds its own."""

    folder: File = None
    """Folder of the site's own catalogues, CODE.po (gettext): of further languages (fr.po), or with other words for
    single texts (en.po, de.po)."""
    offered: Words = ()
    """Languages that may be chosen, in the order of the switch, such as "en, de". Empty: all that there are."""
    default: str = "en"
    """Language for who asks for none that is offered, and that of the static copy."""
