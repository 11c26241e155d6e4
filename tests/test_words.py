"""The form of the library's words: every public name is documented in one form that `help()` shows, and typed at its border.

One form: a first sentence; then, where it takes more, Google's sections. Each parameter is named in it, under `Args:` or in
backticks; no comment beside a parameter says what only readers of the source would see.
"""
import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import musevae

PACKAGE = Path(musevae.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "_modidx.py")


def public(body, prefix=""):
    "Pairs of dotted name and definition of the public functions, classes and methods of a body."
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def parameters(node):
    "Parameters of a function, without `self` and `cls`."
    a = node.args
    every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
    return [p for p in every if p.arg not in ("self", "cls")]


def is_named(parameter, doc):
    "Whether a docstring names a parameter: an entry of `Args:`, or a word in backticks."
    name = re.escape(parameter)
    return bool(re.search(rf"^\s*(\*{{0,2}}\w+, )*\*{{0,2}}{name}(, \*{{0,2}}\w+)*:|`[^`]*\b{name}\b[^`]*`", doc, re.M))


def setter(node):
    return any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list)


def command(node):
    "Whether a function is a command, whose parameters are documented for the shell, beside their types (`arg(help=…)`)."
    return any(isinstance(d, ast.Name) and d.id == "command" for d in node.decorator_list)


def faults(source):
    "What is wrong with the words of a module, a line each."
    tree = ast.parse(source)
    for name, node in public(tree.body):
        doc = ast.get_docstring(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and setter(node):
            continue
        if not doc:
            yield f"{name}: no docstring"
            continue
        if isinstance(node, ast.ClassDef):
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
            yield from _comments(source, name, node, fields)
            continue
        for p in parameters(node):
            if not (is_named(p.arg, doc) or command(node)):
                yield f"{name}: {p.arg} is not in the docstring"
            if p.annotation is None:
                yield f"{name}: {p.arg} has no type"
        if node.returns is None:
            yield f"{name}: no type of what it returns"
        yield from _comments(source, name, node, parameters(node))


def _comments(source, name, node, nodes):
    "Comments on the lines of parameters or fields."
    lines = {n.lineno for n in nodes} | {n.end_lineno for n in nodes}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.start[0] in lines and not re.match(r"#\s*(noqa|type:)", token.string):
            yield f"{name}: a comment beside a parameter or field, which help() does not show: {token.string}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_are_documented_and_typed(path):
    found = list(faults(path.read_text(encoding="utf-8")))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("source, fault", [
    ("def f(x: int) -> int:\n    return x", "no docstring"),
    ('def f(x: int) -> int:\n    "Nothing of it."', "x is not in the docstring"),
    ('def f(x) -> int:\n    "The double of `x`."', "x has no type"),
    ('def f(x: int):\n    "The double of `x`."', "no type of what it returns"),
    ('def f(\n    x: int,  # a number\n) -> int:\n    "The double of `x`."', "a comment beside"),
    ('class C:\n    "A thing."\n    x: int  # a number', "a comment beside"),
    ('class C:\n    "A thing."\n    def f(self, x: int) -> int:\n        "Twice."', "C.f: x is not"),
])
def test_each_fault_is_seen(source, fault):
    assert any(fault in line for line in faults(source))


@pytest.mark.parametrize("source", [
    'def f(x: int) -> int:\n    "The double of `x`."',
    '@command\ndef f(x: Annotated[int, arg(help="a number")]) -> int:\n    "Twice."',
    'def f(x: int, *more: int) -> int:\n    """A sum.\n\n    Args:\n        x: a number.\n        *more: others.\n    """',
    "def _f(x):\n    return x",
])
def test_what_is_right_passes(source):
    assert not list(faults(source))
