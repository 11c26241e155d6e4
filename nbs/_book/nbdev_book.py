"""Sphinx extension: how the book reads nbdev notebooks.

One notebook serves nbdev and Jupyter Book. nbdev's ``#|`` directives become cell tags in memory, at the moment
MyST-NB reads a notebook (``nb_custom_formats`` in ``_config.yml``); nothing is written back.

=====================================  ===================================================
directive                              in the book
=====================================  ===================================================
``default_exp``, any other flag        the line is removed
``export`` ``exporti`` ``exports``     the cell wears an "exported" badge
``hide``  ``include: false``           runs, is not shown
``echo: false``  ``hide_input``        output only
``output: false``  ``hide_output``     code only
``code-fold: true``, ``false``         code behind a click; code open, however long (`folding.py`)
``answer``                             code and output behind one click: an exercise's answer
``eval: false``  ``gpu``               shown, not run; stored outputs stay
``warning: false``                     standard error dropped
``label:``  ``fig-cap:``  ``fig-alt:`` numbered figure, target of ``{numref}``, alt text
``handout: NAME``                      what the cell shows stands on a page of its own, too (`handouts.py`)
a cell that is one ``show_doc(...)``   output only
a cell that calls ``nbdev_export()``   neither run nor shown
=====================================  ===================================================

The execution cache keys on a notebook's code alone, so each notebook also gets a hidden first cell with a fingerprint
of what else its outputs depend on: the modules of the library it imports (and those they import), the `show_doc`
renderer if it calls it, the files it names, and the outputs stored in cells that are not run. A changed module thus
runs again exactly the chapters that use it.
"""

from __future__ import annotations

import ast
import configparser
import functools
import hashlib
import html
import json
import os
import re
from pathlib import Path

import nbformat
import yaml
from places import pictures, with_places, with_sizes, with_words_left

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
MATHJAX = "tex-svg-full.js"  # every TeX extension and no font: one file, nothing fetched

_DIRECTIVE = re.compile(r"^\s*#\s*\|\s*(?P<body>\S.*?)\s*$")
_EXPORT = {"export", "exporti", "exports"}
_TRUE, _FALSE = {"true", "yes", "1", "show"}, {"false", "no", "0"}


# --- directives ------------------------------------------------------------------------------------------------------


def split_directives(source: str) -> tuple[dict[str, str], str]:
    "Leading ``#|`` lines of `source` as a dict, and the code after them."
    found: dict[str, str] = {}
    lines = source.split("\n")
    magics = []
    for i, line in enumerate(lines):
        match = _DIRECTIVE.match(line)
        if match:
            key, _, value = match["body"].partition(":" if ":" in match["body"] else " ")
            found[key.strip()] = value.strip()
        elif line.startswith("%%"):
            magics.append(line)  # a cell magic may stand among directives
        elif line.strip():
            return found, "\n".join(magics + lines[i:])
    return found, "\n".join(magics)


def _is(value: str | None, words: set[str]) -> bool:
    return value is not None and value.lower() in words


def calls(code: str) -> set[str]:
    "Names of the functions that `code` calls, as written last: ``f`` for ``f()``, ``g`` for ``a.g()``."
    tree = _parse(code)
    found = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in found}


def cell_tags(directives: dict[str, str], code: str) -> list[str]:
    "MyST-NB and nbclient cell tags for the `directives` of a cell whose source is `code`."
    d = directives
    if "nbdev_export" in calls(code):
        return ["remove-cell", "skip-execution"]
    wanted = {
        "remove-cell": "hide" in d or _is(d.get("include"), _FALSE),
        "remove-input": "hide_input" in d or _is(d.get("echo"), _FALSE) or code.lstrip().startswith("show_doc("),
        "remove-output": "hide_output" in d or _is(d.get("output"), _FALSE),
        "skip-execution": "gpu" in d or _is(d.get("eval"), _FALSE),
        "hide-input": _is(d.get("code-fold"), _TRUE),
        "hide-cell": "answer" in d,
        "keep-open": _is(d.get("code-fold"), _FALSE),
        "remove-stderr": _is(d.get("warning"), _FALSE),
        "nbdev-export": bool(d.keys() & _EXPORT),
    }
    tags = [tag for tag, on in wanted.items() if on]
    return tags + ([f"handout-{d['handout']}"] if "handout" in d else [])


