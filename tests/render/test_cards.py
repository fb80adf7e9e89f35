import pytest

from tests.web.values import DESKTOPS, Started, account, accounts, launched_account, status
from vncgate.model import DesktopState, Readiness, Roster, State, Want
from vncgate.render.cards import LONGEST_REASON, Offer, Shown, cards, shown

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


def launched(state, proxy=None, *, finds=True, is_over=False, **more):
    """The card of an account whose desktop the gate starts itself."""
    one = launched_account()
    desktops = Started()
    desktops.set("ws01", state, **more)
    proxies = [] if proxy is None else [status(account() if finds else one, **proxy)]
    return cards(Roster((one,)), proxies, desktops.statuses(), DESKTOPS.kinds, is_over=is_over)["ws01"]


@pytest.mark.parametrize(
    ("state", "more", "told", "words", "offer"),
    [
        (DesktopState.STOPPED, {}, Shown.STOPPED, "it starts when you open it", Offer.START),
        (
            DesktopState.STOPPED,
            {"kind": "pool", "reason": "nobody used it"},
            Shown.STOPPED,
            "nobody used it; it starts when you open it",
            Offer.START,
        ),
        (DesktopState.STOPPED, {"kind": "eager"}, Shown.STOPPED, "", Offer.START),
        (DesktopState.STOPPED, {"kind": "manual"}, Shown.STOPPED, "the organizers start it", Offer.NOTHING),
        (DesktopState.STOPPED, {"kind": "gone", "reason": "it ended"}, Shown.STOPPED, "it ended", Offer.NOTHING),
        (DesktopState.REQUESTED, {"reason": "3rd in line"}, Shown.REQUESTED, "3rd in line", Offer.NOTHING),
        (DesktopState.PENDING, {"reason": "waits for nodes"}, Shown.PENDING, "waits for nodes", Offer.NOTHING),
        (DesktopState.STARTING, {}, Shown.STARTING, "", Offer.NOTHING),
        (DesktopState.STOPPING, {}, Shown.STOPPING, "", Offer.NOTHING),
        (DesktopState.FAILED, {"reason": "home full"}, Shown.FAILED, "home full", Offer.AGAIN),
        (
            DesktopState.FAILED,
            {"kind": "manual", "reason": "home full"},
            Shown.FAILED,
            "home full",
            Offer.AGAIN,
        ),
    ],
)
def test_what_participants_are_told_of_a_desktop_that_is_not_there(state, more, told, words, offer):
    card = launched(state, **more)
    assert (card.state, card.reason, card.desktop.offer) == (told, words, offer)
    assert card.desktop.state is state


@pytest.mark.parametrize(
    ("proxy", "state", "told"),
    [
        (None, DesktopState.STARTING, Shown.STARTING),
        ({"state": State.STARTING}, DesktopState.STARTING, Shown.STARTING),
        ({"state": State.STOPPED}, DesktopState.STARTING, Shown.STARTING),
        ({}, DesktopState.RUNNING, Shown.READY),
        ({"readiness": Readiness.UNKNOWN}, DesktopState.RUNNING, Shown.READY),  # whoever started it has logged in
        ({"connections": 1}, DesktopState.RUNNING, Shown.IN_USE),
        ({"readiness": Readiness.OFFLINE}, DesktopState.RUNNING, Shown.OFFLINE),
        ({"state": State.STOPPED, "want": Want.DOWN}, DesktopState.RUNNING, Shown.OFFLINE),
        ({"state": State.FATAL}, DesktopState.RUNNING, Shown.OFFLINE),
    ],
)
def test_a_desktop_runs_for_participants_when_they_are_let_through_to_it(proxy, state, told):
    card = launched(DesktopState.RUNNING, proxy)
    assert (card.desktop.state, card.state) == (state, told)


@pytest.mark.parametrize("state", [DesktopState.STOPPED, DesktopState.FAILED])
def test_nothing_is_offered_when_the_workshop_is_over(state):
    card = launched(state, reason="the workshop is over", is_over=True)
    assert (card.reason, card.desktop.offer) == ("the workshop is over", Offer.NOTHING)


def test_the_times_of_a_desktop_are_told_where_they_mean_something():
    assert launched(DesktopState.PENDING, starts=5.0, ends=9.0).public["desktop"] == {
        "state": "PENDING", "reason": "", "starts": 5.0, "ends": None, "idle_end": None, "offer": "",
        "kind": "on_demand",
    }  # fmt: skip
    told = launched(DesktopState.RUNNING, {}, starts=5.0, ends=9.0, is_ending=True, idle_end=7.0).public["desktop"]
    assert (told["starts"], told["ends"], told["idle_end"]) == (None, 9.0, 7.0)
    assert launched(DesktopState.RUNNING, {}, ends=9.0).public["desktop"]["ends"] is None  # nobody is warned yet


def test_a_desktop_to_which_browsers_are_not_led_yet_is_starting():
    assert launched(DesktopState.RUNNING, {}, finds=False).state is Shown.STARTING


def test_neither_a_host_nor_a_long_log_is_told():
    public = launched(DesktopState.FAILED, reason="bash: line 1:\n" + "startxfce4 " * 1000).public
    assert "node01" not in str(public)
    assert len(public["reason"]) <= LONGEST_REASON
    assert "\n" not in public["reason"]


def test_an_account_that_has_its_own_server_has_no_desktop_of_the_gates():
    assert not cards(accounts(1), [])["ws01"].is_launched
    assert cards(Roster((launched_account(),)), [])["ws01"].is_launched
    assert "desktop" not in cards(accounts(1), [])["ws01"].public
