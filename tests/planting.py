"""Find a fragment of a function by its syntax and put another one in its place, in memory.

    tree = parsed("def f(rows):\\n    return [row.id for row in rows if row.id > 3]")
    replace(tree, "row.id > 3", "row.id >= 3", known={})

Layout and names of local variables do not matter: `row.id > 3` also finds `one.id > 3` where `one` is a local variable
of the function, and writes `one.id >= 3`. Globals, attributes, keywords and constants must be the same. A fragment is
an expression or a list of statements, with these holes:

    _  _1  _2       any expression; the same hole stands for the same expression
    *_              any further arguments or elements
    **_             any further keyword arguments or entries of a dict
    ...             as a statement: any statements; `if x: ...` keeps the else branch, too

What a hole stands for is kept where the replacement has the same hole. `Text` replaces inside string constants instead.
"""

import ast
import builtins
import copy
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any, cast

HOLE = re.compile(r"_\d*")
NAMED_BY_TEXT = {ast.arg: "arg", ast.ExceptHandler: "name", ast.FunctionDef: "name"}
"""Nodes that name a local variable by a plain string, and the field that holds it."""
IGNORED = {"ctx", "kind", "type_comment", "type_params", "returns"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Fragment = ast.expr | list[ast.stmt]


class Text(str):
    """A fragment of string constants, such as SQL, compared letter by letter."""


class NotFound(LookupError):
    """The function has no such fragment, or several that differ in their variables."""


@dataclass(frozen=True)
class Binding:
    """What the names and the holes of a fragment stand for in a function."""

    names: Mapping[str, str] = field(default_factory=dict)
    holes: Mapping[str, Any] = field(default_factory=dict)

    def name(self, written: str, found: str, scope: "Scope") -> Iterator["Binding"]:
        """Let a name of the fragment stand for a name of the function, if it can."""
        if found not in scope.local or (written in scope.known and written not in scope.local):
            if written == found:
                yield self
        elif self.names.get(written) == found:
            yield self
        elif written not in self.names and found not in self.names.values():
            yield changed(self, names={**self.names, written: found})

    def hole(self, name: str, found: Any) -> Iterator["Binding"]:
        """Let a hole stand for a part of the function; equal to what it stands for already."""
        if name not in self.holes:
            yield changed(self, holes={**self.holes, name: found})
        elif dumped(self.holes[name]) == dumped(found):
            yield self


@dataclass(frozen=True)
class Scope:
    """The names of a function: its local variables, and the globals and builtins that it can see."""

    local: frozenset[str]
    known: frozenset[str]

    @classmethod
    def of(cls, function: Function, known: Mapping[str, Any]) -> "Scope":
        """Read the names of `function`; `known` are the globals of its module."""
        local = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and not _is_load(node)}
        outer: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Global | ast.Nonlocal):
                outer.update(node.names)
            elif isinstance(node, ast.alias):
                local.add((node.asname or node.name).partition(".")[0])
            elif node is not function and (attribute := NAMED_BY_TEXT.get(type(node))):
                local.add(getattr(node, attribute) or "")
        return cls(frozenset(local - outer), frozenset(known) | frozenset(dir(builtins)))


def parsed(source: str) -> Function:
    """The function that `source` defines."""
    [function] = ast.parse(source).body
    if not isinstance(function, Function):
        raise TypeError(f"no function: {source[:60]}")
    return function


def replace(function: Function, old: str, new: str, known: Mapping[str, Any]) -> int:
    """Put `new` where `old` stands, everywhere in `function`; returns in how many places.

    Raises NotFound when there is none, when the places differ in their variables, or when `new` uses a variable of the
    function that `old` does not name (the replacement would break when that variable is renamed).
    """
    if isinstance(old, Text):
        return _replace_text(function, old, new)
    pattern, template = _fragments(old, new)
    scope = Scope.of(function, known)
    places = list(_places(function, pattern, scope))
    if not places:
        raise NotFound(f"{function.name} has no {old!r}")
    if len({tuple(sorted(place.binding.names.items())) for place in places}) > 1:
        lines = ", ".join(str(place.line) for place in places)
        raise NotFound(f"{function.name} has several {old!r}, in lines {lines}: add what stands around it")
    _check_names(template, places[0].binding, scope, old)
    for place in sorted(places, key=lambda place: -place.start):
        made = Instance(place.binding).fragment(template)
        if isinstance(made, list):
            place.owner[place.start : place.stop] = made
        else:
            _swap(function, place.owner, made)
    ast.fix_missing_locations(function)
    return len(places)


