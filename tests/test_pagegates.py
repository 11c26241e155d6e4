"Each gate of `pagegates.py` stops what it is there to stop: a good page passes, a bad one is found out."

import base64
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pagegates as gate
import pytest
from pagecheck import visit
from PIL import Image

from musevae import widgets as w

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nbs" / "_book"))

import pages  # noqa: E402

RATE = 22050


def tone(seconds):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def shown(browser, tmp_path):
    "`shown(body)`: a page with that text, open; `shown.file` is where it lies."
    rooms = []

    def open_page(body, *, head="", **how):
        file = open_page.file = tmp_path / f"{len(rooms)}.html"
        file.write_text(f"<!DOCTYPE html><html lang=en><head><meta charset=utf-8>{head}</head>"
                        f"<body style='background: #fff'><div class='bd-article'>{body}</div></body></html>")
        rooms.append(visit(browser, file, **how))
        return rooms[-1].__enter__().page

    yield open_page
    for room in rooms:
        room.__exit__(None, None, None)


@pytest.mark.parametrize("body, wrong", [
    ("It costs 5 nats; <code>$HOME</code> <mjx-container class=math>$x$</mjx-container>", 0),
    ("<p>elbo_nats is $-(D</p>", 1),
    ("<p>of \\\\ln 2 units</p>", 1),
    ("<p>as \\\\(x\\\\) says</p>", 1),
])
def test_stray_tex(shown, body, wrong):
    assert len(shown(body).evaluate(gate.STRAY_TEX)) == wrong


@pytest.mark.parametrize("body, wrong", [
    ("<div class=cell_output><pre>27.1 dB of dtype</pre></div><pre>x: torch.Tensor = tensor([1])</pre>", 0),
    ("<div class=cell_output><pre>a    1\nName: b, dtype: int64</pre></div>", 1),
    ("<div class=cell_output><pre>musevae: warning: song.wav: left out</pre></div>", 0),
    ("<div class=cell_output><pre>ipykernel_1/2.py:1: UserWarning: no</pre><pre>E(db=np.float64(4.3))</pre></div>", 2),
    ("<div class=cell_output><pre>tensor([27.08])</pre><pre>(torch.Size([9]),)</pre></div>", 2),
])
def test_printouts(shown, body, wrong):
    assert len(shown(body).evaluate(gate.PRINTOUT)) == wrong


def axes(*ticks):
    marks = "".join(f"<i style='position: absolute; left: {x}px'>{text}</i>" for text, x in ticks)
    return f"<div class=mv-axes style='position: relative; width: 200px; height: 40px'><div class=mv-s>{marks}</div></div>"


@pytest.mark.parametrize("ticks, wrong", [
    ([("0", 0), ("1", 60), ("2 s", 120)], 0),
    ([("0", 0), ("2", 60), ("2.5 s", 64)], 1),
    ([("0", 0), ("1", 60), ("2.5 s", 190)], 1),
    ([("0", 0)], 1),
])
def test_ticks_of_players(shown, ticks, wrong):
    assert len(shown(axes(*ticks)).evaluate(gate.TICKS)) == wrong


@pytest.mark.parametrize("boxes, wrong", [
    ([["0", 0, 0, 9, 9], ["1", 20, 0, 29, 9], ["2", 40, 0, 49, 9]], 0),
    ([["0", 0, 0, 9, 9], ["1", 8, 5, 29, 12], ["2", 40, 0, 49, 9]], 1),
    ([["0", 0, 0, 9, 9], ["1", 20, 0, 29, 9], ["2", 95, 0, 110, 9]], 1),
    ([], 1),
])
def test_words_of_charts(shown, boxes, wrong):
    page = shown("<canvas class=mv-chart style='width: 100px; height: 50px'></canvas>")
    page.evaluate("boxes => { document.querySelector('canvas').mvLabels = boxes; }", boxes)
    assert len(page.evaluate(gate.TICKS)) == wrong


