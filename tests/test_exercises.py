"""Every chapter of the way ends with exercises: three levels, one by ear, answers folded, two weekends with a sketch."""
import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted(p for p in (ROOT / "nbs").glob("*.ipynb") if re.match(r"(0\d|1[01])_", p.name))
KINDS = {"pencil", "cell", "by ear", "weekend"}
MARK = re.compile(r"^\*\*(\d+), ([a-z ]+)\.\*\* ", re.M)
DROPDOWN = re.compile(r"^:::\{dropdown\} ([^\n]+)\n(.*?)^:::$", re.M | re.S)
SHOWN = re.compile(r"\b(Players?|Compare|Morph|listen)\(")  # what is to be heard need not be folded


def cells(path):
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text("utf8"))["cells"]]


def exercises(pairs):
    "The exercises among a notebook's cells: number, kinds, and the pieces of each, `(cell_type, text)`."
    found, on = [], False
    for kind, text in pairs:
        if kind == "code":
            if on and found:
                found[-1][2].append((kind, text))
            continue
        if "## Exercises\n" in text:
            on, text = True, text.split("## Exercises\n")[1]
        if not on:
            continue
        end = re.search(r"^(## |Next: |Next |\[Workshop|This is the end)", text, re.M)
        text, on = (text[: end.start()], False) if end else (text, True)
        parts = MARK.split(text)
        if parts[0].strip() and found:
            found[-1][2].append((kind, parts[0]))
        found += [(int(n), set(k.split(" and ")), [(kind, t)]) for n, k, t in zip(*[iter(parts[1:])] * 3, strict=True)]
    return found


def faults(pairs, known):
    "What a chapter's exercises lack, a line each; `known`: the words that its sketches may use as names."
    found = exercises(pairs)
    kinds = [kind for _, kinds, _ in found for kind in kinds]
    if [n for n, *_ in found] != list(range(1, len(found) + 1)):
        yield f"numbers are {[n for n, *_ in found]}"
    yield from (f"none is {kind}" for kind in sorted(KINDS - set(kinds)))
    yield from (f"what is {kind}?" for kind in sorted(set(kinds) - KINDS))
    if kinds.count("weekend") < 2:
        yield f"{kinds.count('weekend')} weekends, expected two"
    for n, kinds, pieces in found:
        prose = "\n".join(text for kind, text in pieces if kind == "markdown")
        codes = [text for kind, text in pieces if kind == "code"]
        folds = dict(DROPDOWN.findall(prose))
        open_ = DROPDOWN.sub("", prose)
        if "weekend" in kinds and "A sketch" not in folds:
            yield f"{n}: a weekend without a sketch"
        if not (folds or codes):
            yield f"{n}: no answer"
        if re.search(r"^\*[^*]", open_, re.M):
            yield f"{n}: words of the answer in plain view"
        for code in codes:
            if not code.startswith("#| answer") and not (code.startswith("#| code-fold: true") and SHOWN.search(code)):
                yield f"{n}: an answer's code or output in plain view: {code[:40]!r}"
        if "weekend" in kinds:
            for span in re.findall(r"`([^`]+)`", re.sub(r"\{\w+\}`[^`]*`", "", prose)):
                yield from (f"{n}: {name} is no name of the library or of this chapter" for name in names(span) - known)


def names(span):
    "The names in a span of code, without its strings and shell options."
    span = re.sub(r"\"[^\"]*\"|--\S+", "", span)
    return {w for w in re.findall(r"[A-Za-z_]\w+", span) if w not in ("True", "False", "None")}


def defined(source):
    "Every name in a piece of Python: what is defined, bound, taken as an argument, or called."
    found = set(re.findall(r"\w+", " ".join(re.findall(r"musevae[\w.]*", source))))
    for node in ast.walk(ast.parse(source)):
        found |= {getattr(node, key) for key in ("name", "id", "attr", "arg") if isinstance(getattr(node, key, None), str)}
    return found


LIBRARY = {"musevae"}.union(*(defined(p.read_text("utf8")) | {p.stem} for p in (ROOT / "musevae").rglob("*.py")))


def words(pairs):
    "The names that a chapter's sketches may use."
    code = [re.sub(r"^[%!].*$", "", text, flags=re.M) for kind, text in pairs if kind == "code"]
    presets = set(re.findall(r"\"(\w+)\"", (ROOT / "musevae" / "presets.py").read_text("utf8")))
    return LIBRARY.union(presets, *map(defined, code))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_exercises_have_three_levels_an_ear_and_two_weekends(path):
    pairs = cells(path)
    assert not list(faults(pairs, words(pairs)))


def test_there_are_twelve_chapters():
    assert [int(p.name[:2]) for p in CHAPTERS] == list(range(12))


GOOD = [("markdown", "## Exercises\n\n**1, pencil and cell.** Why?\n\n"
         ":::{dropdown} Answer\nSo.\n:::\n\n**2, by ear.** What?"),
        ("code", "#| code-fold: true\nPlayers(y)"),
        ("markdown", "**3, weekend.** A.\n\n:::{dropdown} A sketch\n`fit(x)`\n:::\n\n"
         "**4, weekend.** B.\n\n:::{dropdown} A sketch\nGo.\n:::")]


@pytest.mark.parametrize("old, new, fault", [
    ("**4, weekend.** B.", "B.", "1 weekends, expected two"),
    ("2, by ear", "2, cell", "none is by ear"),
    ("pencil and cell", "cell", "none is pencil"),
    ("pencil and cell", "pencil and by hand", "what is by hand?"),
    (":::{dropdown} Answer\nSo.\n:::", "", "1: no answer"),
    (":::{dropdown} Answer\nSo.\n:::", "*So.*", "1: words of the answer in plain view"),
    ("Players(y)", "print(y)", "2: an answer's code or output in plain view: '#| code-fold: true\\nprint(y)'"),
    ("Go.", "`fly(x)`", "4: fly is no name of the library or of this chapter"),
    ("A sketch\nGo.", "Answer\nGo.", "4: a weekend without a sketch"),
    ("**4, ", "**5, ", "numbers are [1, 2, 3, 5]"),
])
def test_what_is_missing_is_seen(old, new, fault):
    known = {"fit", "x"}
    assert not list(faults(GOOD, known))
    assert fault in list(faults([(kind, text.replace(old, new)) for kind, text in GOOD], known))
