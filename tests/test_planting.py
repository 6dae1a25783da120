"""The matcher of planted bugs: layout and local names do not matter, everything else does."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planting import NotFound, Scope, Text, parsed, rename, replace

KNOWN = {"LIMIT": 3, "audit": print, "Row": object}
SOURCE = '''
def kept(rows, *, floor=0):
    """The text of a function."""
    found = []
    for row in rows:
        if row.size > LIMIT and not row.held:
            found.append(row)
        elif row.size == floor:
            audit("small", row=row, floor=floor)
    try:
        first = found[0]
    except IndexError as error:
        audit("none", error=str(error))
        return []
    return [first, *(other for other in found if other is not first)]
'''


def planted(old: str, new: str, source: str = SOURCE) -> str:
    tree = parsed(source)
    replace(tree, old, new, KNOWN)
    return ast.unparse(tree)


def text(source: str) -> str:
    return ast.unparse(ast.parse(source))


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        ("line.size > LIMIT", "line.size >= LIMIT", "row.size > LIMIT", "row.size >= LIMIT"),
        ("not _.held", "_.held", "not row.held", "row.held"),
        ("_.append(row)", "_.extend([row])", "found.append(row)", "found.extend([row])"),
        ("audit('small', **_)", "audit('big', **_)", "audit('small'", "audit('big'"),
        (
            "audit('small', floor=least, **_)",
            "audit('small', floor=0, **_)",
            "row=row, floor=floor",
            "floor=0, row=row",
        ),
        ("[x, *_]", "[*_, x]", "[first, *(", "[*("),
        ("IndexError", "KeyError", "IndexError", "KeyError"),
    ],
)
def test_an_expression_is_replaced(old: str, new: str, before: str, after: str) -> None:
    changed = planted(old, new)

    assert after in changed
    assert changed != text(SOURCE)
    assert before in text(SOURCE)
    assert before not in changed


def test_a_header_keeps_its_body_and_its_else() -> None:
    changed = planted("if one.size > LIMIT and _: ...", "if one.size < LIMIT or _: ...")

    wanted = SOURCE.replace("row.size > LIMIT and not row.held", "row.size < LIMIT or not row.held")
    assert changed == text(wanted)


def test_statements_are_replaced_with_what_stands_between_them() -> None:
    changed = planted("kept = []\n...\ntry: ...\nexcept IndexError as no:\n    ...", "kept = [Row]\n...")

    assert "found = [Row]" in changed
    assert "for row in rows" in changed
    assert "IndexError" not in changed


def test_text_is_replaced_in_constants_only() -> None:
    assert '"""The words of a function."""' in planted(Text("text of"), "words of")
    with pytest.raises(NotFound, match="no text 'found'"):
        planted(Text("found"), "lost")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("row.size > FLOOR", "False", "has no"),  # another global
        ("row.length > LIMIT", "False", "has no"),  # another attribute
        ("row.size > row", "False", "has no"),  # one name for two variables
        ("other.size > LIMIT and not row.held", "False", "has no"),  # two names for one variable
        ("audit('small', row=row)", "False", "has no"),  # an argument less
        ("x[0]", "y[0]", "'y'"),  # what the replacement names is not bound
        ("found[0]", "rows[0]", "'rows'"),
    ],
)
def test_a_fragment_that_is_not_there_is_an_error(old: str, new: str, reason: str) -> None:
    with pytest.raises(NotFound, match=reason):
        planted(old, new)


def test_two_places_with_other_variables_are_an_error() -> None:
    source = "def f(a, b):\n    if a: return 1\n    if b: return 2"

    with pytest.raises(NotFound, match="lines 2, 3"):
        planted("if a: ...", "pass", source)


def test_two_places_with_the_same_variables_are_both_replaced() -> None:
    source = "def f(a):\n    if a: return 1\n    return a + 1"

    assert planted("1", "2", source) == text(source.replace("1", "2"))


LOCALS = sorted(Scope.of(parsed(SOURCE), KNOWN).local)
FRAGMENTS = [
    ("row.size > LIMIT", "row.size >= LIMIT"),
    ("if row.size > LIMIT and _: ...", "if _: ..."),
    ("found = []\n...\nreturn _", "found = [1]\n...\nreturn found"),
    ("except_ = found[0]", "except_ = found[-1]"),
    ("(_ for other in found if other is not first)", "(_ for other in found if other != first)"),
    ("try: ...\nexcept IndexError as error: ...", "try: ...\nexcept IndexError as error: ..."),
]


@given(
    names=st.permutations([f"v{n}" for n in range(len(LOCALS))] + ["row", "first"]),
    which=st.sampled_from(FRAGMENTS),
)
def test_the_result_is_the_same_under_every_renaming(names: list[str], which: tuple[str, str]) -> None:
    new_names = dict(zip(LOCALS, names, strict=False))
    before, after = parsed(SOURCE), parsed(SOURCE)
    rename(before, new_names, KNOWN)
    replace(before, *which, KNOWN)
    replace(after, *which, KNOWN)
    rename(after, new_names, KNOWN)

    assert ast.unparse(before) == ast.unparse(after)
