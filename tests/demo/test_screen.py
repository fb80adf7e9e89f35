import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.demo import screen as module
from vncgate.demo.canvas import Rect
from vncgate.demo.screen import COLUMNS, PANEL, ROWS, STATUS, Screen, character

BACKSPACE, TAB, ENTER, ESCAPE, SHIFT, CTRL, ALT, DELETE = 0xFF08, 0xFF09, 0xFF0D, 0xFF1B, 0xFFE1, 0xFFE3, 0xFFE9, 0xFFFF


@pytest.fixture
def screen():
    return Screen("ws01", 0.6)


def look(screen: Screen, rect: Rect) -> bytes:
    return screen.canvas.pixels(rect)


def type_keys(screen: Screen, *keys: str | int) -> None:
    for key in keys:
        for keysym in map(ord, key) if isinstance(key, str) else [key]:
            screen.key(keysym, True)
            screen.key(keysym, False)


def test_what_is_typed_is_seen_and_backspace_takes_it_back(screen):
    blank = look(screen, PANEL)
    type_keys(screen, "ab")
    typed = look(screen, PANEL)
    assert typed != blank
    type_keys(screen, "c", BACKSPACE)
    assert look(screen, PANEL) == typed
    type_keys(screen, ENTER, "x", BACKSPACE, BACKSPACE)
    assert look(screen, PANEL) == typed
    type_keys(screen, *[BACKSPACE] * 5)
    assert look(screen, PANEL) == blank


def test_lines_wrap_and_scroll(screen):
    type_keys(screen, "x" * COLUMNS)
    other = Screen("ws01", 0.6)
    type_keys(other, "x" * (COLUMNS - 1), ENTER, "x")
    assert look(screen, PANEL) == look(other, PANEL)
    type_keys(screen, *["line", ENTER] * (ROWS + 3))
    again = Screen("ws01", 0.6)
    type_keys(again, *["line", ENTER] * (ROWS + 9))
    assert look(screen, PANEL) == look(again, PANEL)


@pytest.mark.parametrize(
    ("held", "key", "shown"),
    [
        ([], ord("a"), "a"),
        ([], ord(" "), "Space"),
        ([], ESCAPE, "Escape"),
        ([], 0xFFC9, "F12"),
        ([], 0x1008FF11, "0x1008ff11"),
        ([SHIFT], ord("A"), "A"),
        ([SHIFT], TAB, "Shift+Tab"),
        ([ALT, CTRL], DELETE, "Ctrl+Alt+Delete"),
        ([CTRL], ord("c"), "Ctrl+c"),
        ([CTRL], SHIFT, "Ctrl+Shift"),
    ],
)
def test_each_key_is_named(screen, monkeypatch, held, key, shown):
    for keysym in held:
        screen.key(keysym, True)
    words = []
    monkeypatch.setattr(screen.canvas, "text", lambda x, y, text, *rest: words.append(text))
    screen.key(key, True)
    assert words[-1] == f"key {shown}"


def test_a_chord_types_nothing_and_a_viewer_that_left_holds_no_key(screen):
    blank = look(screen, PANEL)
    screen.key(CTRL, True)
    type_keys(screen, "c", ENTER)
    assert look(screen, PANEL) == blank
    screen.release_keys()
    type_keys(screen, "c")
    assert look(screen, PANEL) != blank


def test_the_pointer_and_its_buttons(screen, monkeypatch):
    screen.canvas.changed.clear()
    screen.pointer(100, 40, 0)
    moved = look(screen, Rect(100, 40, 12, 18))
    assert Rect(100, 40, 12, 18) in screen.canvas.changed
    words = []
    monkeypatch.setattr(screen.canvas, "text", lambda x, y, text, *rest: words.append(text))
    screen.pointer(100, 40, 0b101)
    assert words[0] == "pointer 100,40 left right"
    assert look(screen, Rect(100, 40, 12, 18)) != moved


def test_the_clock_changes_only_its_own_place(screen):
    screen.canvas.changed.clear()
    screen.tick("12:34:56")
    first = look(screen, screen.canvas.rect)
    screen.tick("12:34:57")
    assert look(screen, screen.canvas.rect) != first
    assert sum(rect.area for rect in set(screen.canvas.changed)) < screen.canvas.rect.area // 20
    screen.tick("12:34:56")
    assert look(screen, screen.canvas.rect) == first


def test_a_clock_that_stands_changes_nothing(screen):
    screen.tick("12:34:56")
    screen.canvas.changed.clear()
    screen.tick("12:34:56")
    assert not screen.canvas.changed


def test_accounts_have_colours_of_their_own_and_any_title_fits():
    assert len({look(Screen("x", place / 4), STATUS) for place in range(4)}) == 4
    for title in ("", "a" * 200, "Ümläut \N{CJK UNIFIED IDEOGRAPH-4E00}"):
        Screen(title, 0)


@pytest.mark.parametrize(
    ("keysym", "char"),
    [
        (0x61, "a"),
        (0xE9, "é"),
        (0xAD, ""),
        (0x1B, ""),
        (0xFFB7, "7"),
        (0xFFAB, "+"),
        (0x010020AC, "€"),
        (0x0100D800, ""),
        (0xFF0D, ""),
        (0x100, ""),
    ],
)
def test_keysyms_and_characters(keysym, char):
    assert character(keysym) == char


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1) | st.sampled_from(list(module.NAMED_KEYS)), st.booleans()), max_size=8)
)
def test_any_keys_are_survived(keys):
    screen = Screen("ws01", 0.6)
    for keysym, down in keys:
        screen.key(keysym, down)
