"What the build does to a page: folds the library's code, wraps lines, links terms, hands out demonstrations."

import io
import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from PIL import Image
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "nbs" / "_book"))

import apparatus  # noqa: E402
import folding  # noqa: E402
import handouts  # noqa: E402

LIBRARY = '''
def level(y: np.ndarray, *, floor_db: float = -80.0) -> float:
    """Level of a waveform.

    Args:
        y: full scale ±1.
        floor_db: silence reads this.
    """
    return max(floor_db, 20 * np.log10(np.abs(y).max()))
'''
CLASS = '''
@dataclass
class Meter(Base, size=3):
    """Reads levels.

    Attributes:
        gain: dB.
    """

    gain: float = 0.0

    def read(self):
        return 0

    def _hidden(self):
        return 1
'''


@pytest.mark.parametrize("code, exported, short", [
    (LIBRARY, True, ["def level(y: np.ndarray, *, floor_db: float=-80.0) -> float:", '    "Level of a waveform."']),
    (CLASS, True, ["class Meter(Base, size=3):", '    "Reads levels."', "    # read"]),
    (LIBRARY.replace("    Args:\n", ""), False, []),  # a lesson's short code stands open
    ("X = 1\nY = 2", True, []),  # nothing is saved
    ("X = dict(\n    a=1,\n    b=2,\n    c=3,\n)  # units", True, ["X = dict( …"]),
    ("import numpy as np\nfrom pathlib import Path", True, ["# imports: numpy, pathlib"]),
    ("import a\nimport b\nimport c\nimport d\n\nx = a.f(\n    1)", False, ["# imports: a, b, c, d", "x = a.f(", "    1)"]),
    ("x = 1\n" + LIBRARY.strip() + "\n    a\n\nlevel(0)", False,
     ["x = 1", "def level(y: np.ndarray, *, floor_db: float=-80.0) -> float:", '    "Level of a waveform."', "", "level(0)"]),
    ("import a\nx = 1\nimport b\n", False, []),
    ("%matplotlib inline\nimport a", False, []),
])
def test_what_is_shown_of_code(code, exported, short):
    assert folding.abstract(code, exported) == short


def test_a_list_of_names_alone_is_left_out():
    assert folding.only_names('_all_ = ["a", "b"]') and not folding.only_names("names = 1") and not folding.only_names("%magic")


def test_a_long_cell_shows_its_claims():
    work = "\n".join(f"x{k} = {k}" for k in range(20))
    assert folding.abstract(f"{work}\nassert x1 == 1, (\n    x1)\nx2 = 3\nx1", False) == [
        "# …", "assert x1 == 1, (", "    x1)", "# …", "x1"]
    assert folding.abstract(work, False, most=30) == []


def test_a_long_signature_is_shown_without_its_types():
    code = "def f(" + ", ".join(f"argument_{k}: torch.Tensor | np.ndarray = None" for k in range(4)) + "):\n" + "    x\n" * 9
    shown, = folding.abstract(code, True)
    assert "Tensor" not in shown and all(f"argument_{k}=None" in shown for k in range(4))


def test_every_line_of_code_is_a_block_and_the_text_stays():
    from pygments import highlight

    page = highlight(LIBRARY, PythonLexer(stripnl=False), folding.LinedFormatter())
    text = re.sub(r"<[^>]+>", "", page)
    assert text.strip("\n").replace("&#39;", "'").replace("&quot;", '"').replace("&gt;", ">") == LIBRARY.strip("\n")
    written = [line for line in LIBRARY.split("\n") if line.strip()]
    assert page.count('class="mv-line"') == len(written)
    assert page.count("--in:4ch") == sum(line.startswith("    ") and line[4] != " " for line in written)


TERMS = {name: ("", "") for name in ("rate", "sample rate", "ELBO", "window", "clip", "posterior collapse")}


@pytest.mark.parametrize("text, found", [
    ("A rate of 5 nats", ["rate"]),
    ("the sample rate and the learning rate", ["sample rate"]),
    ("The ELBO, not an elbo", ["ELBO"]),
    ("Windows and clips", ["window", "clip"]),
    ("a Hann window; to clip it", []),
    ("noise-rate, rates-of", []),
    ("posterior\ncollapse", ["posterior collapse"]),
])
def test_terms_are_told_from_other_words(text, found):
    hits = (apparatus.term_at(match, TERMS) for match in apparatus.pattern_of(TERMS).finditer(text))
    assert [term for term in hits if term] == found


