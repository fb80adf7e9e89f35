import pytest

from vncgate.render.static import edition, modules

FILES = {"a.js": b"1", "b/c.css": b"2"}


def test_an_edition_is_16_hexadecimal_digits_whatever_the_order():
    assert edition(FILES) == edition(dict(reversed(FILES.items())))
    assert len(edition(FILES)) == 16
    assert int(edition(FILES), 16)


@pytest.mark.parametrize(
    "other",
    [
        {"a.js": b"1"},
        FILES | {"a.js": b"3"},
        {"a.js": b"1", "b/d.css": b"2"},
        {"a.js": b"2", "b/c.css": b"1"},
        {"a.js": b"1b/c.css2"},
        FILES | {"empty": b""},
    ],
)
def test_any_name_or_content_changes_it(other):
    assert edition(other) != edition(FILES)


@pytest.mark.parametrize(
    "line",
    [
        b'import x from "./lib/x.js";',
        b"import x from './lib/x.js'",
        b'import * as x from "./lib/x.js";',
        b'import{a,b as c}from"./lib/x.js"',
        b'import $, {\n  a,\n  b as c,\n} from "./lib/x.js";',
        b'import "./lib/x.js";',
        b'  import x from "./lib/../lib/x.js";',
        b'// first\nimport x from "./lib/x.js";',
        b'export * from "./lib/x.js";',
        b'export { a } from "./lib/x.js";',
    ],
)
def test_every_form_of_a_static_import(line):
    assert modules("a.js", {"a.js": line, "lib/x.js": b""}) == ["a.js", "lib/x.js"]


@pytest.mark.parametrize(
    "line",
    [
        b'const x = await import("./lib/x.js");',
        b'import("./lib/x.js");',
        b'// import x from "./lib/x.js";',
        b"say(\"import x from './lib/x.js'\");",
        b'export default "./lib/x.js";',
        b'export function f() { return "./lib/x.js"; }',
        b'export const from = "./lib/x.js";',
        b'import x from "lib/x.js";',
        b'import x from "https://elsewhere.example/lib/x.js";',
        b'import x from "./nowhere.js";',
        b'import x from "../../../lib/x.js";',
    ],
)
def test_what_is_no_static_import_of_a_file_of_ours(line):
    assert modules("a.js", {"a.js": line, "lib/x.js": b""}) == ["a.js"]


def test_what_is_imported_through_others_comes_once_and_the_nearest_first():
    files = {
        "a.js": b'import "./lib/b.js";\nimport "./c.js";',
        "lib/b.js": b'import "../deep/d.js";\nimport "../c.js";',
        "c.js": b'import "./a.js";',
        "deep/d.js": b"\xff",
        "unused.js": b'import "./a.js";',
    }
    assert modules("a.js", files) == ["a.js", "lib/b.js", "c.js", "deep/d.js"]


def test_an_entry_that_is_not_there_is_left_to_who_asked():
    assert modules("x.js", FILES) == ["x.js"]
