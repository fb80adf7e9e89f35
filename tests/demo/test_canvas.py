import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.demo.canvas import NATIVE, Canvas, Rect, Region, Translation, blend
from vncgate.rfb import PixelFormat

WHITE, RED = 0xFFFFFF, 0xFF0000


def colours(canvas: Canvas, rect: Rect | None = None) -> list[list[int]]:
    """The colours of a rectangle, line by line."""
    rect = rect or canvas.rect
    pixels = memoryview(canvas.pixels(rect)).cast("I").tolist()
    return [pixels[start : start + rect.width] for start in range(0, rect.area, rect.width)]


def picture(canvas: Canvas, rect: Rect) -> list[str]:
    return ["".join(" #"[bool(colour)] for colour in line).rstrip() for line in colours(canvas, rect)]


def test_a_rectangle_is_painted_and_cut_at_the_edges():
    canvas = Canvas(4, 3)
    canvas.fill(Rect(2, -1, 9, 3), RED)
    assert colours(canvas) == [[0, 0, RED, RED], [0, 0, RED, RED], [0, 0, 0, 0]]
    assert canvas.changed == [Rect(2, 0, 2, 2)]


def test_text_is_drawn_dot_by_dot():
    canvas = Canvas(40, 20)
    canvas.text(0, 0, "Hi", WHITE)
    assert picture(canvas, Rect(0, 0, 12, 8)) == [
        "#   #   #",
        "#   #",
        "#   #  ##",
        "#####   #",
        "#   #   #",
        "#   #   #",
        "#   #  ###",
        "",
    ]
    assert canvas.changed == [Rect(0, 0, 11, 7)]
    canvas.text(20, 0, "i", WHITE, scale=2)
    assert picture(canvas, Rect(20, 0, 10, 2)) == ["    ##", "    ##"]


def test_the_pointer_lies_over_the_picture_and_leaves_no_trace():
    canvas = Canvas(40, 30)
    blank = canvas.pixels(canvas.rect)
    canvas.point(5, 6, RED)
    shown = colours(canvas)
    assert (shown[8][6], shown[8][7]) == (RED, 0)
    assert sum(line.count(RED) for line in shown) > 40
    canvas.changed.clear()
    canvas.point(-3, 29, RED)
    assert Rect(5, 6, 12, 18) in canvas.changed
    assert colours(canvas)[8][6] == 0
    canvas.point(200, 200, RED)
    assert canvas.pixels(canvas.rect) == blank


@given(st.integers(-20, 60), st.integers(-20, 60), st.integers(0, 30), st.integers(0, 30))
def test_a_part_is_what_it_is_in_the_whole(x, y, left, top):
    canvas = Canvas(40, 40)
    canvas.text(3, 9, "part", WHITE)
    canvas.point(x, y, RED)
    part = Rect(left, top, 10, 10)
    assert colours(canvas, part) == [line[left : left + 10] for line in colours(canvas)[top : top + 10]]


rects = st.builds(Rect, *[st.integers(0, 30)] * 2, *[st.integers(0, 9)] * 2)


@given(st.lists(rects, max_size=60))
def test_a_region_forgets_nothing_and_stays_small(changes):
    region = Region()
    for change in changes:
        region.add(change)
    taken = region.take()
    assert len(taken) <= Region.LIMIT
    assert not region
    for change in changes:
        if change.area:
            assert any(change.clip(rect) == change for rect in taken)


def test_many_changes_become_one():
    region = Region()
    for place in range(Region.LIMIT + 1):
        region.add(Rect(3 * place, 5, 2, 2))
    assert region.take() == [Rect(0, 5, 3 * Region.LIMIT + 2, 2)]


def test_a_part_of_the_background_is_shaded_as_the_whole():
    canvas, other = Canvas(4, 8), Canvas(4, 8)
    canvas.shade(canvas.rect, RED, 0)
    other.shade(Rect(1, 2, 2, 3), RED, 0)
    assert colours(other, Rect(1, 2, 2, 3)) == colours(canvas, Rect(1, 2, 2, 3))
    assert colours(canvas)[4] == [0x800000] * 4
    assert other.changed == [Rect(1, 2, 2, 3)]


def test_bands_cover_a_rectangle():
    assert list(Rect(1, 2, 3, 5).bands(2)) == [Rect(1, 2, 3, 2), Rect(1, 4, 3, 2), Rect(1, 6, 3, 1)]


def test_blend():
    assert [blend(0x000000, 0xFF8000, share) for share in (0, 0.5, 1)] == [0x000000, 0x804000, 0xFF8000]


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (NATIVE, (0xFF8040).to_bytes(4, sys.byteorder)),
        (PixelFormat(32, 24, False, True, 255, 255, 255, 0, 8, 16), b"\xff\x80\x40\0"),  # noVNC's
        (PixelFormat(32, 24, True, True, 255, 255, 255, 16, 8, 0), b"\0\xff\x80\x40"),
        (
            PixelFormat(32, 30, False, True, 1023, 1023, 1023, 20, 10, 0),
            (1023 << 20 | 514 << 10 | 257).to_bytes(4, "little"),
        ),
        (PixelFormat(16, 16, False, True, 31, 63, 31, 11, 5, 0), (31 << 11 | 32 << 5 | 8).to_bytes(2, "little")),
        (PixelFormat(16, 16, True, True, 31, 63, 31, 11, 5, 0), (31 << 11 | 32 << 5 | 8).to_bytes(2, "big")),
        (PixelFormat(8, 8, False, True, 7, 7, 3, 0, 3, 6), bytes([7 | 4 << 3 | 1 << 6])),
        (PixelFormat(8, 8, False, True, 65535, 1, 1, 255, 200, 0), b"\0"),  # senseless, and survived
    ],
)
def test_pixels_in_the_format_that_a_viewer_wants(wanted, sent):
    canvas = Canvas(2, 1)
    canvas.fill(canvas.rect, 0xFF8040)
    assert Translation(wanted).translate(canvas.pixels(canvas.rect)) == sent * 2


def test_a_viewer_with_a_colour_map_is_refused():
    with pytest.raises(ValueError, match="true colour"):
        Translation(PixelFormat(8, 8, False, False, 0, 0, 0, 0, 0, 0))