@dataclass(frozen=True)
class Place:
    """Where a fragment stands: a run of statements in a list, or one expression."""

    owner: Any
    start: int
    stop: int
    line: int
    binding: Binding


def _replace_text(function: Function, old: str, new: str) -> int:
    constants = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and old in node.value
    ]
    for node in constants:
        node.value = cast(str, node.value).replace(old, new)
    if not constants:
        raise NotFound(f"{function.name} has no text {old!r}")
    return len(constants)


def _fragments(old: str, new: str) -> tuple[Fragment, Fragment]:
    """Both as expressions, or both as statements."""
    try:
        return _expression(old), _expression(new)
    except SyntaxError:
        return _statements(old), _statements(new)


def _expression(text: str) -> ast.expr:
    return ast.parse(f"(\n{text}\n)", mode="eval").body


def _statements(text: str) -> list[ast.stmt]:
    return ast.parse(textwrap.dedent(text)).body


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _is_dots(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def _is_header(node: ast.AST) -> bool:
    """`if x: ...` without an else of its own stands for the statement with any else."""
    return (
        isinstance(node, ast.If | ast.For | ast.While)
        and len(node.body) == 1
        and _is_dots(node.body[0])
        and not node.orelse
    )


def _sequence_hole(node: Any) -> str:
    """The name of a hole that stands for several nodes; empty for every other node."""
    if _is_dots(node):
        return f"... {node.lineno}:{node.col_offset}"
    if isinstance(node, ast.Starred) and isinstance(node.value, ast.Name) and HOLE.fullmatch(node.value.id):
        return "*" + node.value.id
    return ""


def _is_rest(name: Any, value: Any) -> bool:
    """Whether a keyword or an entry of a dict is the hole `**_`."""
    return name is None and isinstance(value, ast.Name) and bool(HOLE.fullmatch(value.id))


def rename(function: Function, names: Mapping[str, str], known: Mapping[str, Any]) -> None:
    """Give local variables of `function`, its arguments too, other names."""
    scope = Scope.of(function, known)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id in scope.local:
            node.id = names.get(node.id, node.id)
        elif node is not function and (attribute := NAMED_BY_TEXT.get(type(node))):
            before = getattr(node, attribute)
            setattr(node, attribute, names.get(before, before))


def dumped(node: Any) -> Any:
    """Text that is equal for equal trees."""
    return [dumped(one) for one in node] if isinstance(node, list | tuple) else ast.dump(node)


def _places(function: Function, pattern: Fragment, scope: Scope) -> Iterator[Place]:
    for node in ast.walk(function):
        if isinstance(pattern, ast.expr):
            if isinstance(node, ast.expr) and (
                binding := next(_match(pattern, node, Binding(), scope), None)
            ):
                yield Place(node, 0, 0, node.lineno, binding)
            continue
        for _, statements in ast.iter_fields(node):
            if isinstance(statements, list) and statements and isinstance(statements[0], ast.stmt):
                yield from _runs(statements, pattern, scope)


def _runs(statements: list[ast.stmt], pattern: list[ast.stmt], scope: Scope) -> Iterator[Place]:
    """The runs of `statements` that match, none inside another."""
    start = 0
    while start < len(statements):
        for stop in range(start + 1, len(statements) + 1):
            run = statements[start:stop]
            if binding := next(_match_all(pattern, run, Binding(), scope), None):
                yield Place(statements, start, stop, run[0].lineno, binding)
                start = stop - 1
                break
        start += 1


def _match(pattern: ast.AST, node: ast.AST, binding: Binding, scope: Scope) -> Iterator[Binding]:
    """Every way in which `pattern` stands for `node`."""
    if isinstance(pattern, ast.Name) and HOLE.fullmatch(pattern.id):
        if isinstance(node, ast.expr):
            yield from binding.hole(pattern.id, node)
        return
    if type(pattern) is not type(node):
        return
    if isinstance(pattern, ast.Name) and isinstance(node, ast.Name):
        if type(pattern.ctx) is type(node.ctx):
            yield from binding.name(pattern.id, node.id, scope)
        return
    if isinstance(pattern, ast.Dict):
        yield from _match_dict(pattern, cast(ast.Dict, node), binding, scope)
        return
    yield from _match_fields(pattern, node, [n for n in pattern._fields if n not in IGNORED], binding, scope)


def _match_fields(
    pattern: ast.AST, node: ast.AST, names: Sequence[str], binding: Binding, scope: Scope
) -> Iterator[Binding]:
    if not names:
        yield binding
        return
    name, *others = names
    written, found = getattr(pattern, name, None), getattr(node, name, None)
    for one in _match_field(pattern, name, written, found, binding, scope):
        yield from _match_fields(pattern, node, others, one, scope)


def _match_field(
    pattern: ast.AST, name: str, written: Any, found: Any, binding: Binding, scope: Scope
) -> Iterator[Binding]:
    if name == "orelse" and _is_header(pattern):
        yield from binding.hole(_else_hole(pattern), found)
    elif name == "keywords":
        yield from _match_keywords(written, found, binding, scope)
    elif isinstance(written, list) and isinstance(found, list):
        yield from _match_all(written, found, binding, scope)
    elif isinstance(written, ast.AST) and isinstance(found, ast.AST):
        yield from _match(written, found, binding, scope)
    elif isinstance(written, str) and isinstance(found, str) and NAMED_BY_TEXT.get(type(pattern)) == name:
        yield from binding.name(written, found, scope)
    elif type(written) is type(found) and written == found:
        yield binding


def _else_hole(node: Any) -> str:
    return "else of " + _sequence_hole(node.body[0])


def _match_all(
    patterns: Sequence[Any], nodes: Sequence[Any], binding: Binding, scope: Scope
) -> Iterator[Binding]:
    if not patterns:
        if not nodes:
            yield binding
        return
    first, others = patterns[0], patterns[1:]
    if hole := _sequence_hole(first):
        for count in range(len(nodes) + 1):
            for one in binding.hole(hole, list(nodes[:count])):
                yield from _match_all(others, nodes[count:], one, scope)
    elif nodes:
        for one in _match_field(first, "", first, nodes[0], binding, scope):
            yield from _match_all(others, nodes[1:], one, scope)


def _match_keywords(
    written: Sequence[ast.keyword], found: Sequence[ast.keyword], binding: Binding, scope: Scope
) -> Iterator[Binding]:
    """Keyword arguments, in any order."""
    rest = [keyword for keyword in written if _is_rest(keyword.arg, keyword.value)]
    asked = [keyword for keyword in written if keyword not in rest]
    by_name = {keyword.arg: keyword for keyword in found}
    if not {keyword.arg for keyword in asked} <= by_name.keys():
        return
    others = [keyword for keyword in found if keyword.arg not in {one.arg for one in asked}]
    if others and not rest:
        return
    for one in _match_all(
        [keyword.value for keyword in asked],
        [by_name[keyword.arg].value for keyword in asked],
        binding,
        scope,
    ):
        yield from one.hole(f"**{cast(ast.Name, rest[0].value).id}", others) if rest else (one,)


def _match_dict(pattern: ast.Dict, node: ast.Dict, binding: Binding, scope: Scope) -> Iterator[Binding]:
    """The entries of a dict, in any order when `**_` stands for the others."""
    rest = [value for key, value in zip(pattern.keys, pattern.values, strict=True) if _is_rest(key, value)]
    asked = [
        (key, value) for key, value in zip(pattern.keys, pattern.values, strict=True) if value not in rest
    ]
    entries = list(zip(node.keys, node.values, strict=True))
    if not rest:
        flat = [part for entry in asked for part in entry]
        yield from _match_all(flat, [part for entry in entries for part in entry], binding, scope)
        return
    yield from _match_entries(asked, entries, cast(ast.Name, rest[0]).id, binding, scope)


def _match_entries(
    asked: Sequence[Any], entries: Sequence[Any], rest: str, binding: Binding, scope: Scope
) -> Iterator[Binding]:
    if not asked:
        yield from binding.hole(f"**{rest}", [part for entry in entries for part in entry if part])
        return
    for number, entry in enumerate(entries):
        for one in _match_all(asked[0], entry, binding, scope):
            yield from _match_entries(
                asked[1:], [*entries[:number], *entries[number + 1 :]], rest, one, scope
            )


def _check_names(template: Fragment, binding: Binding, scope: Scope, old: str) -> None:
    """Every variable of the replacement is one of the fragment, a global, or its own."""
    nodes = [node for root in _listed(template) for node in ast.walk(root)]
    own = {node.id for node in nodes if isinstance(node, ast.Name) and not _is_load(node)}
    own |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    own |= {str(getattr(node, NAMED_BY_TEXT[type(node)])) for node in nodes if type(node) in NAMED_BY_TEXT}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and not HOLE.fullmatch(node.id)}
    if lost := used - own - set(binding.names) - (scope.known - scope.local):
        raise NotFound(f"{sorted(lost)} of the replacement are not in {old!r}: name them there")


