import pytest

from tests.web.values import DESKTOPS, Started, account, accounts, launched_account, status
from vncgate.languages import Words
from vncgate.model import DesktopState, Readiness, Roster, State, Want
from vncgate.render.cards import Offer, Shown, cards, closed, shown

ENGLISH = Words()
REFUSED = "desktop node01:5901 refused the connection"


@pytest.mark.parametrize(
    ("readiness", "more", "state", "words"),
    [
        (Readiness.READY, {}, Shown.READY, ""),
        (Readiness.READY, {"connections": 1}, Shown.IN_USE, ""),
        (Readiness.UNKNOWN, {"connections": 2}, Shown.IN_USE, ""),
        (Readiness.OFFLINE, {"reason": REFUSED}, Shown.OFFLINE, "the desktop refused the connection"),
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
    assert "node01" not in reason


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
    assert card.public(ENGLISH) == {
        "path": "ws01", "name": "ws01", "title": "Person 1", "state": "checking", "label": "checking", "reason": "",
    }  # fmt: skip


def launched(state, proxy=None, *, finds=True, is_over=False, **more):
    """The card of an account whose desktop the gate starts itself."""
    one = launched_account()
    desktops = Started()
    desktops.set("ws01", state, **more)
    proxies = [] if proxy is None else [status(account() if finds else one, **proxy)]
    return cards(Roster((one,)), proxies, desktops.statuses(), DESKTOPS.kinds, is_over=is_over)["ws01"]


ENDED = {"reason": "nobody used it for 5 min"}
BROKEN = {"reason": "ssh node01 cannot be reached: Connection refused"}
HIDDEN = {"reason": "/srv/desktops/0123456789abcdef: Permission denied"}
WHO = "the organizers start it"


@pytest.mark.parametrize(
    ("state", "more", "told", "headline", "words", "offer", "comes"),
    [
        ("STOPPED", {}, Shown.STOPPED, "is not running", "it starts when you open it", Offer.START, False),
        ("STOPPED", {"kind": "pool", **ENDED}, Shown.STOPPED, "has ended",
         "nobody used it for 5 min; it starts when you open it", Offer.START, False),
        ("STOPPED", {"kind": "eager"}, Shown.STOPPED, "is not running", "", Offer.START, False),
        ("STOPPED", {"kind": "manual"}, Shown.STOPPED, "is not started yet", WHO, Offer.NOTHING, False),
        ("STOPPED", {"kind": "manual", **ENDED}, Shown.STOPPED, "has ended", f"nobody used it for 5 min; {WHO}",
         Offer.NOTHING, False),
        ("STOPPED", {"kind": "gone", **ENDED}, Shown.STOPPED, "has ended", "nobody used it for 5 min", Offer.NOTHING,
         False),
        ("REQUESTED", {}, Shown.REQUESTED, "is on its way", "", Offer.NOTHING, True),
        ("REQUESTED", {"reason": "3rd in line"}, Shown.REQUESTED, "waits for its turn", "3rd in line", Offer.NOTHING,
         True),
        ("REQUESTED", {"is_again": True, **HIDDEN}, Shown.AGAIN, "is being started again",
         "something went wrong with it; it starts by itself", Offer.NOTHING, True),
        ("REQUESTED", {"is_again": True, **BROKEN}, Shown.AGAIN, "has to wait",
         "the computers that run desktops do not answer now; it starts by itself", Offer.NOTHING, True),
        ("PENDING", {}, Shown.PENDING, "is in the queue", "", Offer.NOTHING, True),
        ("PENDING", {"reason": "other jobs are before it"}, Shown.PENDING, "is in the queue", "others are before it",
         Offer.NOTHING, True),
        ("PENDING", BROKEN, Shown.PENDING, "is in the queue", "the computers that run desktops do not answer now",
         Offer.NOTHING, True),
        ("STARTING", {}, Shown.STARTING, "is starting", "", Offer.NOTHING, True),
        ("STARTING", HIDDEN, Shown.STARTING, "is starting", "", Offer.NOTHING, True),
        ("STOPPING", ENDED, Shown.STOPPING, "is being ended", "nobody used it for 5 min", Offer.NOTHING, False),
        ("STOPPING", {"is_again": True, "reason": "restarted by the organizers"}, Shown.AGAIN, "is being started again",
         "restarted by the organizers; it starts by itself", Offer.NOTHING, True),
        ("FAILED", HIDDEN, Shown.FAILED, "has failed", "the organizers can see why: please tell them", Offer.AGAIN,
         False),
        ("FAILED", {"kind": "manual", "reason": "No space left on device"}, Shown.FAILED, "has failed",
         "there is no space left for its files: ask the organizers", Offer.AGAIN, False),
        ("FAILED", {"kind": "gone", **HIDDEN}, Shown.FAILED, "has failed",
         "the organizers can see why: please tell them", Offer.NOTHING, False),
    ],
)  # fmt: skip
def test_what_participants_are_told_of_a_desktop_that_is_not_there(state, more, told, headline, words, offer, comes):
    card = launched(DesktopState[state], **more)
    assert (card.state, card.reason) == (told, words)
    assert (card.desktop.headline, card.desktop.offer, card.desktop.comes) == (f"Your desktop {headline}", offer, comes)
    assert card.desktop.state is DesktopState[state]


def test_that_it_goes_on_by_itself_is_said_by_the_viewer_alone():
    card = launched(DesktopState.STOPPED, kind="manual")
    assert (card.reason, card.desktop.reason) == (WHO, f"{WHO}; this page then goes on by itself")


@pytest.mark.parametrize("state", DesktopState)
@pytest.mark.parametrize("is_again", [False, True])
@pytest.mark.parametrize("kind", [*DESKTOPS.kinds, "gone"])
@pytest.mark.parametrize("is_over", [False, True])
def test_every_state_has_a_headline_and_no_raw_words(state, is_again, kind, is_over):
    card = launched(state, kind=kind, is_again=is_again, is_over=is_over, reason="sbatch: /srv/x: node01: error")
    assert card.desktop.headline
    assert not {"sbatch", "/srv/x", "node01"} & set(str(card.public(ENGLISH)).replace(":", " ").split())


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
    assert (card.reason, card.desktop.offer, card.desktop.comes) == ("the workshop is over", Offer.NOTHING, False)
    assert card.desktop.headline == "Your desktop is not started any more"


def test_the_times_of_a_desktop_are_told_where_they_mean_something():
    assert launched(DesktopState.PENDING, starts=5.0, ends=9.0).public(ENGLISH)["desktop"] == {
        "state": "PENDING", "headline": "Your desktop is in the queue", "reason": "", "starts": 5.0, "ends": None,
        "idle_end": None, "offer": "", "comes": True, "kind": "on_demand",
    }  # fmt: skip
    told = launched(DesktopState.RUNNING, {}, starts=5.0, ends=9.0, is_ending=True, idle_end=7.0).public(ENGLISH)[
        "desktop"
    ]
    assert (told["starts"], told["ends"], told["idle_end"]) == (None, 9.0, 7.0)
    assert (
        launched(DesktopState.RUNNING, {}, ends=9.0).public(ENGLISH)["desktop"]["ends"] is None
    )  # nobody is warned yet


def test_a_desktop_to_which_browsers_are_not_led_yet_is_starting():
    assert launched(DesktopState.RUNNING, {}, finds=False).state is Shown.STARTING


def test_an_account_that_has_its_own_server_has_no_desktop_of_the_gates():
    assert not cards(accounts(1), [])["ws01"].is_launched
    assert cards(Roster((launched_account(),)), [])["ws01"].is_launched
    assert "desktop" not in cards(accounts(1), [])["ws01"].public(ENGLISH)


@pytest.mark.parametrize("launched", [True, False])
def test_a_desktop_that_may_not_be_used_now_says_why_however_it_is(launched):
    (card,) = cards(Roster((launched_account() if launched else account(),)), [], []).values()
    shut = closed(card, "the workshop is over")
    assert (shut.state, shut.reason) == (Shown.STOPPED if launched else Shown.OFFLINE, "the workshop is over")
    if launched:
        assert (shut.desktop.state, shut.desktop.offer) == (DesktopState.STOPPED, Offer.NOTHING)
        assert shut.desktop.reason == "the workshop is over"
