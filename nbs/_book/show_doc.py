"""How `show_doc` looks in the book: nbdev's `renderer`, named in settings.ini.

A symbol becomes a MyST ``py:`` directive, so it has a permalink, an index entry and can be linked to. Its parameters
stand in one table, whether they are documented by comments beside them (nbdev's way) or in sections of the docstring
(numpy's and Google's ways).
"""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import operator
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

from fastcore.docments import ShowDocRenderer, docments

PACKAGE = "musevae"
EMPTY = inspect.Parameter.empty
SECTIONS = {
    "parameters": "Parameters", "args": "Parameters", "arguments": "Parameters", "other parameters": "Parameters",
    "attributes": "Attributes", "returns": "Returns", "yields": "Yields", "raises": "Raises",
    "notes": "Notes", "note": "Notes", "examples": "Examples", "example": "Examples",
}


def home(sym, name: str) -> str:
    "The module `name` is exported to (in its own notebook, a symbol's `__module__` is `__main__`)."
    module = getattr(sym, "__module__", "") or ""
    if module != "__main__":
        return module
    found = [mod for mod, names in _exported().items() if f"{mod}.{name}" in names]
    return next((mod for mod in found if len(found) == 1 or _same(sym, mod, name)), "")


def _exported() -> dict[str, set[str]]:
    "The names of each module, dotted: nbdev's index, and for packages, which it leaves out, what their `__init__.py` defines."
    try:
        index = importlib.import_module(f"{PACKAGE}._modidx").d["syms"]
        root = Path(importlib.import_module(PACKAGE).__file__).parent
    except ImportError:
        return {}
    found = {module: set(names) for module, names in index.items()}
    for path in root.glob("*/**/__init__.py"):
        module = ".".join([PACKAGE, *path.parent.relative_to(root).parts])
        found.setdefault(module, set()).update(_defined(ast.parse(path.read_text(encoding="utf-8")).body, module))
    return found


def _defined(body: list, prefix: str) -> Iterator[str]:
    "Dotted names of the functions, classes and methods of a body."
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield f"{prefix}.{node.name}"
            yield from _defined(node.body if isinstance(node, ast.ClassDef) else [], f"{prefix}.{node.name}")


def _same(sym, module: str, name: str) -> bool:
    "Whether `module` has `sym` under that `name`: two modules may each have a `train`."
    there = operator.attrgetter(name)(importlib.import_module(module))
    return inspect.getdoc(there) == inspect.getdoc(sym)


def sections(doc: str) -> tuple[str, dict[str, str]]:
    "Split a docstring into its text and its numpy or Google sections, by title."
    text, found, current = [], {}, None
    lines = doc.split("\n")
    i = 0
    while i < len(lines):
        line, after = lines[i], lines[i + 1] if i + 1 < len(lines) else ""
        numpy = line.strip().lower() in SECTIONS and re.fullmatch(r"-{3,}", after.strip())
        google = re.fullmatch(r"(\w[\w ]*):", line) and line[:-1].lower() in SECTIONS and after.startswith(" ")
        if numpy or google:
            current = SECTIONS[line.strip().rstrip(":").lower()]
            found.setdefault(current, [])
            i += 2 if numpy else 1
            continue
        if current and line and not line[0].isspace() and _is_google(found[current]):
            current = None  # a Google section ends where its indentation does
        (text if current is None else found[current]).append(line)
        i += 1
    return "\n".join(text).strip(), {k: inspect.cleandoc("\n" + "\n".join(v)) for k, v in found.items()}


def _is_google(body: list[str]) -> bool:
    lines = [line for line in body if line.strip()]
    return bool(lines) and all(line[0].isspace() for line in lines)


_NUMPY = re.compile(r"(?P<name>[*\w, ]+) : (?P<kind>.*)")
_GOOGLE = re.compile(r"(?P<name>[*\w.`, ]+?)\s*(?:\((?P<kind>[^()]*(?:\([^()]*\)[^()]*)*)\))?\s*:(?:\s+|$)(?P<text>.*)")