def _listed(fragment: Fragment) -> list[Any]:
    return fragment if isinstance(fragment, list) else [fragment]


class Instance(ast.NodeTransformer):
    """A replacement with the function's own names, and with what the holes stand for."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.dots = [name for name in binding.holes if name.startswith("...")]
        self.elses = [name for name in binding.holes if name.startswith("else of ...")]

    def fragment(self, template: Fragment) -> Fragment:
        """A copy of `template`, filled in."""
        made = copy.deepcopy(template)
        if isinstance(made, list):
            return self._filled(made)
        return cast(ast.expr, self.visit(made))

    def _filled(self, nodes: list[Any]) -> list[Any]:
        made: list[Any] = []
        for node in nodes:
            if hole := _sequence_hole(node):
                made += copy.deepcopy(self.binding.holes[self.dots.pop(0) if hole[0] == "." else hole])
            elif isinstance(node, ast.AST):
                made.append(self.visit(node))
            else:
                made.append(node)
        return made

    def generic_visit(self, node: ast.AST) -> ast.AST:
        header = _is_header(node)
        for name, value in ast.iter_fields(node):
            if header and name == "orelse":
                setattr(
                    node, name, copy.deepcopy(self.binding.holes[self.elses.pop(0)]) if self.elses else []
                )
            elif name == "keywords":
                setattr(node, name, [part for keyword in value for part in self._keyword(keyword)])
            elif isinstance(value, list):
                setattr(node, name, self._filled(value))
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
            elif NAMED_BY_TEXT.get(type(node)) == name:
                setattr(node, name, self.binding.names.get(value, value))
        return node

    def _keyword(self, keyword: ast.keyword) -> list[ast.keyword]:
        if _is_rest(keyword.arg, keyword.value):
            return list(copy.deepcopy(self.binding.holes[f"**{cast(ast.Name, keyword.value).id}"]))
        return [cast(ast.keyword, self.visit(keyword))]

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.binding.holes:
            return cast(ast.AST, copy.deepcopy(self.binding.holes[node.id]))
        node.id = self.binding.names.get(node.id, node.id)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        keys: list[ast.expr | None] = []
        values: list[ast.expr] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if _is_rest(key, value):
                parts = copy.deepcopy(self.binding.holes[f"**{cast(ast.Name, value).id}"])
                keys, values = keys + parts[0::2], values + parts[1::2]
            else:
                keys.append(key and self.visit(key))
                values.append(self.visit(value))
        node.keys, node.values = keys, values
        return node


def _swap(function: ast.AST, old: ast.expr, new: ast.expr) -> None:
    """Put the expression `new` where the node `old` is."""
    for node in ast.walk(function):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
            elif isinstance(value, list):
                value[:] = [new if one is old else one for one in value]