def read_ipynb(text: str) -> nbformat.NotebookNode:
    "Parse notebook `text`, translate its directives, add its fingerprint (a MyST-NB reader)."
    nb = nbformat.reads(text, as_version=4)
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        directives, cell.source = split_directives(cell.source)
        tags = cell_tags(directives, cell.source)
        if tags:
            cell.metadata["tags"] = list(dict.fromkeys([*cell.metadata.get("tags", []), *tags]))
        if "answer" in directives:
            cell.metadata["mystnb"] = {f"code_prompt_{do}": f"{sign}\u00A0{do.replace('hide', 'fold')} the answer"
                                       for do, sign in (("show", "\u25B8"), ("hide", "\u25BE"))}
        _figure(cell, directives)
    mark = fingerprint(nb)
    if mark:
        cell = nbformat.v4.new_code_cell(f"# depends on {mark}", id="fingerprint", metadata={"tags": ["remove-cell"]})
        nb.cells.insert(0, cell)
    return nb


def _figure(cell, directives: dict[str, str]) -> None:
    "Caption, label and alt text of the figure that `cell` draws; without `fig-alt`, its caption or titles are the alt."
    text = {key: _unquoted(directives[key]) for key in ("fig-cap", "label", "fig-alt") if key in directives}
    figure = {new: text[old] for old, new in (("fig-cap", "caption"), ("label", "name")) if old in text}
    alt = text.get("fig-alt") or text.get("fig-cap") or "; ".join(titles(cell.source))
    metadata = {"figure": figure} if figure else {}
    if alt:
        metadata["image"] = {"alt": alt}
    if metadata:
        cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), **metadata}


def _unquoted(text: str) -> str:
    "A directive's text; quotation marks around it are YAML's, a colon inside it is not."
    return yaml.safe_load(text) if text[:1] in ("'", '"') else text


def titles(code: str) -> list[str]:
    "Titles that plotting `code` gives its figure and axes, where they are plain strings."
    found = (node for node in ast.walk(_parse(code)) if isinstance(node, ast.Call) and node.args
             and getattr(node.func, "attr", "") in {"suptitle", "set_title", "title"})
    return [node.args[0].value for node in found if isinstance(getattr(node.args[0], "value", None), str)]


# --- what a notebook depends on --------------------------------------------------------------------------------------


@functools.cache
def settings() -> configparser.SectionProxy:
    "nbdev's settings: name, address and description of the project."
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return ini["DEFAULT"]


@functools.cache
def package() -> Path:
    "The library's folder, as nbdev's settings name it."
    return ROOT / settings()["lib_path"]


