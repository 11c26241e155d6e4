"""Sphinx extension: the library leaves the page, and no line of code leaves its frame.

What a cell defines for the library is folded, on the built page alone, to what a reader needs to go on: signatures and
the first lines of docstrings. Imports are folded to the names of what is imported. Of a long cell of a lesson there
stand its claims and what it shows (``#| code-fold: false`` keeps it open). The whole code stands behind a click, in an
HTML ``<details>``: it works without scripts, is found by the browser's search and the book's, and is printed whole.
The notebooks stay as they are, and so do the pages of every other format than HTML.

Each line of code is a box of its own, so that a long one wraps below where it began, with a mark.
"""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

from docutils import nodes
from pygments.formatters import HtmlFormatter
from sphinx.highlighting import PygmentsBridge
from sphinx.transforms.post_transforms import SphinxPostTransform

WORTH = 2  # lines of a lesson: fewer saved are no reason to fold
LONG = 8  # lines of a lesson's own function that are folded like the library's
CHAPTER, WORKSHOP = 9, 3  # lines of a lesson's cell that stand open; of a longer one, what it asserts and shows
NARROW = 88  # characters beside the words that unfold
WIDE = 88  # characters: a longer signature is shown without its types, and so is a helper's

# Browsers that cannot style what a `<details>` hides print it open all the same.
PRINT = """addEventListener('beforeprint', () => document.querySelectorAll('.bd-article details:not([open])')
  .forEach((e) => { e.open = true; e.dataset.shut = ''; }));
addEventListener('afterprint', () => document.querySelectorAll('details[data-shut]')
  .forEach((e) => { e.open = false; delete e.dataset.shut; }));"""

_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


# --- what is shown of code that is folded ----------------------------------------------------------------------------


def abstract(code: str, exported: bool, most: int = CHAPTER) -> list[str]:
    "What stands on the page for `code`, line by line; empty if it stands there whole, as a lesson of `most` lines does."
    try:
        body = ast.parse(code).body
    except SyntaxError:  # magics
        return []
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [node for node in body if node not in imports and not _declares_names(node)]
    lines = code.strip("\n").split("\n")
    if exported:
        short = [line for node in others for line in _shown(node, lines)]
        short = [_imported(imports), *short] if imports else short
    else:
        short = _lesson(lines, imports, others)
        if len(short) > most:
            short = _claims(lines, imports, others)
    saved = len(lines) - len(short)
    return short if short and saved >= (1 if exported or not others else WORTH) else []


def _lesson(lines: list[str], imports: list, others: list) -> list[str]:
    "A lesson's code stands open, but for its imports and for long functions."
    folds = {}
    if imports and not any(node.lineno < imports[-1].lineno for node in others):
        folds[imports[0].lineno] = imports[-1].end_lineno, [_imported(imports)]
    for node in others:
        if isinstance(node, _DEFINES) and node.end_lineno - node.lineno >= LONG:
            folds[node.lineno] = node.end_lineno, _shown(node, lines)
    shown, at = [], 1
    while at <= len(lines):
        end, short = folds.get(at, (at, [lines[at - 1]]))
        shown += short
        at = end + 1
    return re.sub(r"\n{3,}|(?<=^# imports)(.*)\n+", lambda m: f"{m[1]}\n" if m[1] else "\n\n", "\n".join(shown)).split("\n")


def _claims(lines: list[str], imports: list, others: list) -> list[str]:
    "Of a long cell: what it defines, what it asserts, and what it shows; dots for the rest."
    shown = [_imported(imports)] if imports else []
    for node in others:
        whole = isinstance(node, ast.Assert) or (node is others[-1] and isinstance(node, ast.Expr))
        if isinstance(node, _DEFINES):
            shown += _shown(node, lines)
        elif whole:
            shown += lines[node.lineno - 1:node.end_lineno]
        elif shown[-1:] != ["# …"]:
            shown.append("# …")
    return shown


def _declares_names(node: ast.stmt) -> bool:
    "Is it nbdev's list of names that a module passes on?"
    return isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] in (["_all_"], ["__all__"])


def only_names(code: str) -> bool:
    "Is `code` nothing but nbdev's list of names? A reader has no use for it."
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return False
    return bool(body) and all(_declares_names(node) for node in body)


