import pytest

from tests.web.values import account, accounts, status
from vncgate.model import Readiness, State, Want
from vncgate.render.cards import Shown, cards, shown

REFUSED = "desktop node01:5901 refused the connection"


@pytest.mark.parametrize(
    ("readiness", "more", "state", "words"),
    [
        (Readiness.READY, {}, Shown.READY, ""),
        (Readiness.READY, {"connections": 1}, Shown.IN_USE, ""),
        (Readiness.UNKNOWN, {"connections": 2}, Shown.IN_USE, ""),
        (Readiness.OFFLINE, {"reason": REFUSED}, Shown.OFFLINE, REFUSED),
        (Readiness.OFFLINE, {}, Shown.OFFLINE, "does not answer"),
        (Readiness.WRONG_PASSWORD, {"reason": "authentication failed"}, Shown.ATTENTION, "organizers must check"),
        (Readiness.UNKNOWN, {}, Shown.CHECKING, ""),
        (Readiness.READY, {"state": State.STARTING}, Shown.CHECKING, "being started"),
        (Readiness.READY, {"state": State.BACKOFF, "connections": 1}, Shown.OFFLINE, "starting it again"),
        (Readiness.READY, {"state": State.FATAL, "error": "spawn /usr/bin/x"}, Shown.OFFLINE, "tell the organizers"),
        (Readiness.READY, {"state": State.STOPPED, "want": Want.DOWN}, Shown.OFFLINE, "stopped by the organizers"),
        (Readiness.READY, {"state": State.STOPPING, "want": Want.DOWN}, Shown.OFFLINE, "stopped by the organizers"),
    ],
)
def test_what_participants_are_told(readiness, more, state, words):
    told, reason = shown(status(account(), readiness, **more))
    assert told is state
    assert words in reason if words else reason == ""
    assert "/usr/bin" not in reason


@pytest.mark.parametrize("state", State)
def test_every_state_is_told_in_some_words(state):
    assert shown(status(account(), Readiness.READY, state=state))[0] in Shown


def test_an_account_without_a_status_is_being_checked_and_the_order_is_the_files():
    roster = accounts(3)
    made = cards(roster, [status(roster["ws02"])])
    assert [(path, card.state) for path, card in made.items()] == [
        ("ws01", Shown.CHECKING),
        ("ws02", Shown.READY),
        ("ws03", Shown.CHECKING),
    ]


def test_the_api_tells_no_more_than_the_page_shows():
    card = cards(accounts(1), [])["ws01"]
    assert card.public == {"path": "ws01", "name": "ws01", "title": "Person 1", "state": "checking", "reason": ""}
