"The book's plumbing: directives, fingerprints, `show_doc`, and what stands in more than one file."

import ast
import importlib
import importlib.util
import json
import re
import sys
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PLUMBING = ROOT / "nbs" / "_book"


def load(name):
    spec = importlib.util.spec_from_file_location(name, PLUMBING / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


load("places")
reader = load("nbdev_book")
show_doc = load("show_doc")
contents = load("contents")


def notebook(*sources, outputs=None):
    cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    if outputs:
        cells[-1].outputs = outputs
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells))


def read(*sources):
    return [cell for cell in reader.read_ipynb(notebook(*sources)).cells if cell.id != "fingerprint"]


# --- directives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source, code, tags", [
    ("#| export\nx = 1", "x = 1", ["nbdev-export"]),
    ("#| exporti\nx = 1", "x = 1", ["nbdev-export"]),
    ("#|hide\nx = 1", "x = 1", ["remove-cell"]),
    ("#| include: false\nx = 1", "x = 1", ["remove-cell"]),
    ("#| eval: false\n1/0", "1/0", ["skip-execution"]),
    ("#| gpu\ntrain()", "train()", ["skip-execution"]),
    ("#| code-fold: true\nplot()", "plot()", ["hide-input"]),
    ("#| answer\nplot()", "plot()", ["hide-cell"]),
    ("#| output: false\nf()", "f()", ["remove-output"]),
    ("#| echo: false\n#| warning: false\nf()", "f()", ["remove-input", "remove-stderr"]),
    ("#| default_exp core", "", []),
    ("# a comment\nx = 1", "# a comment\nx = 1", []),
    ("x = 1\n#| export", "x = 1\n#| export", []),
    ("%%time\n#| echo: false\nf()", "%%time\nf()", ["remove-input"]),
    ("show_doc(f)", "show_doc(f)", ["remove-input"]),
    ("#| hide\nimport nbdev; nbdev.nbdev_export()", "import nbdev; nbdev.nbdev_export()",
     ["remove-cell", "skip-execution"]),
    ("print('nbdev_export() in words')", "print('nbdev_export() in words')", []),
])
def test_directives_become_tags(source, code, tags):
    cell, = read(source)
    assert cell.source == code
    assert cell.metadata.get("tags", []) == tags


def test_figures_are_captioned_and_described():
    cell, = read("#| label: fig-mel\n#| fig-cap: Two bands.\n#| fig-alt: 'A picture: two bands'\nplot()")
    assert cell.metadata["mystnb"] == {"figure": {"caption": "Two bands.", "name": "fig-mel"},
                                       "image": {"alt": "A picture: two bands"}}
    cell, = read("#| fig-alt: Tempo by genre: disco is fast\nplot()")
    assert cell.metadata["mystnb"]["image"] == {"alt": "Tempo by genre: disco is fast"}
    cell, = read("ax.set_title('Silence stays silent')\nax.set_xlabel('s')")
    assert cell.metadata["mystnb"] == {"image": {"alt": "Silence stays silent"}}


# Notebooks whose figures are still without label, caption or description.
UNCAPTIONED: set[str] = set()


def at_top(code):
    "What `code` calls outside its own functions and classes, as written last."
    tree = reader._parse(code)
    tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return reader.calls(ast.unparse(tree))


def faults(text):
    "What is missing of each figure that the notebook `text` draws, and the labels of the others."
    wrong, labels = [], []
    for cell in nbformat.reads(text, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        found, code = reader.split_directives(cell.source)
        wanted = {"label", "fig-cap", "fig-alt"}
        draws = any(call in code for call in ("plt.show()", "draw_bar(")) and at_top(code) & {"show", "draw_bar"}
        if not (wanted & found.keys() or draws):
            continue
        about = f"{cell.id}: {next(iter(code.splitlines()), '')[:60]}"
        missing = wanted - {key for key in wanted & found.keys() if reader._unquoted(found[key])}
        wrong += [f"{about}: no {key}" for key in sorted(missing)]
        if "label" in found and not re.fullmatch(r"fig-[a-z0-9]+(-[a-z0-9]+)*", found["label"]):
            wrong.append(f"{about}: label {found['label']}")
        last = reader._parse(code).body[-1]
        if isinstance(last, ast.Expr) and "plt.show()" in code and not reader.calls(ast.unparse(last)) & {"show", "print"}:
            wrong.append(f"{about}: shows something else as well, under the same caption")
        labels += [found["label"]] if "label" in found else []
    return wrong, labels


def test_every_figure_has_a_label_of_its_own_a_caption_and_a_description():
    read = {p.stem: faults(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "nbs").glob("*.ipynb"))}
    assert {name: wrong for name, (wrong, _) in read.items() if wrong and name not in UNCAPTIONED} == {}
    labels = [label for _, found in read.values() for label in found]
    assert len(labels) > 90 and {label for label in labels if labels.count(label) > 1} == set()
    assert {name for name in UNCAPTIONED if not read[name][0]} == set(), "these have captions: off the list"
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "nbs").iterdir() if p.suffix in (".ipynb", ".md"))
    assert set(re.findall(r"\{numref\}`([^`]+)`", pages)) <= set(labels)


