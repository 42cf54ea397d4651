"""Reads an mmsegmentation config file (0.x or 1.x) WITHOUT running it: Python's ast and a small evaluator.

Understood are assignments of literals, names, arithmetic, `dict(...)` and `sum(...)`, subscripts and `**` splices, the
`_base_` chain with `_delete_`, and references to base values (`_base_.x` and "{{_base_.x}}"). Anything
else is an error that names file and line.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segzoo.errors import UsageError

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_CALLS: dict[str, Callable[..., Any]] = {
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "sum": sum,
    "len": len,
    "min": min,
    "max": max,
}
_REFERENCE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
_DEEPEST_CHAIN = 20
_LARGEST = 10**6


def read_config(path: Path) -> dict[str, Any]:
    """All the settings of a config, those of its bases merged in.

    Raises:
        UsageError: a file that cannot be read, or a statement beyond what is understood.
    """
    return _read(path, depth=0)


def _read(path: Path, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST_CHAIN:
        raise UsageError(f"{path}: the chain of _base_ files goes round in a circle or is too deep")
    try:
        module = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except OSError as error:
        raise UsageError(f"cannot read the config {path}: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is not Python source: {error}") from error
    reader = _Reader(path)
    bases = reader.find_bases(module)
    inherited: dict[str, Any] = {}
    for base in bases:
        inherited = merge(_read((path.parent / base).resolve(), depth + 1), inherited)
    reader.base = inherited
    for statement in module.body:
        reader.run(statement)
    own = {name: value for name, value in reader.names.items() if name != "_base_" and not name.startswith("__")}
    return merge(own, inherited)


def merge(over: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: dictionaries merge key by key unless they hold `_delete_=True`; all else replaces."""
    result = dict(base)
    for key, value in over.items():
        if not isinstance(value, dict):
            result[key] = value
            continue
        fresh = {name: item for name, item in value.items() if name != "_delete_"}
        below = result.get(key)
        keep = isinstance(below, dict) and not value.get("_delete_", False)
        result[key] = merge(fresh, below if keep and below else {})
    return result


class _Reader:
    """Runs the assignments of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, Any] = {}
        self.base: dict[str, Any] = {}

    def refuse(self, node: ast.AST, what: str) -> UsageError:
        return UsageError(f"{self.path}, line {getattr(node, 'lineno', '?')}: {what}; configs are read, not executed")

    def find_bases(self, module: ast.Module) -> list[str]:
        for statement in module.body:
            if isinstance(statement, ast.Assign) and _is_name(statement.targets[0], "_base_"):
                value = self.value(statement.value)
                return [value] if isinstance(value, str) else list(value)
        return []

    def run(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return  # a docstring
        if isinstance(statement, ast.Pass):
            return
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise self.refuse(statement, f"a {type(statement).__name__} statement is not understood")
        target = statement.targets[0]
        value = self.value(statement.value)
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Subscript):
            container = self.value(target.value)
            container[self.value(target.slice)] = value
        else:
            raise self.refuse(target, "only names and items can be assigned to")

    def value(self, node: ast.expr) -> Any:
        kind = type(node).__name__
        evaluate: Callable[[Any], Any] | None = getattr(self, f"value_{kind.lower()}", None)
        if evaluate is None:
            raise self.refuse(node, f"a {kind} expression is not understood")
        try:
            return evaluate(node)
        except (TypeError, KeyError, IndexError, ZeroDivisionError, OverflowError) as error:
            raise self.refuse(node, f"{type(error).__name__} {error}") from error

    def value_constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, str) and (found := _REFERENCE.fullmatch(node.value.strip())):
            return self._from_base(node, found[1].split("."))
        return node.value

    def value_name(self, node: ast.Name) -> Any:
        if node.id not in self.names:
            raise self.refuse(node, f"the name {node.id!r} is not known here")
        return self.names[node.id]

    def value_attribute(self, node: ast.Attribute) -> Any:
        words: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            words.insert(0, inner.attr)
            inner = inner.value
        if not _is_name(inner, "_base_"):
            raise self.refuse(node, "only _base_.x can be read as an attribute")
        return self._from_base(node, words)

    def value_list(self, node: ast.List) -> list[Any]:
        return self._elements(node.elts)

    def value_tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self._elements(node.elts))

    def value_dict(self, node: ast.Dict) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                result.update(self.value(item))
            else:
                result[self.value(key)] = self.value(item)
        return result

    def value_call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in _CALLS:
            raise self.refuse(node, f"the call {ast.unparse(node.func)}(...) is not understood")
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            item = self.value(keyword.value)
            keywords.update(item if keyword.arg is None else {keyword.arg: item})
        return _CALLS[node.func.id](*self._elements(node.args), **keywords)

    def value_binop(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if type(node.op) not in _BINARY:
            raise self.refuse(node, f"the operator {type(node.op).__name__} is not understood")
        for side in (left, right):
            # Keeps 9**9**9 or "a" * 10**9 from filling the memory.
            if isinstance(node.op, (ast.Pow, ast.Mult)) and isinstance(side, int) and abs(side) > _LARGEST:
                raise self.refuse(node, "the numbers are too large")
        if isinstance(node.op, ast.Pow) and abs(right) > 64:
            raise self.refuse(node, "the exponent is too large")
        return _BINARY[type(node.op)](left, right)

    def value_unaryop(self, node: ast.UnaryOp) -> Any:
        if type(node.op) not in _UNARY:
            raise self.refuse(node, f"the operator {type(node.op).__name__} is not understood")
        return _UNARY[type(node.op)](self.value(node.operand))

    def value_subscript(self, node: ast.Subscript) -> Any:
        return self.value(node.value)[self.value(node.slice)]

    def value_slice(self, node: ast.Slice) -> slice:
        return slice(*(None if part is None else self.value(part) for part in (node.lower, node.upper, node.step)))

    def _elements(self, nodes: list[ast.expr]) -> list[Any]:
        result: list[Any] = []
        for node in nodes:
            result.extend(self.value(node.value) if isinstance(node, ast.Starred) else [self.value(node)])
        return result

    def _from_base(self, node: ast.AST, words: list[str]) -> Any:
        value: Any = self.base
        for word in words:
            if not isinstance(value, dict) or word not in value:
                raise self.refuse(node, f"the bases have no {'.'.join(words)!r}")
            value = value[word]
        return value


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