def test_everyday_words_are_terms_of_the_glossary():
    terms = re.findall(r"(?m)^(\S[^\n]*)\n  \S", (ROOT / "nbs" / "glossary.md").read_text(encoding="utf-8"))
    assert apparatus.EVERYDAY | set(apparatus.OTHERS) | set(apparatus.ONLY) <= set(terms)


def chapters():
    return {path.stem for path in (ROOT / "nbs").glob("*.ipynb") if apparatus.number_of(path.stem)}


def test_what_chapters_need_is_there_and_comes_before():
    table = yaml.safe_load((ROOT / "nbs" / "_book" / "needs.yml").read_text(encoding="utf-8"))
    there = chapters()
    assert set(table) | {name for needed in table.values() for name in needed} <= there
    known = {f"nbs/{name}" for name in there}
    for name in there:  # nothing needs itself, however far back
        todo, seen = apparatus.needs(f"nbs/{name}", known), set()
        while todo:
            doc = todo.pop()
            assert doc != f"nbs/{name}", f"{name} needs itself"
            if doc not in seen:
                seen.add(doc)
                todo += apparatus.needs(doc, known)
    workshops = {name for name in there - set(table) if apparatus.needs(f"nbs/{name}", known) == []}
    assert workshops == set(), "neither listed in needs.yml nor a workshop of a chapter"


@pytest.mark.parametrize("name", handouts.listed())
def test_a_handout_says_what_it_is_in_a_line_and_fits_its_card(name):
    about = handouts.listed()[name]
    assert set(about) == {"title", "line", "before", "after"} and all(text.strip() for text in about.values())
    assert len(about["line"]) < 100 and len(about["before"]) < 260, "a messenger cuts what is longer"


def test_every_handout_has_cells_and_every_marked_cell_a_handout():
    marked = {}
    for name in chapters():
        for cell in nbformat.read(ROOT / "nbs" / f"{name}.ipynb", as_version=4).cells:
            for handout in re.findall(r"(?m)^#\|\s*handout: (\S+)$", cell.source):
                marked.setdefault(handout, set()).add(name)
    assert {handout: len(names) for handout, names in marked.items()} == dict.fromkeys(handouts.listed(), 1)


# --- numbers of figures -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    "A book of two chapters and a page that is none, with a captioned figure or two each: its pages and its warnings."
    from sphinx.application import Sphinx

    there, built, warnings = tmp_path_factory.mktemp("book"), tmp_path_factory.mktemp("built"), io.StringIO()
    figure = "\n.. figure:: a.png\n   :name: {}\n   :alt: A.\n\n   Caption of {}.\n"
    pages = {"index": ".. toctree::\n\n   05_one\n   06a_two\n" + figure.format("fig-front", "front"),
             "05_one": figure.format("fig-a", "a") + figure.format("fig-b", "b") + "\nSee :numref:`fig-b` and :numref:`fig-c`.\n",
             "06a_two": "\n.. image:: a.png\n   :alt: A.\n" + figure.format("fig-c", "c") + "\nSee :numref:`fig-nowhere`.\n"}
    for name, text in pages.items():
        (there / f"{name}.rst").write_text(f"{name}\n{'=' * len(name)}\n\n{text}")
    Image.new("RGB", (4, 4)).save(there / "a.png")
    (there / "conf.py").write_text("")
    extensions = {"extensions": ["apparatus"], "html_theme": "basic"}
    Sphinx(there, there, built, built / ".doctrees", "html", extensions, status=None, warning=warnings).build()
    return {name: (built / f"{name}.html").read_text() for name in pages}, warnings.getvalue()


def test_figures_are_numbered_by_chapter(figures):
    pages, _ = figures
    numbers = {name: re.findall(r'caption-number">([^<]+)</span>\s*Caption of (\w+)', text) for name, text in pages.items()}
    assert numbers == {"index": [], "05_one": [("Figure 5.1", "a"), ("Figure 5.2", "b")], "06a_two": [("Figure 6a.1", "c")]}


def test_references_to_figures_are_their_numbers_and_lead_to_them(figures):
    pages, warnings = figures
    links = re.findall(r'<a class="reference internal" href="([^"]*fig-\w+)"[^>]*>(Figure[^<]*)</a>', pages["05_one"])
    assert links == [("#fig-b", "Figure 5.2"), ("06a_two.html#fig-c", "Figure 6a.1")]
    assert 'id="fig-b"' in pages["05_one"] and 'id="fig-c"' in pages["06a_two"]
    assert "undefined label: 'fig-nowhere'" in warnings