FIGURE = "#| label: fig-a\n#| fig-cap: \"What is drawn.\"\n#| fig-alt: A line.\n"


@pytest.mark.parametrize("source, missing", [
    (FIGURE + "plt.show()", []),
    ("plt.show()", ["no fig-alt", "no fig-cap", "no label"]),
    ("draw_bar(score, 'A bar')", ["no fig-alt", "no fig-cap", "no label"]),
    ("#| export\ndef draw():\n    plt.show()", []),
    (FIGURE.replace("A line.", "''") + "fig = draw()", ["no fig-alt"]),
    (FIGURE.replace(": fig-a", ": Fig_A") + "plt.show()", ["label Fig_A"]),
    (FIGURE + "plt.show()\nassert x\nprint(x)", []),
    (FIGURE + "plt.show()\ntable.round(2)", ["shows something else as well, under the same caption"]),
])
def test_a_figure_without_caption_is_seen(source, missing):
    assert [line.rsplit(": ", 1)[1] for line in faults(notebook(source))[0]] == missing


def test_prose_is_left_alone():
    text = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("#| export")]))
    assert reader.read_ipynb(text).cells[0].source == "#| export"


# --- fingerprints -------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    "A library of five modules: a <- b <- c, apart from them d, and a package p with p.q, which imports a."
    package = tmp_path / "musevae"
    (package / "p").mkdir(parents=True)
    for name, text in {"__init__": "", "a": "", "b": "from .a import x", "c": "import torch\nfrom musevae import b",
                       "d": "", "p/__init__": "", "p/q": "def f():\n    from ..a import x"}.items():
        (package / f"{name}.py").write_text(text)
    (tmp_path / "nbs" / "results").mkdir(parents=True)
    monkeypatch.setattr(reader, "ROOT", tmp_path)
    monkeypatch.setattr(reader, "package", lambda: package)
    return package


def mark(*sources, **kw):
    first = reader.read_ipynb(notebook(*sources, **kw)).cells[0]
    return first.source if first.id == "fingerprint" else None


@pytest.mark.parametrize("code, modules", [
    ("from musevae.c import f", "__init__ a b c"),
    ("from musevae import b, d", "__init__ a b d"),
    ("import musevae.d as d", "__init__ d"),
    ("%matplotlib inline\ndef f():\n    from musevae.p.q import g", "__init__ a p/__init__ p/q"),
    ("x = 'from musevae.a import b'", ""),
    ("import numpy", ""),
])
def test_a_notebook_depends_on_what_it_imports(library, code, modules):
    before = mark(code)
    assert (before is None) == (not modules)
    for file in [*library.glob("*.py"), *library.glob("p/*.py")]:
        text = file.read_text()
        file.write_text(text + "\n# changed")
        name = file.relative_to(library).with_suffix("").as_posix()
        assert (mark(code) != before) == (name in modules.split()), name
        file.write_text(text)
    assert mark(code) == before


def test_prose_changes_run_nothing(library):
    text = notebook("from musevae.a import x")
    nb = nbformat.reads(text, as_version=4)
    nb.cells.insert(0, nbformat.v4.new_markdown_cell("New words."))
    a, b = reader.read_ipynb(text), reader.read_ipynb(nbformat.writes(nb))
    assert [c.source for c in a.cells if c.cell_type == "code"] == [c.source for c in b.cells if c.cell_type == "code"]


