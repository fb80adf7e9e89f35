"""The accent colour as a style sheet.

Whatever colour a site picks, text in it and on it stays readable (WCAG 2.2, success criterion 1.4.3).
"""

from __future__ import annotations

CONTRAST = 4.5
"""Least contrast between text and what is behind it."""
LIGHT, DARK = "#f4f5f7", "#1b212b"
"""The darkest ground of the light pages and the lightest of the dark ones (site.css)."""

Rgb = tuple[int, int, int]


def theme(accent: str) -> str:
    """CSS custom properties for an accent colour written as #rrggbb.

    `--accent` is the colour itself, `--on-accent` text on it, `--accent-text` the colour moved so far towards
    black (light pages) or white (dark pages) that it can be read as text there.
    """
    colour = _rgb(accent)
    on_accent = max(("#ffffff", "#10141a"), key=lambda ink: contrast(_rgb(ink), colour))
    return (
        f":root {{ --accent: {accent}; --on-accent: {on_accent}; --accent-text: {_readable(colour, LIGHT)}; }}\n"
        "@media (prefers-color-scheme: dark) {\n"
        f"  :root {{ --accent-text: {_readable(colour, DARK)}; }}\n"
        "}\n"
    )


def contrast(one: Rgb, other: Rgb) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Rgb) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _readable(colour: Rgb, ground: str) -> str:
    target = 0 if ground == LIGHT else 255
    for step in range(21):
        red, green, blue = (round(part + (target - part) * step / 20) for part in colour)
        if contrast((red, green, blue), _rgb(ground)) >= CONTRAST:
            break
    return f"#{red:02x}{green:02x}{blue:02x}"


def _rgb(text: str) -> Rgb:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