def entries(body: str) -> list[tuple[str, str, str]]:
    """(name, type, text) of the entries of a section: numpy's `name : type` or Google's `name (type): text`.

    A sentence that is neither is a name without type and text, whole, with its backticks and the lines that go on with it.
    """
    found: list[list[str]] = []
    for line in body.split("\n"):
        if line and not line[0].isspace():
            if match := _NUMPY.match(line):
                found.append([match["name"], match["kind"], ""])
            elif match := _GOOGLE.match(line):
                found.append([match["name"], match["kind"] or "", match["text"]])
            elif found and found[-1][1:] == ["", ""] and " " in found[-1][0]:
                found[-1][0] += f" {line}"
            else:
                found.append([line, "", ""])
        elif line.strip() and found:
            found[-1][2] = f"{found[-1][2]} {line.strip()}".strip()
    return [(name.strip() if not kind + text else name.strip(" `"), kind, text) for name, kind, text in found]


def plain(text: str) -> str:
    "Text for a cell of a Markdown table."
    return re.sub(r"\s+", " ", text or "").strip().replace("|", "\\|").replace("<", "&lt;")


def value(default) -> str:
    "A default value, short and in code the signature parser accepts."
    shown = repr(default) if default is not Ellipsis else "..."
    if inspect.isfunction(default) or inspect.isclass(default):
        shown = default.__name__
    elif is_dataclass(default) and not isinstance(default, type):
        shown = f"{type(default).__name__}(...)" if len(shown) > 40 else shown
    try:
        ast.parse(shown, mode="eval")
    except SyntaxError:
        return "..."
    return shown if len(shown) <= 40 else "..."


class _Source(str):
    "A default that prints as the code it is."

    def __repr__(self):
        return str(self)


# the members of numpy's ArrayLike, which Python shows in place of its name
_LIKE = r"[^\]]*?_?Buffer, .*?SupportsArray.*?, complex, bytes, str, [\w.]*NestedSequence\[complex \| bytes \| str\]"


def kind_of(annotation) -> str:
    "An annotation as a reader writes it."
    if annotation in (EMPTY, None, inspect.Signature.empty):
        return ""
    shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    shown = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", shown.strip("'"))
    return re.sub(r"Union\[" + _LIKE + r"(?:, (\w+))?\]", lambda m: f"ArrayLike | {m[1]}" if m[1] else "ArrayLike", shown
                  ).replace("| NoneType", "| None")


def fence_doctests(text: str) -> str:
    "Doctest lines (`>>> …` and what they print) in a fence; Markdown would read them as quotations."
    return re.sub(r"(?m)^((?:>>> .*\n?)(?:(?:>>>|\.\.\.|(?!\n)\S).*\n?)*)",
                  lambda m: f"```python\n{m[1].rstrip()}\n```\n", text)


