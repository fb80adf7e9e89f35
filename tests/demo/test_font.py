import string

from vncgate.demo import font


def test_every_printable_character_has_a_shape_of_its_own():
    printable = [char for char in string.printable if char.isprintable()]
    assert len(printable) == 95
    shapes = {font.columns(char) for char in printable}
    assert len(shapes) == 95
    assert all(len(shape) == font.WIDTH and max(shape) < 1 << font.HEIGHT for shape in shapes)


def test_what_the_font_does_not_have():
    assert font.columns("é") == font.columns("e")
    assert font.columns("\N{NO-BREAK SPACE}") == font.columns(" ")
    assert font.columns("\N{GREEK SMALL LETTER OMEGA}") == font.columns("?")
    assert font.columns("\ud800") == font.columns("?")
