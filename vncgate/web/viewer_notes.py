"""What organizers tell who is at a desktop: GET api/notes/PATH, which its viewer asks now and then.

A stream would hold one of Apache's workers for each viewer; a look every 15 s costs next to nothing.
"""

from __future__ import annotations

from aiohttp import web

from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE


def add(app: web.Application, lobby: Lobby) -> None:
    """Put it into the application."""

    async def notes(request: web.Request) -> web.Response:
        session = await lobby.doorkeeper.at_desk(request, request.match_info["path"])
        words = request[LANGUAGE]
        found = await lobby.participants.organizing.notes_for(session.seat)
        shown = [{"number": note.number, "text": words.of(note.text)} for note in found]
        return web.json_response({"notes": shown})

    app.router.add_get("/api/notes/{path}", notes)
