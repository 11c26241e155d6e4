"""Lists of chapters that stand in more than one file, made from `_toc.yml` and the notebooks: README and the issue forms.

    python nbs/_book/contents.py        writes what has changed (`make prepare` calls it; tests/test_book.py compares)
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FORMS = Path(".github") / "ISSUE_TEMPLATE"


@dataclass(frozen=True)
class Chapter:
    "One page of the book: its part, file, title, the module it exports (or nothing), and its number: 1, 3a, A2a, or nothing."

    part: str
    file: str
    title: str
    module: str = ""

    @property
    def number(self) -> str:
        found = re.match(r"0?(\d+[a-z]?|[A-Z]\d+[a-z]?)_", Path(self.file).name)
        return found[1] if found else ""


def _title_and_module(root: Path, file: str) -> tuple[str, str]:
    "The first heading of a page, and what its notebook exports."
    page = root / f"{file}.ipynb"
    if not page.exists():
        return re.search(r"(?m)^# (.+)$", (root / f"{file}.md").read_text(encoding="utf-8"))[1], ""
    sources = ["".join(cell["source"]) for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]]
    module = re.search(r"(?m)^#\|\s*default_exp (\S+)", "\n".join(sources))
    return re.match(r"# (.+)", sources[0])[1], module[1].removesuffix(".__init__") if module else ""


def chapters(root: Path = ROOT) -> list[Chapter]:
    "Every page but the first, in the order of `_toc.yml`."
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    listed = [(part["caption"], entry["file"]) for part in parts for entry in part["chapters"]]
    return [Chapter(part, file, *_title_and_module(root, file)) for part, file in listed]


def _readme(pages: list[Chapter]) -> str:
    "A line a part: its modules, each with its chapter."
    lines = []
    for part in dict.fromkeys(page.part for page in pages):
        links = [f"[{p.module}]({p.file}.ipynb)" for p in pages if p.part == part and p.module]
        lines += [f"- *{part}*: {', '.join(links)}"] if links else []
    return "\n".join(lines) + "\n"


def _options(names: list[str]) -> str:
    "Options of a dropdown; quoted as JSON where YAML would not read a plain name."
    return "".join(f"        - {name if re.fullmatch(r'[^:#,?]+', name) else json.dumps(name)}\n" for name in names)


def lists(root: Path = ROOT) -> dict[Path, str]:
    "What each file that holds a list of chapters, and is there, should be, whole."
    pages = chapters(root)
    named = [f"{p.number} {p.title}" for p in pages if p.number]
    rest = ", ".join(p.title for p in pages if not p.number)
    modules = [p.module for p in pages if p.module]
    made = [
        (Path("README.md"), r"(<!-- chapters: [^\n]*-->\n\n).*?(\n<!-- end -->)", _readme(pages)),
        (FORMS / "chapter.yml", r"(      options:\n)(?:        - .*\n)+()", _options(["Landing page", *named, rest])),
        (FORMS / "library.yml", r"(      options:\n)(?:        - .*\n)+()", _options(modules)),
    ]
    found = {}
    for path, pattern, text in made:
        if not (root / path).exists():
            continue
        old = (root / path).read_text(encoding="utf-8")
        flags = re.S if path.suffix == ".md" else re.NOFLAG
        found[path], n = re.subn(pattern, lambda m, text=text: f"{m[1]}{text}{m[2]}", old, flags=flags)
        if n != 1:
            raise SystemExit(f"{path}: expected one place for the list of chapters, got {n}")
    return found


def main() -> None:
    for path, text in lists().items():
        if (ROOT / path).read_text(encoding="utf-8") != text:
            (ROOT / path).write_text(text, encoding="utf-8")
            print(f"list of chapters: {path}")


if __name__ == "__main__":
    main()