class BookRenderer(ShowDocRenderer):
    "`show_doc` as an API entry of the book."

    @property
    def kind(self) -> str:
        if inspect.isclass(self.sym):
            return "exception" if issubclass(self.sym, BaseException) else "class"
        if isinstance(self.sym, property):
            return "property"
        return "method" if "." in self.nm and not self._is_module(self.nm.split(".")[0]) else "function"

    @staticmethod
    def _is_module(name: str) -> bool:
        return name == PACKAGE

    @property
    def doc(self) -> str:
        "The whole docstring (a dataclass without one gets its signature from Python: that is left out)."
        doc = inspect.getdoc(self.sym) or ""
        return "" if doc.startswith(f"{self.nm.split('.')[-1]}(") else doc

    def signature(self) -> str:
        "Names and defaults; types stand in the table."
        if self.sig is None or isinstance(self.sym, property):
            return self.nm
        params = [p.replace(annotation=EMPTY, default=p.default if p.default is EMPTY else _Source(value(p.default)))
                  for name, p in self.sig.parameters.items() if name not in ("self", "cls")]
        return f"{self.nm}{inspect.Signature(params)}"

    def rows(self, documented: dict[str, tuple[str, str]]) -> list[tuple[str, str, str, str]]:
        "(name, type, default, meaning) of each parameter."
        try:
            comments = docments(self.sym, full=True)
        except Exception:  # no source at hand: a builtin, or a class made on the fly
            comments = {}
        found = []
        defaults = _field_defaults(self.sym)
        for name, p in (self.sig.parameters.items() if self.sig else ()):
            if name in ("self", "cls"):
                continue
            kind, text = documented.get(name, documented.get("*" + name, documented.get("**" + name, ("", ""))))
            comment = getattr(comments.get(name, None), "docment", None) or ""
            default = defaults.get(name, p.default)
            found.append((name, kind_of(p.annotation) or kind, "" if default is EMPTY else value(default),
                          " ".join(comment) if isinstance(comment, list) else comment or text))
        return found

    def parameters(self, found: dict[str, str]) -> str:
        "The table of parameters, empty if nobody said anything about them."
        documented = {}
        for section in ("Parameters", "Attributes"):
            for names, kind, text in entries(found.get(section, "")):
                documented |= {name.strip(): (kind, text) for name in names.split(",")}
        if inspect.isclass(self.sym) and issubclass(self.sym, BaseException):
            return ""
        rows = self.rows(documented) if not isinstance(self.sym, property) else []
        rows += [(name, kind, "", text) for name, (kind, text) in documented.items()
                 if name.lstrip("*") not in {r[0] for r in rows}]
        if not any(r[3] or r[1] for r in rows):
            return ""
        table = [("", "type", "default", ""), ("---",) * 4, *((f"`{n}`", _code(k), _code(d), plain(t)) for n, k, d, t in rows)]
        kept = [i for i in range(4) if any(row[i] for row in table[2:])]  # no column without a word in it
        return "".join(f"| {' | '.join(row[i] for i in kept)} |\n" for row in table)

    def others(self, found: dict[str, str]) -> str:
        "What is returned, what is raised, notes and examples."
        out = []
        returned = self._returned()
        if returned and "Returns" not in found:
            out.append(f"**Returns** {returned}")
        for title in ("Returns", "Yields", "Raises"):
            parts = [" ".join(filter(None, (f"`{name}`" if kind or text else plain(name), kind and f"({plain(kind)})",
                                            plain(text)))) for name, kind, text in entries(found.get(title, ""))]
            if parts:
                out.append(f"**{title}** " + "; ".join(parts))
        out += [f"**{title}**\n\n{fence_doctests(found[title])}" for title in ("Notes", "Examples") if title in found]
        return "\n\n".join(out)

    def _returned(self) -> str:
        "The return's comment and type, where a comment documents it."
        try:
            said = docments(self.sym, full=True).get("return", None)
        except Exception:  # as in `rows`
            return ""
        text = getattr(said, "docment", None) or ""
        text = " ".join(text) if isinstance(text, list) else text
        return f"{_code(kind_of(said.anno))} {plain(text)}".strip() if text else ""

    def _repr_markdown_(self) -> str:
        text, found = sections(self.doc)
        module = home(self.sym, self.nm)
        # The entry of the index is the one in the symbol's own chapter.
        here = getattr(self.sym, "__module__", "") == "__main__"
        options = (f":module: {module}\n" if module else "") + ("" if here else ":no-index:\n")
        body = "\n\n".join(filter(None, (fence_doctests(text), self.parameters(found), self.others(found))))
        fence = "`" * 6
        return f"{fence}{{py:{self.kind}}} {self.signature()}\n{options}\n{body}\n{fence}\n"

    def _repr_html_(self) -> str:
        "For Jupyter itself, which knows no MyST directives."
        return f"<pre><b>{html.escape(self.signature())}</b>\n\n{html.escape(self.doc)}</pre>"


def _field_defaults(sym) -> dict:
    "Defaults that a dataclass makes by a factory (the signature shows only a marker)."
    if not (inspect.isclass(sym) and is_dataclass(sym)):
        return {}
    return {f.name: f.default_factory() for f in fields(sym) if f.default_factory is not MISSING}


def _code(text: str) -> str:
    return f"`{plain(text).replace('&lt;', '<')}`" if text else ""
