"""Room for what comes late: a page keeps the place of each widget and each picture from its first line on.

A widget is drawn when its script has run, a picture when its file has come; whoever reads already must not lose the line.
A row of players depends on the width of the screen, so its place holds the same boxes, empty, until `mount.js` takes them
away. Maps and the like have a height of their own in `musevae.css`.
"""

from __future__ import annotations

import html
import json
import re
import struct
from pathlib import Path

_VIEW = re.compile(r'<script type="application/vnd\.jupyter\.widget-view\+json">(.*?)</script>')
_AXES = '<div class="mv-axes"><div class="mv-spec"></div></div>'


def with_places(body: str, state: str) -> str:
    """The page's `body` with each widget's marker inside `<div class="mv-place" data-widget=CLASS>`, after its room.

    Args:
        body: HTML with markers of widgets, as MyST-NB writes them.
        state: HTML of the script that holds all models of the page.
    """
    models = json.loads(re.search(r">(.*)</script>", state, re.DOTALL)[1])["state"]
    styled = set()

    def place(marker):
        model = models.get(json.loads(marker[1]).get("model_id"), {}).get("state", {})
        kind = model.get("_anywidget_id", "").rpartition(".")[2]
        room = _ROOMS.get(kind, lambda model: "")(model)
        if room:
            css = "" if model["_css"] in styled else f"<style>{model['_css']}</style>"
            styled.add(model["_css"])
            room = f'{css}<div class="mv-room mv" aria-hidden="true">{room}</div>'
        return f'<div class="mv-place" data-widget="{html.escape(kind)}">{room}{marker[0]}</div>'

    return _VIEW.sub(place, body)


def _bar(*parts: str) -> str:
    return f'<div class="mv-bar"><span class="mv-play"></span>{"".join(parts)}</div>'


def _words(kind: str, text: str) -> str:
    return f'<span class="{kind}">{html.escape(text)}</span>' if text else ""


def _clock(seconds: float) -> str:
    return f'<span class="mv-time">0.0<span class="mv-total"> / {seconds:.1f} s</span></span>'


def _row(cards: list[str]) -> str:
    return f'<div class="mv-row" style="--mv-n: {len(cards)};">{"".join(cards)}</div>'


def _players(model: dict) -> str:
    "As `player.js` draws it."
    pairs = zip(model["titles"], model["durations"], strict=True)
    return _row([f'<div class="mv-card">{_bar(_words("mv-title", title), _clock(s))}{_AXES}</div>' for title, s in pairs])


def _compare(model: dict) -> str:
    "As `compare.js` draws it."
    named = [f"<b>{chr(65 + i)}</b>{html.escape(label)}" for i, label in enumerate(model["labels"])]
    switches = "".join(f'<span class="mv-switch">{name.replace("b>", "kbd>")}</span>' for name in named)
    cards = [f'<div class="mv-side-by"><div class="mv-label">{name}</div>{_AXES}</div>' for name in named]
    bar = _bar(f'<div class="mv-switches">{switches}</div>', _words("mv-title", model["title"]), _clock(model["duration"]))
    return f'<div class="mv-card mv-compare">{bar}{_row(cards)}</div>'


def _morph(model: dict) -> str:
    "As `morph.js` draws it."
    first, last = html.escape(model["labels"][0]), html.escape(model["labels"][-1])
    bar = _bar(_words("mv-title", model["title"]), f'<output class="mv-where">{first}</output>', _clock(model["duration"]))
    ends = f'<span>{first}</span><div class="mv-track"><div class="mv-slider"></div></div><span>{last}</span>'
    return f'<div class="mv-card mv-morph">{bar}{_AXES}<div class="mv-ends">{ends}</div></div>'


_ROOMS = {"Player": _players, "Players": _players, "Compare": _compare, "Morph": _morph}


def pictures(app) -> dict[str, Path]:
    "The files of the pictures that Sphinx has met so far, by the names that the book gives them."
    return {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}


def with_sizes(body: str, files: dict[str, Path]) -> str:
    """The page's `body` with width and height, in pixels, of the PNG pictures that say neither.

    Args:
        body: HTML; its style sheet knows the width as `--mv-wide`.
        files: the book's pictures.
    """
    def sized(image):
        name = re.search(r'src="[^":]*_images/([^"/]+\.png)"', image[0])
        if not name or name[1] not in files or re.search(r"\s(width|height|style)=", image[0]):
            return image[0]
        with files[name[1]].open("rb") as file:
            wide, high = struct.unpack(">II", file.read(24)[16:])
        return f'<img width="{wide}" height="{high}" style="--mv-wide: {wide}px"{image[0][4:]}'

    return re.sub(r"<img\s[^>]*>", sized, body)


def with_words_left(body: str) -> str:
    """The page's `body`, its tables of pandas marked where a column holds words: numbers stand at the right, words do not.

    The class `mv-words-2` says that the last column but one does: rows begin with as many headings as they like.
    """
    return re.sub(r'<table[^>]*class="dataframe">.*?</table>', lambda table: _marked(table[0]), body, flags=re.DOTALL)


def _marked(table: str) -> str:
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    rows = [row[::-1] for row in rows if row]
    longest = [max(column, key=len) for column in zip(*rows, strict=True)] if len({*map(len, rows)}) == 1 else []
    wordy = [f" mv-words-{k}" for k, text in enumerate(longest, 1) if len(text) > 14 and re.search(r"[^\W\d_]{3}", text)]
    return table.replace('class="dataframe"', f'class="dataframe{"".join(wordy)}"', 1)