def _parse(code: str) -> ast.Module:
    "The syntax tree of a cell; magics and shell lines are left out, and code that does not parse counts as empty."
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in code.split("\n"))
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _module_file(dotted: str) -> Path | None:
    "The file of the library's module `dotted` (``musevae.mel``), or None."
    path = package().parent.joinpath(*dotted.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imported(tree: ast.Module, inside: str = "") -> set[str]:
    "Dotted names of the library's modules that `tree` imports, wherever in it; `inside` is the package it stands in."
    name = package().name
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside.split(".")[: len(inside.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {f for f in found if f.split(".")[0] == name and _module_file(f)}


def closure(names: set[str]) -> dict[str, Path]:
    "The modules `names`, the packages they stand in, and all modules of the library that these import."
    done: dict[str, Path] = {}
    todo = set(names)
    while todo:
        name = todo.pop()
        done[name] = file = _module_file(name)
        inside = name if file.name == "__init__.py" else name.rpartition(".")[0]
        found = imported(ast.parse(file.read_text(encoding="utf-8")), inside)
        parents = {name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1)}
        todo |= (found | parents) - done.keys()
    return done


def named_files(trees: list[ast.Module]) -> set[Path]:
    "Files of the notebooks' folder that a string in the code names (stored results, for example)."
    strings = {n.value for tree in trees for n in ast.walk(tree)
               if isinstance(n, ast.Constant) and isinstance(n.value, str) and re.fullmatch(r"[\w./-]+\.\w+", n.value)}
    folders = {ROOT / "nbs", ROOT / "nbs" / "results"}
    return {path for s in strings for folder in folders if (path := folder / s).is_file()}


def carried(module: Path) -> list[Path]:
    "Files in folders beside `module`, or at the root of the package, that it names: the scripts of widgets, tables (data)."
    text = module.read_text(encoding="utf-8")
    beside = {*module.parent.iterdir(), *package().iterdir()}
    folders = [f for f in beside if f.is_dir() and not (f / "__init__.py").exists()]
    named = [f for f in folders if f.name != "__pycache__" and re.search(rf"['\"/]{f.name}['\"/]", text)]
    return [path for folder in named for path in folder.rglob("*") if path.is_file()]


def fingerprint(nb: nbformat.NotebookNode) -> str:
    "Hash of what the outputs of `nb` depend on besides its code; empty if nothing."
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    trees = [_parse(cell.source) for cell in code]
    modules = set(closure({name for tree in trees for name in imported(tree)}).values())
    files = modules | named_files(trees) | {data for path in modules for data in carried(path)}
    if any("show_doc" in calls(cell.source) for cell in code):
        files.add(HERE / "show_doc.py")
    stored = [cell.outputs for cell in code if "skip-execution" in cell.metadata.get("tags", []) and cell.outputs]
    if not files and not stored:
        return ""
    h = hashlib.sha256()
    for path in sorted(files):
        h.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    h.update(json.dumps(stored, sort_keys=True).encode() + os.environ.get("MUSEVAE_GTZAN", "").encode())
    return h.hexdigest()[:16]


# --- Sphinx ----------------------------------------------------------------------------------------------------------


def outdated(app, env, added, changed, removed):
    "Sphinx looks at a notebook's own time stamp; this adds the notebooks whose fingerprint has changed."
    notebooks = {doc: Path(env.doc2path(doc)) for doc in env.found_docs}
    now = {doc: _cached_fingerprint(path) for doc, path in notebooks.items() if path.suffix == ".ipynb"}
    before, env.nbdev_book_fingerprints = getattr(env, "nbdev_book_fingerprints", {}), now
    return sorted(doc for doc in now if doc in before and before[doc] != now[doc])


def _cached_fingerprint(path: Path) -> str:
    cells = read_ipynb(path.read_text(encoding="utf-8")).cells
    return cells[0].source if cells and cells[0].get("id") == "fingerprint" else ""


def number_by_chapter(app, config):
    "Sphinx numbers no figure: `apparatus.py` does, by the chapters' own numbers. (Jupyter Book insists in code.)"
    config.numfig = False


def number_title(app, doctree):
    "Put a chapter's number, which its file name carries, before its title."
    from docutils import nodes

    match = re.match(r"0?(\d+[a-z]?|[A-Z]\d+[a-z]?)_", Path(app.env.docname).name)
    title = next(iter(doctree.findall(nodes.title)), None)
    if match and title is not None:
        title.insert(0, nodes.inline("", match[1], classes=["chapter-number"]))
        title.insert(1, nodes.Text("\N{NO-BREAK SPACE} "))


def describe_images(app, doctree):
    "An image that nobody described is at least named after its section (the theme would read out its file name)."
    from docutils import nodes

    for image in doctree.findall(nodes.image):
        section = next((a for a in _ancestors(image) if isinstance(a, nodes.section)), None)
        if not image.get("alt") and section is not None:
            image["alt"] = f"Figure: {section.next_node(nodes.title).astext()}"


def _ancestors(node):
    while node.parent is not None:
        node = node.parent
        yield node


def page_scripts(app, pagename, templatename, context, doctree):
    """Leave out sphinx-thebe (twice on every page, for a button we do not have); widget state goes below the text.

    Each widget and each picture gets its room before it comes (`places.py`).
    """
    kept, state = [], ""
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        if attributes.get("type") == "application/vnd.jupyter.widget-state+json":
            state = f'<script type="{attributes["type"]}">{attributes["body"]}</script>'
        elif "thebe" not in f"{getattr(script, 'filename', script)} {attributes}".lower():
            kept.append(script)
    context["script_files"] = kept
    body = with_words_left(with_sizes(context.get("body", ""), pictures(app)))
    context["body"] = with_places(body, state) + state if state else body


# --- what others are shown of a page ---------------------------------------------------------------------------------


def describe_page(app, doctree):
    "Remember a page's description (its subtitle, or how it begins) and its first picture."
    from docutils import nodes

    section = next(iter(doctree.findall(nodes.section)), doctree)
    first = next((n for n in section.children if isinstance(n, (nodes.block_quote, nodes.paragraph))), None)
    known = app.env.metadata[app.env.docname]
    known["description"] = shortened(first.astext() if first is not None else settings()["description"])
    pictures = (Path(app.srcdir, node["uri"]) for node in doctree.findall(nodes.image) if "://" not in node["uri"])
    known["picture"] = next((str(path) for path in pictures if path.suffix == ".png" and path.is_file()), "")


def shortened(text: str, most: int = 200) -> str:
    "The first `most` characters of `text` on one line, cut between sentences, or between words if the first is long."
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    sentences = text[:most].rpartition(". ")[0]
    return f"{sentences}." if sentences else text[:most].rpartition(" ")[0].rstrip(",;:") + " …"


def address(path: str) -> str:
    "Where a file of the book will stand in the world."
    return f"{settings()['doc_host']}{settings()['doc_baseurl']}/{path}"


def card(pagename: str) -> str:
    "The file of a page's picture card, below the book's folder."
    return f"_static/cards/{pagename.replace('/', '-')}.png"


def page_card(app, pagename, templatename, context, doctree):
    "What search engines and messengers show of a page: title, description, picture."
    if doctree is None:
        return
    about = app.env.metadata[pagename]
    title = app.env.titles[pagename].astext()
    if pagename == app.config.root_doc:  # its heading is the book's name: say it once
        title = context["title"] = f"{title}: {settings()['description']}"
        context["docstitle"] = ""
    context["metatags"] = context.get("metatags", "") + card_tags(pagename, title, about["description"])


def card_tags(pagename: str, title: str, description: str) -> str:
    "Lines of a page's head for those who link to it."
    tags = {"og:type": "article", "og:site_name": settings()["title"], "og:title": title,
            "og:description": description, "og:url": address(f"{pagename}.html"),
            "og:image": address(card(pagename)), "og:image:width": "1200", "og:image:height": "630",
            "og:image:alt": title, "twitter:card": "summary_large_image"}
    lines = [f'<meta name="description" content="{html.escape(description)}"/>']
    lines += [f'<meta property="{key}" content="{html.escape(value)}"/>' for key, value in tags.items()]
    return "\n".join(["", *lines, ""])


def draw_card(title: str, text: str, picture: str, out: Path) -> None:
    "A card of 1200 × 630 pixels: title and text beside the page's first picture."
    from matplotlib import font_manager
    from PIL import Image, ImageChops, ImageDraw, ImageFont

    image = Image.new("RGB", (1200, 630), "#15111b")
    draw, wide = ImageDraw.Draw(image), 1080
    if picture:
        shown, wide = Image.open(picture).convert("RGBA"), 470
        white = Image.new("RGBA", shown.size, "white")
        white.alpha_composite(shown)
        shown = white.crop(ImageChops.difference(white.convert("RGB"), Image.new("RGB", white.size, "white")).getbbox())
        share = min(580 / shown.width, 510 / shown.height)
        shown = shown.resize((max(1, round(shown.width * share)), max(1, round(shown.height * share))))
        left, top = 1140 - shown.width, (630 - shown.height) // 2
        draw.rounded_rectangle((left - 12, top - 12, 1152, top + shown.height + 12), 14, "white")
        image.paste(shown, (left, top))
    y = 60
    for words, size, weight, colour, most in ((settings()["title"], 26, "regular", "#fc8961", 1),
                                              (title, 50, "bold", "#f4eef9", 5), (text, 26, "regular", "#b9afc5", 7)):
        font = ImageFont.truetype(font_manager.findfont(font_manager.FontProperties(weight=weight)), size)
        lines = wrapped(words, wide, lambda line, font=font: draw.textlength(line, font))
        if len(lines) > most:
            lines = [*lines[: most - 1], lines[most - 1] + " …"]
        for line in lines:
            draw.text((60, y), line, colour, font)
            y += round(1.25 * size)
        y += round(0.7 * size)
    out.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(128).save(out, optimize=True)


def wrapped(text: str, wide: float, length) -> list[str]:
    "`text` in lines of at most `wide`, by the measure `length`; a word that is longer has a line of its own."
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer) > wide:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def draw_cards(app, exc):
    "The card of each page."
    if exc or app.builder.format != "html":
        return
    for name in app.env.found_docs:
        about, title = app.env.metadata[name], app.env.titles[name].astext()
        draw_card(title, about["description"], about["picture"], Path(app.outdir, card(name)))


def add_mathjax(app, exc):
    "MathJax, from the wheel that carries it, next to the book's other static files."
    if exc or app.builder.format != "html":
        return
    from importlib.metadata import files

    from sphinx.util.fileutil import copy_asset

    source = next(f for f in files("sphinx-mathjax-offline") if f.name == MATHJAX)
    copy_asset(str(source.locate()), str(Path(app.outdir) / "_static" / "mathjax"))


def setup(app):
    app.connect("config-inited", number_by_chapter, priority=900)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", number_title, priority=100)
    app.connect("doctree-read", describe_images)
    app.connect("doctree-read", describe_page, priority=900)  # when Sphinx has found the pictures' files
    app.connect("html-page-context", page_scripts, priority=900)
    app.connect("html-page-context", page_card)
    app.connect("build-finished", add_mathjax)
    app.connect("build-finished", draw_cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
