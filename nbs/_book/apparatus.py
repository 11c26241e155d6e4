"""Sphinx extension: what stands around a chapter's text, made while the book is built.

Under the title of a chapter: how long it takes, what it builds on (`needs.yml`), where words and symbols are explained,
and what there is to hear. In its text: a number beside each displayed equation and before each caption, and a link to
the glossary where one of its terms first falls.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

HERE = Path(__file__).resolve().parent
GLOSSARY, NOTATION = "nbs/glossary", "nbs/notation"
VIEW = re.compile(r'<script type="application/vnd\.jupyter\.widget-view\+json">(.*?)</script>', re.DOTALL)

# A reader's pace, for the minutes of a chapter.
WORDS, LINES, EQUATION, SOUND = 200, 30, 0.4, 0.15  # words and lines of code a minute; minutes an equation, a sound

# Terms that are everyday words as well: only a reader of the sentence could tell.
EVERYDAY = {"s", "D", "noise", "scale", "interval", "chance", "track", "run", "density", "fault", "frame", "beta", "unit", "bin",
            "place", "grain", "oracle", "convolution", "gain", "contrast", "layout"}
# words before a term that make it another word
OTHERS = {"rate": "sample learning frame error bit", "window": "hann sliding", "clip": "to"}

# Chapters, with their workshops, in which alone a term is the glossary's.
ONLY = {"rate": "0 4 5 6 7 8 10", "phase": "3 10 11", "pulse": "4 5 7 9 10"}


def number_of(docname: str) -> str:
    "A chapter's number, as its file name carries it: 1, 3a, A2a, or nothing."
    found = re.match(r"0?(\d+[a-z]?|[A-Z]\d+[a-z]?)_", Path(docname).name)
    return found[1] if found else ""


def within(node, *kinds) -> bool:
    "Does `node` stand inside a node of one of these kinds?"
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def in_cell(node) -> bool:
    "Does `node` stand in a code cell, in its code or in its outputs?"
    while node.parent is not None:
        node = node.parent
        if node.get("nb_element", "").startswith("cell_code"):
            return True
    return False


# --- equations --------------------------------------------------------------------------------------------------------


def number_equations(app, doctree):
    "Chapter and count beside each displayed equation, and an address: (5.3) is `05_elbo.html#eq-3`."
    chapter = number_of(app.env.docname)
    equations = app.env.get_domain("math").equations
    prose = [node for node in doctree.findall(nodes.math_block) if not node.get("nowrap") and not in_cell(node)]
    for k, node in enumerate(prose if chapter else [], 1):
        node["number"] = f"{chapter}.{k}"
        node["ids"] = [f"eq-{k}", *node["ids"]]
        if node.get("label") in equations:
            equations[node["label"]] = (app.env.docname, node["number"])


# --- figures ----------------------------------------------------------------------------------------------------------


def number_figures(app, doctree):
    "Chapter and count before each caption: Figure 5.3. Sphinx's own numbers know sections, and no chapters of this book."
    chapter = number_of(app.env.docname)
    figures = list(doctree.findall(nodes.figure))
    captions = [(figure, node) for figure in figures for node in figure if isinstance(node, nodes.caption)]
    numbers = app.env.metadata[app.env.docname].setdefault("figures", {})
    for k, (figure, caption) in enumerate(captions if chapter else [], 1):
        number = f"Figure {chapter}.{k}"
        caption.insert(0, nodes.inline("", number, classes=["caption-number"]))
        caption.insert(1, nodes.Text("\N{NO-BREAK SPACE} "))
        numbers |= dict.fromkeys(figure["names"], number)


class FigureReferences(SphinxPostTransform):
    "``{numref}`` to a figure of any chapter: its number, and a link. What names no figure is left to Sphinx, which warns."

    default_priority = 5  # before Sphinx resolves references

    def run(self, **kwargs):
        known = {name: (doc, number) for doc, about in self.env.metadata.items()
                 for name, number in about.get("figures", {}).items()}
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") == "numref" and node["reftarget"] in known:
                doc, number = known[node["reftarget"]]
                uri = self.app.builder.get_relative_uri(self.env.docname, doc)
                refuri = f"{uri if doc != self.env.docname else ''}#{nodes.make_id(node['reftarget'])}"
                node.replace_self(nodes.reference("", number, internal=True, refuri=refuri))


# --- terms ------------------------------------------------------------------------------------------------------------


def glossary(app) -> dict[str, tuple[str, str]]:
    "Anchor and beginning of the definition of each term that can be told from an everyday word."
    if not hasattr(app.env, "mv_terms"):
        objects = app.env.get_domain("std").objects
        labels = {name: label for (kind, name), (doc, label) in objects.items() if kind == "term" and doc == GLOSSARY}
        said = {}
        for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
            meant = next(item.findall(nodes.definition)).astext().replace("\n", " ")
            said |= {term.astext().split("\n")[0]: meant for term in item.findall(nodes.term)}
        app.env.mv_terms = {name: (label, said.get(name, "")) for name, label in labels.items() if name not in EVERYDAY}
    return app.env.mv_terms


def pattern_of(terms) -> re.Pattern:
    "Any of `terms`, the longest first, as a word of its own, in the plural or not."
    words = "|".join(re.escape(term).replace(r"\ ", r"\s+") for term in sorted(terms, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])({words})(?:e?s)?(?![\w-])", re.IGNORECASE)


def term_at(match: re.Match, terms: dict[str, tuple]) -> str | None:
    "The term that is meant by a match, or None: capitals must agree where the term has any, and the word before must fit."
    found = re.sub(r"\s+", " ", match[1])
    term = next((t for t in terms if t == found), None) or next((t for t in terms if t.lower() == found.lower()), None)
    if term is None or (term != term.lower() and found != term):
        return None
    before = match.string[:match.start()].split()
    return None if before and before[-1].strip(".,;:()").lower() in OTHERS.get(term, "").split() else term


def link_terms(app, doctree, docname):
    "In the prose of a chapter: where a term of the glossary first falls, a link."
    if not number_of(docname) or app.builder.format != "html" or GLOSSARY not in app.env.found_docs:
        return
    chapter = re.match(r"\w?\d+", number_of(docname))[0]
    terms = {name: known for name, known in glossary(app).items() if chapter in ONLY.get(name, chapter).split()}
    met = set()
    pattern = pattern_of(terms)
    page = app.builder.get_relative_uri(docname, GLOSSARY)
    skipped = (nodes.title, nodes.literal, nodes.literal_block, nodes.reference, nodes.math, nodes.math_block, nodes.raw,
               nodes.caption, nodes.term, nodes.table, nodes.emphasis, nodes.strong, nodes.inline, nodes.block_quote)
    for text in list(doctree.findall(nodes.Text)):
        if not within(text, nodes.paragraph) or within(text, *skipped) or in_cell(text):
            continue
        parts, at = [], 0
        for match in pattern.finditer(text):
            term = term_at(match, terms)
            if term is None or term in met:
                continue
            met.add(term)
            label, meaning = terms[term]
            link = nodes.reference("", match[0], internal=True, refuri=f"{page}#{label}", classes=["mv-term"])
            link["reftitle"] = meaning if len(meaning) < 160 else meaning[:160].rpartition(" ")[0] + " …"
            parts += [nodes.Text(text[at:match.start()]), link]
            at = match.end()
        if parts:
            parent, index = text.parent, text.parent.index(text)
            parent[index:index + 1] = [part for part in (*parts, nodes.Text(text[at:])) if part.astext()]


# --- what a chapter needs, takes and plays ----------------------------------------------------------------------------


def needs(docname: str, known: set[str]) -> list[str]:
    "The documents that `docname` builds on."
    table = yaml.safe_load((HERE / "needs.yml").read_text(encoding="utf-8"))
    folder, _, name = docname.rpartition("/")
    if name in table:
        return [f"{folder}/{other}" for other in table[name]]
    chapter = re.match(r"\w?\d+", number_of(docname))[0]
    return sorted(doc for doc in known if number_of(doc) == chapter and doc != docname)


def models(app, docname: str) -> dict[str, dict]:
    "The widgets' models that a page carries, by id."
    files = getattr(app.env, "nb_metadata", {}).get(docname, {}).get("js_files", {})
    return json.loads(files["ipywidgets_state"][1]["body"])["state"] if "ipywidgets_state" in files else {}


def sounds(app, doctree, docname) -> list[tuple[nodes.Element, int]]:
    "Section and number of sounds of each player, in order."
    known, found = models(app, docname), []
    for raw in doctree.findall(nodes.raw):
        text = raw.astext()
        n = text.count("<audio")
        for view in VIEW.findall(text):
            state = known.get(json.loads(view)["model_id"], {}).get("state", {})
            n += sum(len(value) for key, value in state.items() if key.endswith("sounds_end"))
        section = raw
        while section is not None and not isinstance(section, nodes.section):
            section = section.parent
        if n and section is not None:
            found.append((section, n))
    return found


def minutes(doctree, heard: int) -> int:
    "How long a chapter takes to read, to the next five minutes."
    prose = sum(len(p.astext().split()) for p in doctree.findall(nodes.paragraph) if not in_cell(p))
    equations = sum(not in_cell(node) for node in doctree.findall(nodes.math_block))
    open_lines = sum(code.astext().count("\n") + 1 for code in doctree.findall(nodes.literal_block)
                     if code.parent.get("nb_element") == "cell_code_source" and type(code.parent.parent).__name__ == "container")
    return 5 * max(1, math.ceil((prose / WORDS + open_lines / LINES + EQUATION * equations + SOUND * min(heard, 40)) / 5))


def facts(app, doctree, docname):
    "Under the title: minutes, what the chapter builds on, where its words are explained, and what there is to hear."
    if not number_of(docname) or app.builder.format != "html":
        return
    env, uri = app.env, lambda doc: app.builder.get_relative_uri(docname, doc)

    def link(text, to):
        return nodes.reference("", text, internal=True, refuri=to)

    def joined(lead, links):
        for k, one in enumerate(links):
            yield nodes.Text(lead if not k else ", ")
            yield one

    section = next(iter(doctree.findall(nodes.section)), None)
    if section is None:
        return
    heard = sounds(app, doctree, docname)
    line = nodes.paragraph("", f"{minutes(doctree, sum(n for _, n in heard))} minutes")
    others = [link(env.titles[doc].astext(), uri(doc)) for doc in needs(docname, env.found_docs) if doc in env.found_docs]
    references = [link(name, uri(doc)) for name, doc in (("words", GLOSSARY), ("symbols", NOTATION)) if doc in env.found_docs]
    references.append(link("names", "../genindex.html"))
    line += [*joined(" · builds on ", others), *joined(" · look up ", references)]
    box = nodes.container("", line, classes=["mv-facts"])
    places = {}
    for place, n in heard:
        places[place] = places.get(place, 0) + n
    if places:
        links = [link(next(place.findall(nodes.title)).astext(), f"#{place['ids'][0]}") for place in places]
        total = sum(places.values())
        box += nodes.paragraph("", "", *joined(f"Listen ({total} sound{'s' * (total > 1)}): ", links))
    first = next((i for i, node in enumerate(section.children) if isinstance(node, nodes.block_quote)), 0)
    section.insert(first + 1, box)


def tidy(app, env, *args):
    "Terms are read anew by each build."
    if hasattr(env, "mv_terms"):
        del env.mv_terms


def setup(app):
    app.connect("doctree-read", number_equations)
    app.connect("doctree-read", number_figures)
    app.add_post_transform(FigureReferences)
    app.connect("doctree-resolved", facts)
    app.connect("doctree-resolved", link_terms)
    app.connect("env-updated", tidy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
