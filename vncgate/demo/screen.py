"""What the embedded desktop shows: whose it is, the time, the pointer, and what was typed and pressed. Pure."""

from __future__ import annotations

import colorsys

from vncgate.demo import font
from vncgate.demo.canvas import Canvas, Colour, Rect, blend, text_box

WIDTH, HEIGHT = 960, 600
WHITE = 0xFFFFFF
INK, PAPER = 0x1E293B, 0xF8FAFC

PANEL = Rect(80, 300, 800, 230)
PANEL_TITLE = 34
MARGIN = 18
SCALE = 3
COLUMNS = (PANEL.width - 2 * MARGIN) // (font.ADVANCE * SCALE)
ROWS = (PANEL.height - PANEL_TITLE - MARGIN) // (font.LINE * SCALE)
STATUS = Rect(80, 552, 800, 2 * font.HEIGHT)

NAMED_KEYS = {
    0x20: "Space",
    0xFF08: "Backspace",
    0xFF09: "Tab",
    0xFF0D: "Enter",
    0xFF1B: "Escape",
    0xFF50: "Home",
    0xFF51: "Left",
    0xFF52: "Up",
    0xFF53: "Right",
    0xFF54: "Down",
    0xFF55: "Page Up",
    0xFF56: "Page Down",
    0xFF57: "End",
    0xFF63: "Insert",
    0xFF8D: "Enter",
    0xFFFF: "Delete",
    **{0xFFBE + number: f"F{1 + number}" for number in range(12)},
}
MODIFIERS = {
    0xFFE1: "Shift",
    0xFFE2: "Shift",
    0xFFE3: "Ctrl",
    0xFFE4: "Ctrl",
    0xFFE7: "Meta",
    0xFFE8: "Meta",
    0xFFE9: "Alt",
    0xFFEA: "Alt",
    0xFFEB: "Super",
    0xFFEC: "Super",
}
ORDER = ("Ctrl", "Alt", "Shift", "Meta", "Super")
BUTTONS = ("left", "middle", "right", "wheel up", "wheel down")