def _imported(imports: list) -> str:
    names = [name for node in imports for name in ([node.module or "."] if isinstance(node, ast.ImportFrom)
                                                   else [alias.name for alias in node.names])]
    line = f"# imports: {', '.join(dict.fromkeys(name for name in names if name != '__future__'))}"
    return line if len(line) <= NARROW else line[:NARROW].rpartition(",")[0] + " …"


def _shown(node: ast.stmt, lines: list[str]) -> list[str]:
    "Signature and first line of the docstring of a definition (a helper's signature); the first line of any other statement."
    if not isinstance(node, _DEFINES):
        first = lines[node.lineno - 1]
        return [first if node.end_lineno == node.lineno else f"{first} …"]
    shown = [_signature(node)]
    if (doc := ast.get_docstring(node)) and not node.name.startswith("_"):
        shown.append(f'    "{doc.split(chr(10))[0]}"')
    if isinstance(node, ast.ClassDef):
        methods = [f.name for f in node.body if isinstance(f, _DEFINES) and not f.name.startswith("_")]
        shown += [f"    # {', '.join(methods)}"] if methods else []
    return shown


def _signature(node) -> str:
    if isinstance(node, ast.ClassDef):
        parents = [ast.unparse(part) for part in (*node.bases, *node.keywords)]
        return f"class {node.name}({', '.join(parents)}):" if parents else f"class {node.name}:"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    whole = f"def {node.name}({ast.unparse(node.args)}){returns}:"
    if len(whole) <= WIDE and not node.name.startswith("_"):
        return whole
    for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
        if arg is not None:
            arg.annotation = None
    return f"def {node.name}({ast.unparse(node.args)}):"


# --- lines ------------------------------------------------------------------------------------------------------------


class LinedFormatter(HtmlFormatter):
    "Pygments' HTML with a block a line, which knows how far its code is indented."

    def wrap(self, source, *args, **kwargs):
        return super().wrap(self._lined(source), *args, **kwargs)

    @staticmethod
    def _lined(source):
        for is_code, line in source:
            text = html.unescape(re.sub(r"<[^>]*>", "", line))
            if is_code and text.strip():
                line, end = line.removesuffix("\n"), line[len(line.removesuffix("\n")):]
                indent = len(text) - len(text.lstrip(" "))
                style = f' style="--in:{indent}ch"' if indent else ""
                line = f'<span class="mv-line"{style}>{line}</span>{end}'
            yield is_code, line


# --- Sphinx -----------------------------------------------------------------------------------------------------------


class folded(nodes.Element):
    "Code behind a click, under what is shown of it: `abstract`, and how many `lines` there are."


class FoldCode(SphinxPostTransform):
    "Fold what cells define for the library, and imports. (Before MyST-NB folds what a cell's own tag says.)"

    default_priority = 198
    formats = ("html",)

    def run(self, **kwargs):
        most = CHAPTER if re.match(r"\d+_", Path(self.env.docname).name) else WORKSHOP
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") != "cell_code" or cell.get("hide_mode") or not cell.children:
                continue
            code = cell.children[0]
            if code.get("nb_element") != "cell_code_source" or "tag_keep-open" in cell["classes"]:
                continue
            if only_names(code.astext()):
                cell.parent.remove(cell)
                continue
            short = abstract(code.astext(), "tag_nbdev-export" in cell["classes"], most)
            if short:
                fold = folded(abstract="\n".join(short), lines=len(code.astext().strip().split("\n")))
                cell.replace(code, fold)
                fold.append(code)


def visit_folded(self, node):
    shown = self.highlighter.highlight_block(node["abstract"], "python", force=True)
    inside = re.search(r"<pre>(?:<span></span>)?(.*)</pre>", shown, re.DOTALL)[1]
    self.body.append(
        '<details class="mv-fold"><summary>'
        f'<code class="highlight mv-abstract">{inside}</code>'
        f'<span class="mv-more"><span class="mv-shut">show the code · {node["lines"]} lines</span>'
        '<span class="mv-open">fold the code</span></span></summary>\n')


def depart_folded(self, node):
    self.body.append("</details>\n")


def setup(app):
    PygmentsBridge.html_formatter = LinedFormatter
    app.add_node(folded, html=(visit_folded, depart_folded))
    app.add_post_transform(FoldCode)
    app.add_js_file(None, body=PRINT)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