def test_a_chart_keeps_what_it_wrote(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(w.standalone_html([w.Schedule(), w.Player(tone(2.5))], title="a page"), encoding="utf8")
    for width in (1440, 600, 390, 250):
        with visit(browser, file, width=width) as seen:
            assert seen.page.evaluate(gate.TICKS) == [], width
            words = seen.page.evaluate("document.querySelector('.mv-chart').mvLabels.map((b) => b[0])")
            assert {"epoch", "β", "0", "1"} <= set(words), width


@pytest.mark.parametrize("style, wrong", [
    ("overflow: auto; width: 150px; white-space: pre-wrap; overflow-wrap: anywhere", 0),
    ("overflow: auto; width: 150px; white-space: pre", 1),
    ("overflow: visible; white-space: pre", 1),
])
def test_cut_on_paper(shown, style, wrong):
    page = shown(f"<pre style='{style}'>{'word ' * 80}</pre><details><summary>code</summary><pre>{'word ' * 80}</pre></details>",
                 width=718)
    page.emulate_media(media="print")
    assert len(page.evaluate(gate.CUT, gate.PAPER)) == wrong


@pytest.mark.parametrize("style, state, wrong", [
    ("", "open", 0), ("visibility: hidden", "open", 1), ("height: 0", "open", 1), ("display: none", "open", 1), ("", "", 1),
])
def test_folded_on_paper(shown, style, state, wrong):
    page = shown(f"<div class='admonition toggle'><p class=admonition-title>proof</p><p style='{style}'>two lines</p><p></p></div>"
                 f"<details {state}><summary>code</summary><pre>1 + 1</pre></details>")
    page.emulate_media(media="print")
    assert len(page.evaluate(gate.FOLDED)) == wrong


@pytest.mark.parametrize("style, wrong", [
    ("overflow: auto; background: linear-gradient(red, blue)", 0),
    ("overflow: auto", 1),
    ("overflow: hidden; background: linear-gradient(red, blue)", 1),
    ("overflow: visible", 0),  # what stands out of its box is seen, and the page's own width is judged elsewhere
    ("overflow: hidden; white-space: normal; overflow-wrap: anywhere", 0),
])
def test_what_is_cut_without_a_sign(shown, style, wrong):
    page = shown(f"<div style='width: 100px; white-space: nowrap; {style}'>{'word ' * 20}</div>", width=390)
    assert len(page.evaluate(gate.UNSIGNED)) == wrong


@pytest.mark.parametrize("wide, wrong", [(90, 0), (80, 1)])
def test_figures_that_are_shrunk(shown, wide, wrong):
    file = io.BytesIO()
    Image.new("RGB", (100, 50)).save(file, "png")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    image = f"<img alt='a' src='{source}' style='max-width: {wide}px'>"
    page = shown(f"<div class='bd-article'><div class='cell_output'>{image}</div></div>")
    page.wait_for_function("document.images[0].naturalWidth")
    assert len(page.evaluate(gate.SHRUNK, 0.85)) == wrong


@pytest.mark.parametrize("style, wrong", [("", 0), ("height: 30px", 1), ("width: 30px", 1), ("display: none; height: 30px", 0)])
def test_room_for_a_finger(shown, style, wrong):
    page = shown(f"<button style='box-sizing: border-box; width: 40px; height: 40px; padding: 0; {style}'>a</button>")
    assert len(page.evaluate(gate.SMALL, 40)) == wrong


@pytest.mark.parametrize("body, wrong", [
    ("<p style='color: #767676'>grey</p>", 0),  # 4.54: 1
    ("<p style='color: #787878'>grey</p>", 1),  # 4.42: 1
    ("<p style='color: #000; opacity: .3'>faint</p>", 1),
    ("<div style='background: #000c'><p style='color: #111'>dark</p></div>", 1),
    ("<div style='background: #000c'><p style='color: #eee'>dark</p></div>", 0),
    ("<p style='color: #fff; visibility: hidden'>not there</p>", 0),
    ("<table><caption style='color: #bbb'>a caption</caption><tr><td>1</td></tr></table>", 1),
])
def test_contrast(shown, body, wrong):
    found = shown(body).evaluate(gate.CONTRAST, 4.5)
    assert len(found) == wrong, found


@pytest.mark.parametrize("body, wrong", [
    ("<button>play</button><button aria-label=copy></button><button title=copy></button>", 0),
    ("<button><svg viewBox='0 0 9 9'><title>copy</title><path d='M0 0h9'/></svg></button>", 0),
    ("<button><svg viewBox='0 0 9 9'><path d='M0 0h9'/></svg></button>", 1),
    ("<a href=x><img src='data:,' alt=''></a><input type=range>", 2),
    ("<label>β <input type=range></label>", 0),
])
def test_names_of_controls(shown, body, wrong):
    found = gate.nameless(shown(body))
    assert len(found) == wrong, found


@pytest.mark.parametrize("style, wrong", [("", 0), ("outline: none", 2), ("outline: none; box-shadow: 0 0 3px red", 2)])
def test_rings(shown, style, wrong):
    page = shown("<button>a</button> <a href=x>b</a>", head=f"<style>:focus-visible {{ {style} }} a, button {{ {style} }}</style>")
    assert len(gate.ringless(page, 3)) == wrong


def test_a_shadow_is_a_ring_too(shown):
    page = shown("<button>a</button>", head="<style>:focus-visible { outline: none; box-shadow: 0 0 0 3px red }</style>")
    assert gate.ringless(page, 2) == []


@pytest.mark.parametrize("reserved, jumps", [(300, False), (0, True)])
def test_layout_shift(shown, reserved, jumps):
    late = "<script>setTimeout(() => { document.getElementById('late').style.height = '300px'; }, 200)</script>"
    room = f"<div style='min-height: {reserved}px'><div id=late></div></div>"
    page = shown(f"{room}<p style='height: 400px'>{'text ' * 90}</p>{late}")
    page.wait_for_timeout(600)
    assert (page.evaluate(gate.SHIFT) > 0.1) == jumps


def test_lengths_of_sounds_and_pictures(tmp_path):
    points, genres, names = np.eye(3), ["a", "b", "b"], ["1", "2", "3"]
    sound, image = w.mp3(tone(2.5)), w.spectrogram_png(np.zeros((4, 4)), seconds=2.5)
    grid = w.decoded_grid(points, lambda at: [(tone(1), np.zeros((4, 44)))] * len(at), shape=(1, 2))
    whole = w.LatentMap(points, genres=genres, names=names, sounds=[sound, None, sound], images=[image] * 3, decoded=grid)
    page = tmp_path / "page.html"

    def seen(*widgets):
        page.write_text(w.standalone_html(list(widgets), title="a page"), encoding="utf8")
        return gate.lengths(page)

    good = seen(whole, w.Players({"a": tone(1), "b": tone(2)}), w.Morph([(tone(3), np.zeros((4, 130)))] * 2))
    assert len(good) == 2 + 2 + 2 + 2 and all(abs(heard - said) < 0.1 for _, heard, said in good)
    whole.images, player = w.spectrogram_png(np.zeros((4, 4)), seconds=5.0), w.Player(tone(1))  # past every check
    whole.images_end, player.images = [len(whole.images)], w.spectrogram_png(np.zeros((4, 4)))
    player.images_end = [len(player.images)]
    bad = [said for _, heard, said in seen(whole, player) if not abs(heard - said) < 0.1]
    assert bad[:2] == [5.0, 5.0] and np.isnan(bad[2]) and len(bad) == 3


GOOD = {"description": "How it works.", "og:title": "A page", "og:description": "How it works.",
        "og:image": "https://here/book/card.png"}


@pytest.mark.parametrize("change, words", [
    ({}, ""),
    ({"description": ""}, "no description"),
    ({"og:title": ""}, "no og:title"),
    ({"og:image": "card.png"}, "expected an address under"),
    ({"og:image": "https://here/book/none.png"}, "no such file"),
    ({"og:image": "https://here/book/small.png"}, "expected 1200 × 630 pixels"),
    ({"title": "book \N{EM DASH} book"}, "title says it twice"),
])
def test_descriptions(tmp_path, change, words):
    (tmp_path / "card.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 4, 176, 0, 0, 2, 118]))
    (tmp_path / "small.png").write_bytes(w.spectrogram_png(np.zeros((4, 4))))
    tags = GOOD | {"title": "A page \N{EM DASH} book"} | change
    metas = "".join(f'<meta {"property" if ":" in key else "name"}="{key}" content="{value}"/>'
                    for key, value in tags.items() if key != "title")
    page = tmp_path / "page.html"
    page.write_text(f"<title>{tags['title']}</title>{metas}", encoding="utf8")
    found = gate.misdescribed(page, tmp_path, "https://here/book")
    assert (found == []) if not words else any(words in fault for fault in found), found


SCREEN = "<p style='height: 900px; margin: 0'>prose</p>"
CODE = "<div class='cell'><div class='cell_input'><pre style='height: 300px; margin: 0'>x = 1</pre></div></div>"
PICTURE = "<img alt=x width=10 height=10 src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>"


@pytest.mark.parametrize("body, words", [
    (PICTURE + SCREEN + CODE, []),
    (PICTURE + SCREEN + CODE + CODE, ["code is 39 %"]),
    (SCREEN * 2 + PICTURE, ["2.0 screens down"]),
    (SCREEN, ["inf screens down"]),
    (SCREEN + PICTURE + "<details class=mv-fold><summary>def f():</summary>" + CODE * 9 + "</details>", []),
    (PICTURE + SCREEN + "<div style='overflow: auto; width: 200px'><p style='width: 300px'>wide</p></div>", ["sideways: wide"]),
])
def test_what_a_reader_scrolls_past(shown, body, words):
    page = shown(body)
    faults = replace(pages.measured(page, shown.file), name="05_elbo").faults
    assert len(faults) == len(words) and all(word in fault for word, fault in zip(words, faults, strict=True)), faults


def test_an_exception_counts_for_its_limit_alone(shown, monkeypatch):
    page = shown(SCREEN * 2 + CODE * 9)
    chapter = replace(pages.measured(page, shown.file), name="05_elbo")
    monkeypatch.setitem(pages.EXCEPTIONS, "05_elbo", {"code": "a test"})
    fault, = chapter.faults
    assert "screens down" in fault
    assert replace(chapter, name="05a_likelihood").faults == ["code is 60 % of the height, at most 30"], "a workshop's limits"


def test_the_table_of_pages_has_a_line_a_page():
    page = pages.Page("05_elbo", 20.0, 0.3, float("inf"), 1.5, 4, (), 700)
    head, line, last = pages.table([page]).split("\n")
    assert line.split() == "05_elbo 20.0 30% – 1.5 4 700 code is 30 % of the height, at most 25".split()
    assert last.endswith("1 pages over a limit")
