"""Each gate of `make test` stops what it is there to stop.

A tiny project with our Makefile, configuration and book plumbing passes every gate; then one fault is planted, and the
gate's own command must fail and say why.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from pagecheck import visit

ROOT = Path(__file__).resolve().parents[1]
VENV = Path(sys.prefix)

CHAPTER = [
    ("markdown", "# A chapter\n> Its subtitle is the module's docstring."),
    ("code", "#| default_exp mini"),
    ("code", "#| export\ndef double(x):\n    \"Twice `x`.\"\n    return 2 * x"),
    ("code", "assert double(2) == 4"),
    ("code", "#| hide\nimport nbdev; nbdev.nbdev_export()"),
]


def write(path, cells):
    made = [getattr(nbformat.v4, f"new_{kind}_cell")(source, id=f"cell{i}") for i, (kind, source) in enumerate(cells)]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), path)


def git(project, *args):
    names = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    return subprocess.run(["git", *names, *args], cwd=project, check=True, capture_output=True)


def make(project, target):
    "Run a gate: the Makefile's own target, in the environment that runs this test, with the data already made."
    command = ["make", "--no-print-directory", "-o", f"{VENV}/.ready", "-o", "data", target, f"VENV={VENV}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, "MAKEFLAGS": ""})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    "The tiny project: exported, clean, committed."
    project = tmp_path_factory.mktemp("clean") / "mini"
    (project / "nbs").mkdir(parents=True)
    for name in ("Makefile", "settings.ini", "pyproject.toml", "_config.yml"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "nbs" / "_book", project / "nbs" / "_book", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "musevae" / "static").mkdir(parents=True)
    shutil.copy(ROOT / "musevae" / "static" / "mount.js", project / "musevae" / "static")
    parts = "parts:\n  - caption: All\n    chapters:\n      - file: nbs/00_mini\n"
    (project / "_toc.yml").write_text(f"format: jb-book\nroot: nbs/index\n{parts}")
    (project / "nbs" / "index.md").write_text("# Front\n\n```{bibliography}\n```\n")
    (project / "nbs" / "references.bib").write_text("")
    (project / ".gitignore").write_text("_build/\n__pycache__/\n.ruff_cache/\n")
    write(project / "nbs" / "00_mini.ipynb", CHAPTER)
    git(project, "init", "-q")
    assert make(project, "prepare")[0] == 0
    git(project, "add", "-A")
    git(project, "commit", "-qm", "mini")
    return project


@pytest.fixture
def project(clean, tmp_path):
    "A copy to spoil."
    return Path(shutil.copytree(clean, tmp_path / "mini"))


def test_the_clean_project_passes(project, browser):
    for gate in ("lint", "sync", "notebooks", "book"):
        code, said = make(project, gate)
        assert code == 0, f"{gate}: {said}"
    closing = [line for line in said.splitlines() if line.startswith("The book: ")]  # a library may mutter at exit
    assert len(closing) == 1 and closing[0].endswith("_build/html/index.html") and closing[0] in said.splitlines()[-3:]
    page = project / "_build" / "html" / "nbs" / "00_mini.html"
    with visit(browser, page) as seen:
        assert seen.complaints == []
    # The page gate: one request to another machine.
    page.write_text(page.read_text().replace("</body>", '<img src="http://example.org/pixel.png" alt="far"></body>'))
    with visit(browser, page) as seen:
        assert [c for c in seen.complaints if c.startswith("not local: http://example.org/pixel.png")]
    page.write_text(page.read_text().replace("</body>", "<script>null.play()</script></body>"))
    with visit(browser, page) as seen:
        assert [c for c in seen.complaints if c.startswith("uncaught: ")]


def test_lint_stops_an_unused_import(project):
    (project / "musevae" / "mini.py").write_text("import os\n")
    code, said = make(project, "lint")
    assert code != 0 and "F401" in said


def test_lint_stops_a_wrong_type(project):
    (project / "musevae" / "mini.py").write_text('def double(x: int) -> int:\n    return f"{x}{x}"\n')
    code, said = make(project, "lint")
    assert code != 0 and "Incompatible return value type" in said


def test_lint_stops_an_undefined_name_in_a_chapter(project):
    write(project / "nbs" / "00_mini.ipynb", [*CHAPTER, ("code", "undefined_thing + 1")])
    code, said = make(project, "lint")
    assert code != 0 and "F821" in said


def test_sync_stops_a_module_edited_by_hand(project):
    module = project / "musevae" / "mini.py"
    module.write_text(module.read_text().replace("2 * x", "x + x"))
    git(project, "commit", "-qam", "by hand")
    code, said = make(project, "sync")
    assert code != 0 and "musevae/mini.py" in said and "make prepare" in said


def test_sync_stops_a_notebook_with_outputs(project):
    path = project / "nbs" / "00_mini.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[3].outputs = [nbformat.v4.new_output("stream", text="left over")]
    nbformat.write(nb, path)
    git(project, "commit", "-qam", "dirty")
    code, said = make(project, "sync")
    assert code != 0 and "00_mini.ipynb" in said


def test_sync_stops_a_module_that_git_does_not_hold(project):
    git(project, "rm", "-q", "--cached", "musevae/mini.py")
    git(project, "commit", "-qm", "forgotten")
    code, said = make(project, "sync")
    assert code != 0 and "musevae/mini.py" in said


def test_notebooks_stop_a_failing_cell(project):
    write(project / "nbs" / "00_mini.ipynb", [*CHAPTER, ("code", "assert double(2) == 5")])
    code, said = make(project, "notebooks")
    assert code != 0 and "AssertionError" in said and "00_mini" in said


def test_the_book_stops_a_failing_cell(project):
    write(project / "nbs" / "00_mini.ipynb", [*CHAPTER, ("code", "raise RuntimeError('no sound')")])
    code, said = make(project, "book")
    assert code != 0 and "no sound" in said


def test_the_book_stops_a_warning_every_time(project):
    write(project / "nbs" / "00_mini.ipynb", [*CHAPTER, ("markdown", "See [nowhere](nowhere.md).")])
    for _ in range(2):  # a second try must not pass because Sphinx remembers the page
        code, said = make(project, "book")
        assert code != 0 and "nowhere" in said
