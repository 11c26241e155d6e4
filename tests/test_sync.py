"The package is what the notebooks export; notebooks are committed clean."

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
BY_HAND = {"__main__.py", "files.py", "networks.py"}  # a few lines, for `python -m musevae` and for an address that has moved
MODULES = sorted(p for p in (ROOT / "musevae").rglob("*.py")
                 if p.relative_to(ROOT / "musevae").as_posix() not in BY_HAND | {"_modidx.py"})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    "The package as the notebooks export it, from nothing."
    fresh = tmp_path_factory.mktemp("fresh")
    shutil.copy(ROOT / "settings.ini", fresh)
    shutil.copytree(ROOT / "nbs", fresh / "nbs", ignore=shutil.ignore_patterns("_*", "results"))
    (fresh / "musevae").mkdir()
    shutil.copy(ROOT / "musevae" / "__init__.py", fresh / "musevae")
    subprocess.run([Path(sys.executable).with_name("nbdev_export")], cwd=fresh, check=True)
    return fresh / "musevae"


def test_every_module_comes_from_a_notebook(exported):
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*.py")}
    assert {path.relative_to(ROOT / "musevae").as_posix() for path in MODULES} | {"_modidx.py"} == names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT / "musevae").as_posix())
def test_module_is_current(path, exported):
    new = exported / path.relative_to(ROOT / "musevae")
    assert path.read_text() == new.read_text(), "run `make prepare`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_clean(path):
    nb = json.loads(path.read_text())
    assert set(nb["metadata"]) <= {"kernelspec"}
    for cell in nb["cells"]:
        assert not cell["metadata"]
        if cell["cell_type"] == "code":
            stored = re.search(r"(?m)^#\s*\|\s*(gpu|eval:\s*false)\s*$", "".join(cell["source"]))
            assert cell["execution_count"] is None and (stored or not cell["outputs"])


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem != "index"], ids=lambda p: p.stem)  # not the landing page
def test_chapter_opens_with_a_title_and_a_subtitle(path):
    first = "".join(json.loads(path.read_text())["cells"][0]["source"])
    assert re.match(r"# \S.*\n+> \S.*", first), "a chapter opens with `# Title` and `> one-line subtitle.`"