def test_stored_results_and_carried_files_count(library):
    results = library.parent / "nbs" / "results" / "gtzan.csv"
    results.write_text("accuracy\n0.53")
    before = mark("pd.read_csv('results/gtzan.csv')")
    results.write_text("accuracy\n0.54")
    assert None is not before != mark("pd.read_csv('results/gtzan.csv')")

    (library / "static").mkdir()
    (library / "d.py").write_text("ESM = here / 'static' / 'map.js'")
    script = library / "static" / "map.js"
    script.write_text("1")
    before = mark("from musevae.d import ESM")
    script.write_text("2")
    assert mark("from musevae.d import ESM") != before

    (library / "wing").mkdir()
    (library / "wing" / "__init__.py").write_text("")
    (library / "wing" / "e.py").write_text("ESM = here.parent / 'static' / 'map.js'")
    before = mark("from musevae.wing.e import ESM")
    script.write_text("3")
    assert mark("from musevae.wing.e import ESM") != before


def test_outputs_stored_in_cells_that_do_not_run_count(library):
    stored = [[nbformat.v4.new_output("stream", text=text)] for text in ("4.6 dB", "4.5 dB")]
    one, other = (mark("#| gpu\ntrain()", outputs=output) for output in stored)
    assert None is not one != other
    assert mark("#| gpu\ntrain()") is None


# --- what others are shown of a page --------------------------------------------------------------------------------


def test_descriptions_end_with_a_sentence_or_a_word():
    assert reader.shortened("One  line.\nTwo.") == "One line. Two."
    assert reader.shortened("Short. " + "long " * 60) == "Short."
    cut = reader.shortened("long, " * 60)
    assert len(cut) <= 202 and cut.endswith("long …")


@pytest.mark.parametrize("title", ["Ten genres from a seed", "A title " * 30])
@pytest.mark.parametrize("shape", [(30, 400), (400, 30), (300, 300)])
def test_cards_hold_title_text_and_picture(tmp_path, title, shape):
    from PIL import Image

    picture, out = tmp_path / "picture.png", tmp_path / "cards" / "card.png"
    framed = Image.new("RGB", (shape[1] + 200, shape[0] + 200), "white")
    framed.paste("#ff0000", (100, 100, 100 + shape[1], 100 + shape[0]))
    framed.save(picture)
    reader.draw_card(title, "How it works. " * 5, str(picture), out)
    seen = Image.open(out).convert("RGB")
    colours = {colour: n for n, colour in seen.getcolors(10_000)}
    red = sum(n for (r, g, b), n in colours.items() if r > 200 and g < 60 and b < 60)
    share = min(580 / shape[1], 510 / shape[0])
    assert seen.size == (1200, 630) and abs(red - shape[0] * shape[1] * share**2) < 0.03 * red + 2000
    text = seen.crop((0, 0, 530, 630)).getcolors(10_000)
    assert sum(n for n, colour in text if min(colour) > 120) > 1000, "title and text are written"


def test_a_line_of_a_card_is_never_too_long():
    lines = reader.wrapped("one two three antidisestablishmentarianism four", 9, len)
    assert lines == ["one two", "three", "antidisestablishmentarianism", "four"]


def test_places_of_widgets_say_what_stands_there():
    marker = '<script type="application/vnd.jupyter.widget-view+json">{"model_id": "%s", "version_major": 2}</script>'
    state = '<script type="x">{"state": {"a": {"state": {"_anywidget_id": "musevae.widgets.LatentMap"}}}}</script>'
    body = reader.with_places(f"<p>{marker % 'a'}</p>{marker % 'b'}", state)
    assert f'<p><div class="mv-place" data-widget="LatentMap">{marker % "a"}</div></p>' in body
    assert f'<div class="mv-place" data-widget="">{marker % "b"}</div>' in body


def test_the_room_of_players_has_a_box_for_each_and_their_words():
    marker = '<script type="application/vnd.jupyter.widget-view+json">{"model_id": "a"}</script>'
    model = {"_anywidget_id": "musevae.widgets.Players", "_css": ".mv {}", "titles": ["a < b", "c"], "durations": [2.0, 3.5]}
    state = f'<script type="x">{{"state": {{"a": {{"state": {json.dumps(model)}}}}}}}</script>'
    body = reader.with_places(marker * 2, state)
    assert body.count('class="mv-room') == 2 and body.count("<style>") == 1, "the look once, a room for each widget"
    assert body.count('class="mv-card"') == 4 and "a &lt; b" in body and "/ 3.5 s" in body


