"""The rules that the source keeps beyond what ruff and mypy know: see test_tidy.py, which holds them.

Each rule takes a parsed module and yields (line, what is wrong).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

Fault = tuple[int, str]
Rule = Callable[[ast.Module, list[str]], Iterator[Fault]]

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
# What reads a clock, draws randomness, or does input or output.
IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "docker",
        "google",
        "grpc",
        "http",
        "io",
        "libp2p",
        "locale",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "platform",
        "psutil",
        "queue",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "trio",
        "urllib",
        "uuid",
        "wasmtime",
        "yaml",
    }
)
IMPURE_CALLS = frozenset({"open", "input", "print", "id", "hash", "eval", "exec", "breakpoint"})
SET_TYPES = frozenset({"set", "frozenset", "Set", "AbstractSet", "MutableSet"})
# Calls whose result depends on the order in which they meet the elements.
ORDERED_CALLS = frozenset({"list", "tuple", "enumerate", "iter", "zip", "map", "filter", "join", "dict"})
VAGUE_NAMES = re.compile(
    r"(^|_)(utils?|helpers?|managers?|misc)(_|$)|[a-z](Utils?|Helpers?|Manager)$|^common$"
)


def is_set_type(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    if isinstance(annotation, ast.BinOp):
        return is_set_type(annotation.left) or is_set_type(annotation.right)
    return name_of(annotation) in SET_TYPES


def name_of(node: ast.AST | None) -> str:
    """The last part of a name: `iter` of `iter`, `join` of `", ".join`, `pending` of `self.pending`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


class SetNames(ast.NodeVisitor):
    """Gathers the names, also of attributes, that a module binds to sets."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if is_set_type(node.annotation):
            self.names.add(name_of(node.target))
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if is_set_type(node.annotation):
            self.names.add(node.arg)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.is_set(node.value):
            self.names.update(name_of(target) for target in node.targets)
        self.generic_visit(node)

    def is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id=name)) if name in ("set", "frozenset"):
                return True
            case ast.Call(func=ast.Attribute(value=value, attr=attr)):
                makes_set = attr in ("union", "intersection", "difference", "symmetric_difference", "copy")
                return makes_set and self.is_set(value)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return self.is_set(left) or self.is_set(right)
            case ast.Name() | ast.Attribute():
                return name_of(node) in self.names
        return False


def set_order(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """The order of a set of strings differs from run to run, so nothing may depend on it."""
    sets = SetNames()
    sets.visit(tree)
    orderless = orderless_generators(tree)
    for node in ast.walk(tree):
        used: list[ast.expr] = []
        match node:
            case ast.For(iter=iterated):
                used = [iterated]
            case ast.ListComp(generators=generators) | ast.DictComp(generators=generators):
                used = [generator.iter for generator in generators]
            case ast.GeneratorExp(generators=generators) if id(node) not in orderless:
                used = [generator.iter for generator in generators]
            case ast.Call(func=function, args=arguments) if name_of(function) in ORDERED_CALLS:
                used = list(arguments)
            case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[]):
                used = [value]
            case ast.Starred(value=value):
                used = [value]
        if any(sets.is_set(expression) for expression in used):
            yield node.lineno, "depends on the order of a set: use sorted(), or a dict"  # type: ignore[attr-defined]


def orderless_generators(tree: ast.Module) -> set[int]:
    """Generators handed straight to what does not care for order, such as any, sorted or sum."""
    calm = {"any", "all", "sorted", "sum", "set", "frozenset", "min", "max"}
    return {
        id(argument)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and name_of(call.func) in calm
        for argument in call.args
        if isinstance(argument, ast.GeneratorExp)
    }


def purity(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """No await, clock, randomness, input or output; hash(), which differs by run, only in __hash__."""
    hashing = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "__hash__"
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "is asynchronous"
            case ast.Import(names=names):
                for alias in names:
                    if alias.name.partition(".")[0] in IMPURE_MODULES:
                        yield node.lineno, f"imports {alias.name}"
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in IMPURE_MODULES:
                yield node.lineno, f"imports {module}"
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS and id(node) not in hashing:
                yield node.lineno, f"calls {name}()"
            case ast.Global():
                yield node.lineno, "keeps state in a module"


def floats(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """Money and resources are integers; what is none on the way there is a Fraction or a Decimal."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float()):
                yield node.lineno, "has a float literal"
            case ast.Name(id="float"):
                yield node.lineno, "uses float"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield node.lineno, "divides by /, which makes a float: use //, or a Fraction"


def size(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    if len(lines) > MODULE_LINES_MAX:
        yield len(lines), f"has more than {MODULE_LINES_MAX} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {length} lines, more than {FUNCTION_LINES_MAX}"


def unfinished(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield node.lineno, "raises NotImplementedError"


def vague_names(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and VAGUE_NAMES.search(
            node.name
        ):
            yield node.lineno, f"{node.name} says nothing: name it for what it does"


def broad_handlers(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """A handler for everything needs its reason beside it, on its line or the one above or below."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(kind is None or name_of(kind) in ("Exception", "BaseException") for kind in kinds):
            around = lines[max(node.lineno - 2, 0) : node.lineno + 1]
            if node.type is None or not any("# " in line for line in around):
                yield node.lineno, "catches everything without a reason beside it"


def error_texts(tree: ast.Module, lines: list[str]) -> Iterator[Fault]:
    """What an error says is for people: nothing decides by it."""
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        for node in ast.walk(handler):
            if not isinstance(node, ast.Compare):
                continue
            for part in ast.walk(node):
                match part:
                    case ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Name(id=name)]):
                        found = name == handler.name
                    case ast.Attribute(value=ast.Name(id=name), attr="args" | "message"):
                        found = name == handler.name
                    case _:
                        found = False
                if found:
                    yield node.lineno, "decides by an error's text"


PURE_RULES: tuple[Rule, ...] = (purity, set_order, floats)
RULES: tuple[Rule, ...] = (size, unfinished, vague_names, broad_handlers, error_texts)


def faults_of(source: str, rules: tuple[Rule, ...]) -> list[Fault]:
    tree = ast.parse(source)
    lines = source.splitlines()
    return sorted({fault for rule in rules for fault in rule(tree, lines)})