class Screen:
    """One account's screen, which all of its viewers share. `hue` (0 to 1) is its colour."""

    def __init__(self, title: str, hue: float) -> None:
        self.canvas = Canvas(WIDTH, HEIGHT)
        self._top, self._bottom, self._bright = (_colour(hue, light) for light in (0.32, 0.13, 0.78))
        self._lines = [""]
        self._held: set[int] = set()
        self._clock, self._pointed, self._pressed = "", "-", "none"
        self._draw_all(title)

    def tick(self, clock: str) -> None:
        """Show the time."""
        if clock != self._clock:
            self._clock = clock
            self._draw_centred(clock, 222, 5, self._bright)

    def pointer(self, x: int, y: int, buttons: int) -> None:
        """The pointer moved, or a button changed; `buttons` is the mask of RFC 6143, section 7.5.5."""
        pressed = [name for number, name in enumerate(BUTTONS) if buttons >> number & 1]
        self._pointed = " ".join([f"{x},{y}", *pressed])
        self.canvas.point(x, y, self._bright if pressed else WHITE)
        self._draw_status()

    def key(self, keysym: int, down: bool) -> None:
        """A key went down or up; text, Enter and Backspace are typed, and each key is named."""
        if keysym in MODIFIERS:
            (self._held.add if down else self._held.discard)(keysym)
        if not down:
            return
        char = character(keysym)
        modifiers = [name for name in ORDER if any(MODIFIERS[held] == name for held in self._held)]
        if char and "Shift" in modifiers:
            modifiers.remove("Shift")  # the character says it
        if not modifiers:
            self._type(char, keysym)
        names = [] if keysym in MODIFIERS else [NAMED_KEYS.get(keysym) or char or f"{keysym:#x}"]
        self._pressed = "+".join(modifiers + names)
        self._draw_status()

    def release_keys(self) -> None:
        """A viewer went away, perhaps with keys held down."""
        self._held.clear()

    def _type(self, char: str, keysym: int) -> None:
        before = len(self._lines)
        match NAMED_KEYS.get(keysym):
            case "Enter":
                self._lines.append("")
            case "Backspace" if self._lines[-1]:
                self._lines[-1] = self._lines[-1][:-1]
            case "Backspace" if before > 1:
                self._lines.pop()
            case None | "Space" if char:
                if len(self._lines[-1]) >= COLUMNS - 1:  # the last column is the caret's
                    self._lines.append("")
                self._lines[-1] += char
            case _:
                return
        same_lines = len(self._lines) == before
        del self._lines[:-ROWS]
        for row in [len(self._lines) - 1] if same_lines else range(ROWS):
            self._draw_line(row)

    def _draw_all(self, title: str) -> None:
        self._draw_background(self.canvas.rect)
        scale = max(2, min(14, (WIDTH - 80) // (max(1, len(title)) * font.ADVANCE)))
        self._draw_centred(title, 110 - font.HEIGHT * scale // 2, scale, WHITE)
        self.canvas.fill(Rect(PANEL.x + 6, PANEL.y + 6, PANEL.width, PANEL.height), blend(self._bottom, 0, 0.5))
        self.canvas.fill(PANEL, PAPER)
        self.canvas.fill(PANEL._replace(height=PANEL_TITLE), blend(self._top, self._bottom, 0.4))
        for place, colour in enumerate((0xF87171, 0xFBBF24, 0x34D399)):
            self.canvas.fill(Rect(PANEL.x + PANEL.width - 30 - 22 * place, PANEL.y + 11, 12, 12), colour)
        self.canvas.text(PANEL.x + MARGIN, PANEL.y + 10, "Type here", WHITE, 2)
        for row in range(ROWS):
            self._draw_line(row)
        self._draw_status()

    def _draw_background(self, rect: Rect) -> None:
        self.canvas.shade(rect, self._top, self._bottom)

    def _draw_centred(self, words: str, y: int, scale: int, colour: Colour) -> None:
        box = text_box(0, y, words, scale)
        box = box._replace(x=(WIDTH - box.width) // 2)
        self._draw_background(box)
        self.canvas.text(box.x, box.y, words, colour, scale)

    def _draw_line(self, row: int) -> None:
        """A line of the typed text, and the caret behind the last one."""
        left = PANEL.x + MARGIN
        top = PANEL.y + PANEL_TITLE + MARGIN // 2 + row * font.LINE * SCALE
        self.canvas.fill(Rect(left, top, PANEL.width - 2 * MARGIN, font.LINE * SCALE), PAPER)
        if row < len(self._lines):
            words = self._lines[row]
            self.canvas.text(left, top + SCALE, words, INK, SCALE)
            if row == len(self._lines) - 1:
                caret = left + len(words) * font.ADVANCE * SCALE
                self.canvas.fill(Rect(caret, top, font.WIDTH * SCALE, font.LINE * SCALE - 2), self._top)

    def _draw_status(self) -> None:
        self._draw_background(STATUS)
        self.canvas.text(STATUS.x, STATUS.y, f"pointer {self._pointed}", self._bright, 2)
        words = f"key {self._pressed}"
        left = STATUS.x + STATUS.width - text_box(0, 0, words, 2).width
        self.canvas.text(left, STATUS.y, words, self._bright, 2)


def character(keysym: int) -> str:
    """The character that a keysym types; empty where it types none (X11 protocol, appendix A)."""
    match keysym:
        case _ if 0xFFAA <= keysym <= 0xFFB9:  # the keypad's
            keysym -= 0xFF80
        case _ if 0x01000100 <= keysym <= 0x0110FFFF:
            keysym -= 0x01000000
        case _ if keysym > 0xFF:
            return ""
    char = chr(keysym)
    return char if char.isprintable() else ""


def _colour(hue: float, light: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.5))
    return red << 16 | green << 8 | blue