def test_pictures_say_how_large_they_are(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    files = {"x.png": tmp_path / "x.png"}
    assert reader.with_sizes('<img alt="a" src="../_images/x.png" />', files) == (
        '<img width="30" height="20" style="--mv-wide: 30px" alt="a" src="../_images/x.png" />')
    for other in ('<img src="../_images/y.png"/>', '<img width="5" src="../_images/x.png"/>'):
        assert reader.with_sizes(other, files) == other


def test_columns_of_words_are_marked_and_those_of_numbers_are_not():
    import pandas as pd

    table = pd.DataFrame({"nats": [-1234567.25], "why": ["silent: peak below"], "kept": [True]}, index=pd.Index([3], name="clip"))
    assert 'class="dataframe mv-words-2"' in reader.with_words_left(table.to_html())
    assert 'class="dataframe"' in reader.with_words_left(table[["nats", "kept"]].to_html())


# --- show_doc -----------------------------------------------------------------------------------------------------


def level(y, *, floor_db: float = -80.0, how="rms") -> float:
    """Level of a waveform, below full scale.

    >>> level([1.0])
    0.0

    Parameters
    ----------
    y : array of shape (samples,)
        Full scale ±1; `a | b`.
    floor_db : float
        Silence reads this.

    Returns
    -------
    float
        dB, at most 0.

    Raises
    ------
    ValueError
        If `y` is empty.
    """


SPEC = object()


def google(y, *args, spec=SPEC, **kw):
    """Look.

    Args:
        y (array of shape (n,)): a waveform,
            mono.
        **kw: passed on.

    Returns:
        float: how loud.

    Text after the sections.
    """


@dataclass
class Spec:
    n_fft: int = 2048  # samples in a frame
    names: tuple[str, ...] = ("a", "b")  # of bands


def rendered(symbol, **kw):
    return show_doc.BookRenderer(symbol, **kw)._repr_markdown_()


def test_show_doc_reads_numpy_sections():
    text = rendered(level)
    assert "{py:function} level(y, *, floor_db=-80.0, how='rms')\n" in text
    assert "```python\n>>> level([1.0])\n0.0\n```" in text
    assert "| `y` | `array of shape (samples,)` |  | Full scale ±1; `a \\| b`. |" in text
    assert "| `floor_db` | `float` | `-80.0` | Silence reads this. |" in text
    assert "**Returns** `float` dB, at most 0." in text
    assert "**Raises** `ValueError` If `y` is empty." in text
    assert "----" not in text.replace("|---|---|---|---|", "")


def test_show_doc_reads_google_sections():
    text = rendered(google)
    assert "{py:function} google(y, *args, spec=..., **kw)\n" in text
    assert "| `y` | `array of shape (n,)` |  | a waveform, mono. |" in text
    assert "| `kw` |  |  | passed on. |" in text
    assert "**Returns** `float` how loud." in text
    assert "Text after the sections." in text and "Args" not in text


def free(z):
    """Turn.

    Returns:
        `turn` of shape `(d, d)`, and the place of every unit,
        from 0 to 1, as `place`.

    Raises:
        ValueError: for none.
    """


def test_show_doc_leaves_a_sentence_about_what_is_returned_as_it_is():
    assert "**Returns** `turn` of shape `(d, d)`, and the place of every unit, from 0 to 1, as `place`.\n" in rendered(free)
    assert "**Raises** `ValueError` for none." in rendered(free)


def test_show_doc_reads_comments_and_dataclasses():
    text = rendered(Spec)
    assert "{py:class} Spec(n_fft=2048, names=('a', 'b'))\n" in text
    assert "| `n_fft` | `int` | `2048` | samples in a frame |" in text
    assert "Spec(n_fft: int" not in text


def test_show_doc_indexes_a_symbol_only_in_its_own_chapter():
    assert ":no-index:" in rendered(level)
    level.__module__, module = "__main__", level.__module__
    try:
        assert ":no-index:" not in rendered(level)
    finally:
        level.__module__ = module


@pytest.mark.parametrize("name, module", [("MelSpec", "mel"), ("load_corpus", "corpus"), ("split_clips", "corpus.split")])
def test_show_doc_finds_the_home_of_a_name_in_a_package(name, module):
    there = getattr(importlib.import_module(f"musevae.{module}"), name)
    mine = type(name, (), {"__module__": "__main__", "__doc__": there.__doc__})
    assert show_doc.home(mine, name) == f"musevae.{module}"


@pytest.mark.parametrize("module", ["runs", "cli"])  # both export a `train`
def test_show_doc_tells_two_symbols_of_one_name_apart(module):
    there = importlib.import_module(f"musevae.{module}").train

    def train():
        "What the notebook of that module defines."

    train.__doc__, train.__module__, train.__qualname__ = there.__doc__, "__main__", "train"
    assert f":module: musevae.{module}\n" in rendered(train)


# --- one truth ----------------------------------------------------------------------------------------------------


def settings():
    ini = ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return ini["DEFAULT"]


def config():
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def test_name_version_and_address_agree():
    ini, book = settings(), config()
    assert book["title"] == ini["title"] and book["author"] == ini["author"]
    assert book["repository"] == {"url": ini["git_url"], "branch": ini["branch"]}
    assert f'__version__ = "{ini["version"]}"' in (ROOT / "musevae" / "__init__.py").read_text()
    assert f"## {ini['version']}" in (ROOT / "CHANGELOG.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == ini["version"] and citation["repository-code"] == ini["git_url"]


def test_every_chapter_is_in_the_contents():
    listed = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
    there = [p.relative_to(ROOT).with_suffix("").as_posix()
             for p in (ROOT / "nbs").iterdir() if p.suffix in (".ipynb", ".md") and not p.name.startswith("_")]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("path", contents.lists(), ids=str)
def test_lists_of_chapters_are_those_of_the_contents(path):
    assert (ROOT / path).read_text(encoding="utf-8") == contents.lists()[path], "run `make prepare`"


def route():
    "The rows of the landing page's table of chapters, and all of its prose."
    cells = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return [row for row in prose.split("\n") if row.startswith("| [](")], prose


@pytest.mark.parametrize("page", [p for p in contents.chapters() if p.module], ids=lambda p: p.module)
def test_the_landing_page_names_every_chapter_and_its_module(page):
    rows, _ = route()
    here = [row for row in rows if f"[]({Path(page.file).name}.ipynb)" in row]
    assert len(here) == 1, f"{page.file}: expected one row of the route, got {len(here)}"
    assert f"`{page.module}`" in here[0]


def test_the_landing_page_says_which_chapter_is_not_there():
    there = {int(p.number) for p in contents.chapters() if p.number.isdigit()}
    missing = set(range(1, max(there))) - there
    assert {int(n) for n in re.findall(r"no chapter (\d+) yet", route()[1])} == missing


def test_a_chapter_that_is_not_named_is_seen(tmp_path):
    for path in [Path("_toc.yml"), *contents.lists()]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / path).read_text(encoding="utf-8")
        text = text.replace("file: nbs/05_elbo", "file: nbs/05_elbo\n      - file: nbs/08_new")
        (tmp_path / path).write_text(text, encoding="utf-8")
    (tmp_path / "nbs").mkdir(exist_ok=True)
    for page in (ROOT / "nbs").iterdir():
        if page.suffix in (".ipynb", ".md"):
            (tmp_path / "nbs" / page.name).symlink_to(page)
    (tmp_path / "nbs" / "08_new.ipynb").write_text(notebook("#| default_exp wing.new").replace(
        '"cells": [', '"cells": [{"cell_type": "markdown", "metadata": {}, "source": "# New: what, how?"},', 1))
    fresh = contents.lists(tmp_path)
    assert all(fresh[path] != (tmp_path / path).read_text(encoding="utf-8") for path in fresh)
    form = yaml.safe_load(fresh[contents.FORMS / "chapter.yml"])
    assert "8 New: what, how?" in form["body"][0]["attributes"]["options"]


def test_what_is_cited_is_in_the_references_and_the_other_way_round():
    known = set(re.findall(r"(?m)^@\w+\{([^,]+),", (ROOT / "nbs" / "references.bib").read_text(encoding="utf-8")))
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "nbs").iterdir() if p.suffix in (".ipynb", ".md"))
    cited = {key.strip() for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", pages) for key in keys.split(",")}
    assert cited == known, f"not cited: {sorted(known - cited)}; unknown: {sorted(cited - known)}"


def test_the_lock_holds_every_requirement_and_no_machine():
    lock = (ROOT / "constraints.txt").read_text()
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", lock))
    assert len(pins) == len(lock.splitlines()), "one exact pin a line, nothing else"
    assert not any("+" in version for version in pins.values()), "local builds (+cpu) exist on one machine only"
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for text in (settings()["requirements"] + " " + settings()["dev_requirements"]).split():
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)], prereleases=True), text
