"""Sphinx extension: demonstrations on pages of their own, with a picture card each, to be sent to somebody.

`handouts.yml` says what they are called and what to listen for; ``#| handout: NAME`` in a chapter marks the cells whose
outputs they show. A page carries the players of its cells alone, so that one click plays, and leads to its chapter.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import yaml
from apparatus import VIEW, models
from docutils import nodes
from nbdev_book import card, card_tags, draw_card
from places import pictures, with_places, with_sizes
from sphinx.util.osutil import relative_uri

HERE = Path(__file__).resolve().parent
MARK = "tag_handout-"


def listed() -> dict[str, dict[str, str]]:
    return yaml.safe_load((HERE / "handouts.yml").read_text(encoding="utf-8"))


def page_of(name: str) -> str:
    "Beside the chapters, so that links and pictures lead to the same places."
    return f"nbs/hear_{name}"


def marked(doctree) -> list[tuple[str, nodes.Element]]:
    "Name of the handout and node, of each cell that belongs to one."
    return [(tag.removeprefix(MARK), cell) for cell in doctree.findall(nodes.container)
            for tag in cell["classes"] if tag.startswith(MARK)]


def remember(app, doctree):
    "Which chapter shows the cells of a handout."
    names = sorted({name for name, _ in marked(doctree)})
    if names:
        app.env.metadata[app.env.docname]["handouts"] = names


def link_handouts(app, doctree, docname):
    "Below the last cell of a handout: where it stands alone."
    if app.builder.format != "html":
        return
    for box in [box for box in doctree.findall(nodes.container) if "mv-handouts" in box["classes"]]:
        box += _list_of(app, docname)
    for name, cell in dict(marked(doctree)).items():
        if name not in listed():
            raise ValueError(f"{docname}: expected a handout of handouts.yml, got {name!r}")
        uri = app.builder.get_relative_uri(docname, page_of(name))
        link = nodes.reference("", listed()[name]["title"], internal=True, refuri=uri)
        cell.parent.insert(cell.parent.index(cell) + 1, nodes.paragraph("", "To send to somebody: ", link, classes=["mv-send"]))


def _list_of(app, docname) -> nodes.bullet_list:
    "Links to all that chapters of this book show."
    shown = {name for doc in app.env.found_docs for name in app.env.metadata[doc].get("handouts", [])}
    found = nodes.bullet_list()
    for name, about in listed().items():
        if name in shown:
            uri = app.builder.get_relative_uri(docname, page_of(name))
            link = nodes.reference("", about["title"], internal=True, refuri=uri)
            found += nodes.list_item("", nodes.paragraph("", "", link, nodes.Text(f": {about['line']}")))
    return found


def collect(app):
    "The pages: `(name, context, template)` of each."
    if app.builder.format != "html":
        return
    env, builder = app.env, app.builder
    for docname in sorted(env.found_docs):
        for name in env.metadata[docname].get("handouts", []):
            doctree = env.get_and_resolve_doctree(docname, builder)
            builder.post_process_images(doctree)
            yield _page(app, docname, name, [cell for other, cell in marked(doctree) if other == name])


def _page(app, docname: str, name: str, cells: list):
    about, pagename, builder = listed()[name], page_of(name), app.builder
    builder.imgpath = relative_uri(builder.get_target_uri(pagename), "_images")
    outputs = [part for cell in cells for part in cell.children if part.get("nb_element") == "cell_code_output"]
    fragments = [builder.render_partial(part)["fragment"] for part in outputs]
    shown = with_sizes("".join(sorted(fragments, key=lambda shown: not VIEW.search(shown))), pictures(app))  # sounds first
    known = models(app, docname)
    kept = {key: known[key] for view in VIEW.findall(shown) for key in [json.loads(view)["model_id"]]}
    state = json.dumps({"version_major": 2, "version_minor": 0, "state": kept}).replace("</", "<\\/")
    script = f'<script type="application/vnd.jupyter.widget-state+json">{state}</script>'
    chapter, uri = app.env.titles[docname].astext(), builder.get_relative_uri(pagename, docname)
    body = (f'<section class="mv-handout"><h1>{about["title"]}</h1><p>{about["before"]}</p>{shown}<p>{about["after"]}</p>'
            f'<p class="mv-send">How it is made, and what it proves: <a href="{uri}">{chapter}</a></p></section>')
    if kept:
        mount = relative_uri(builder.get_target_uri(pagename), "_static/mount.js")
        body = with_places(body, script) + script + f'<script defer src="{mount}"></script>'
    _draw(app, about, pagename, outputs, kept)
    tags = card_tags(pagename, about["title"], about["before"])
    return pagename, {"title": about["title"], "body": body, "metatags": tags, "parents": []}, "page.html"


def _draw(app, about, pagename: str, outputs: list, kept: dict) -> None:
    "The picture card: the first figure, or the first and the last spectrogram of the first player."
    pictures = [Path(app.srcdir, image["uri"]) for part in outputs for image in part.findall(nodes.image)]
    picture = next((path for path in pictures if path.suffix == ".png" and path.is_file()), None)
    if picture is None and kept:
        picture = Path(app.doctreedir, f"{Path(pagename).name}.png")
        _first_and_last(next(iter(kept.values()))).save(picture)
    draw_card(about["title"], about["before"], str(picture or ""), Path(app.outdir, card(pagename)))


def _first_and_last(model: dict):
    "Two spectrograms of a widget's model, one above the other."
    from PIL import Image

    data = next(base64.b64decode(buffer["data"]) for buffer in model["buffers"] if buffer["path"] == ["images"])
    ends = model["state"]["images_end"]
    above, below = (Image.open(io.BytesIO(data[a:b])).convert("RGB") for a, b in ((0, ends[0]), (([0, *ends])[-2], ends[-1])))
    both = Image.new("RGB", (above.width, above.height + below.height + 12), "white")
    both.paste(above, (0, 0))
    both.paste(below, (0, above.height + 12))
    return both.resize((3 * both.width, 3 * both.height))


def setup(app):
    app.connect("doctree-read", remember)
    app.connect("doctree-resolved", link_handouts)
    app.connect("html-collect-pages", collect)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
