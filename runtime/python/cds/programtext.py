"""Which variables a program may change, as far as its source tells.

An image has its imports done before the program begins.  In a run that changes a variable
first, they would have read another value.
"""

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z_]\w*")
_ENVIRONMENT = ("environ", "environb")

_READERS = ("get", "getenv", "getenvb")
_CHANGERS = ("setdefault", "pop", "update", "__setitem__", "__delitem__")
_CHANGERS_OF_ALL = ("clear", "popitem")
# Functions, which need no object to be about variables.
_FUNCTIONS = ("putenv", "unsetenv", "setenv", "delenv")


@dataclass(frozen=True, slots=True)
class Variables:
    """What some sources say of variables, with the file for each name."""

    # Names that occur where more than reading the variable is possible.
    named: dict[str, str] = field(default_factory=dict)
    # Names that are changed, in the environment or in some other mapping.
    changed: dict[str, str] = field(default_factory=dict)
    # Why it is not known which variables are changed.
    unknown: list[str] = field(default_factory=list)


def variables(sources: Iterable[tuple[str, bytes | None]]) -> Variables:
    """Read the sources of a program: their names for messages, and texts.

    Without a text, the name is that of a file to read.
    """
    found = Variables()
    for name, text in sources:
        try:
            if text is None:
                with open(name, "rb") as file:
                    text = file.read()
            tree = ast.parse(text)
            _Visitor(found, name).visit(tree)
        except (OSError, SyntaxError, ValueError, RecursionError):
            found.unknown.append(f"{name} cannot be read as Python source")
    return found


def obstacle(found: Variables) -> str | None:
    """Say why there can be no image of a program, whatever it imports, if that is so."""
    if not found.unknown:
        return None
    return f"{found.unknown[0]}, so it is not known what imports read before and after that"


def may_change(found: Variables, is_read_by_libraries: Callable[[str], bool]) -> dict[str, str]:
    """Return variables that the program may change, with the file for each.

    Of those that libraries might read, any name will do that is not only looked up.
    """
    named = {name: file for name, file in found.named.items() if is_read_by_libraries(name)}
    return named | found.changed


class _Visitor(ast.NodeVisitor):
    def __init__(self, found: Variables, file: str) -> None:
        self._found = found
        self._file = file

    def visit_Constant(self, node: ast.Constant) -> None:
        for name in _names([node]):
            self._found.named.setdefault(name, self._file)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        for part in node.values:
            # The others are parts of a name at most.
            if isinstance(part, ast.FormattedValue):
                self.visit(part)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg is not None:
            self._found.named.setdefault(node.arg, self._file)
        self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        is_asked = isinstance(node.ops[0], ast.In | ast.NotIn) and isinstance(
            node.left, ast.Constant
        )
        for child in node.comparators if is_asked else [node.left, *node.comparators]:
            self.visit(child)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not isinstance(node.ctx, ast.Load):
            self._change([node.slice], _is_environment(node.value))
        elif not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            # A variable of that name is another name for it at most.
            if isinstance(target, ast.Attribute) and _is_environment(target):
                self._change([node.value], True)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if _is_environment(node.target):
            self._change([node.value], True)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name, owner = _called(node.func)
        arguments = list(node.args)
        if name in _READERS and arguments and isinstance(arguments[0], ast.Constant):
            del arguments[0]
        elif name in _FUNCTIONS:
            self._change(arguments[:1], True)
        elif name in _CHANGERS:
            # The second is a default value.
            keys = arguments if name == "update" else arguments[:1]
            self._change(keys, owner is not None and _is_environment(owner))
            if name == "update":
                for keyword in node.keywords:
                    key = ast.Constant(keyword.arg) if keyword.arg else keyword.value
                    self._change([key], owner is not None and _is_environment(owner))
        elif name in _CHANGERS_OF_ALL and owner is not None and _is_environment(owner):
            self._change([owner], True)
        self.visit(node.func)
        for argument in (*arguments, *node.keywords):
            self.visit(argument)

    def _change(self, keys: "list[ast.expr]", is_environment: bool) -> None:
        """Take notice of keys that get another value: literals, or mappings of such."""
        for key in keys:
            literals = key.keys if isinstance(key, ast.Dict) else [key]
            for name in _names(literals):
                self._found.changed.setdefault(name, self._file)
            if is_environment and not all(isinstance(k, ast.Constant) for k in literals):
                where = f"{self._file}, line {key.lineno}"
                self._found.unknown.append(f"{where}, changes variables that it does not name")


def _called(function: ast.expr) -> tuple[str, ast.expr | None]:
    if isinstance(function, ast.Attribute):
        return function.attr, function.value
    return (function.id, None) if isinstance(function, ast.Name) else ("", None)


def _is_environment(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
    return name in _ENVIRONMENT


def _names(nodes: "Iterable[ast.expr | None]") -> Iterable[str]:
    for node in nodes:
        if isinstance(node, ast.Constant):
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str) and _NAME.fullmatch(value):
                yield value
