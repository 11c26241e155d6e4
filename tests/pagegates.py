"""What a good page shows: each gate answers with a list of faults, empty on a good page.

A name in capitals is a script to evaluate in the page; a function takes the page of a browser, or a page's file.
`test_pages.py` holds the built book to them, `test_pagegates.py` shows each of them failing.
"""

import base64
import html
import io
import json
import re
import struct
from pathlib import Path

import soundfile

# TeX that no formula took: a dollar or a command in the text that a reader reads.
STRAY_TEX = r"""() => {
  const out = [], walk = document.createTreeWalker(document.querySelector('.bd-article') ?? document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, at = node.parentElement;
    if (at.closest('pre, code, script, style, .math, mjx-container, mjx-assistive-mml, .mv-widget')) continue;
    if (/\$|\\[A-Za-z]+|\\[()[\]]/.test(node.data)) out.push(node.data.trim().slice(0, 100));
  }
  return out;
}"""

# Words that lie on one another: ticks of players (elements) and of charts (a canvas keeps what it wrote as `mvLabels`).
TICKS = """() => {
  const out = [];
  const judge = (boxes, where) => boxes.forEach(([a, l, t, r, b], i) => {
    if (l < -1 || r > where.width + 1) out.push(`${where.name}: ${a} is cut off`);
    for (const [c, L, T, R, B] of boxes.slice(i + 1)) {
      if (l < R && L < r && t < B && T < b) out.push(`${where.name}: ${a} and ${c}`);
    }
  });
  document.querySelectorAll('.mv-axes').forEach((axes, k) => {
    const base = axes.getBoundingClientRect(), boxes = [...axes.querySelectorAll('.mv-hz i, .mv-s i')].map((e) => {
      const box = e.getBoundingClientRect();
      return [e.textContent, box.left - base.left, box.top, box.right - base.left, box.bottom];
    });
    if (base.width && boxes.length < 3) out.push(`player ${k}: expected ticks, got ${boxes.length}`);
    judge(boxes, { name: `player ${k}`, width: base.width });
  });
  document.querySelectorAll('canvas.mv-canvas, canvas.mv-chart').forEach((canvas, k) => {
    const labels = canvas.mvLabels ?? [];
    if (labels.length < 3) out.push(`chart ${k}: expected words, got ${labels.length}`);
    judge(labels, { name: `chart ${k}`, width: canvas.clientWidth });
  });
  return out;
}"""

# Text that its box does not show: titles of players on a screen, everything on paper.
CUT = """(selector) => [...document.querySelectorAll(selector)].filter((e) => {
  if (!e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true }) || e.closest('.mv-unseen')) return false;
  if (!e.innerText?.trim()) return false;
  const style = getComputedStyle(e), written = document.createRange();
  written.selectNodeContents(e);
  const hides = /hidden|clip|auto|scroll/.test(style.overflowX) && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0;
  return hides || written.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).map((e) => e.innerText.trim().slice(0, 60))"""
TITLES = ".mv-title, .mv-what b, .mv-label"
PAPER = ".bd-article :is(pre, code, td, th, p, li, h1, h2, h3, dt, figcaption, .mv-title, .highlight, .cell_output)"

# What is folded away and stays so on paper, where nobody can unfold it.
FOLDED = """() => [...document.querySelectorAll('.bd-article :is(.admonition.toggle, details) > *')]
  .filter((e) => !e.matches('summary, script') && e.textContent.trim() && !e.closest('.mv-widget'))
  .filter((e) => e.getBoundingClientRect().height < 1 || !e.checkVisibility({ visibilityProperty: true }))
  .map((e) => e.textContent.trim().slice(0, 60))"""

# What goes on beyond its box without a sign of it: nothing to scroll by, or no shadow at the edge.
UNSIGNED = """() => {
  const article = document.querySelector('.bd-article') ?? document.body, out = [];
  for (const e of article.querySelectorAll('*')) {
    if (e.closest('.mv-widget, svg, mjx-assistive-mml, .mv-line') || !e.checkVisibility({ contentVisibilityAuto: true })) continue;
    const style = getComputedStyle(e), over = e.scrollWidth - e.clientWidth;
    if (!e.clientWidth || over < 3 || style.overflowX === 'visible') continue;
    const signed = /auto|scroll/.test(style.overflowX) && /gradient/.test(style.backgroundImage);
    if (!signed) out.push(`${e.tagName.toLowerCase()}.${e.className}: ${over} px: ${e.innerText.trim().slice(0, 40)}`);
  }
  return out;
}"""

# What a cell left as a program says it to itself: a column with its dtype, a tensor, a warning to whoever wrote it.
PRINTOUT = r"""() => [...document.querySelectorAll('.cell_output pre')].map((e) => e.innerText.trim())
  .filter((text) => /\bdtype[:=]|\btensor\(|\btorch\.Size\b|\barray\(\[|\bnp\.\w+\(|\bipykernel_|[a-z]Warning: /.test(text))
  .map((text) => text.slice(-60))"""

# Figures drawn at less than `least` of the size that is theirs or was asked for: letters of 8 pt are 11 pixels high in it.
SHRUNK = """(least) => [...document.querySelectorAll('.bd-article .cell_output img')]
  .filter((e) => !e.closest('.mv-place, .mv-widget') && e.naturalWidth && e.getBoundingClientRect().width)
  .map((e) => [e, e.getBoundingClientRect().width / (parseFloat(e.getAttribute('width') ?? e.style.width) || e.naturalWidth)])
  .filter(([, share]) => share < least)
  .map(([e, share]) => `${share.toFixed(2)}: ${e.alt.slice(0, 60)}`)"""

# Controls too small for a finger: less than `least` pixels high, or wide.
SMALL = """(least) => [...document.querySelectorAll('button, select, input, summary, [role=slider], [role=button]')]
  .filter((e) => e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true }))
  .map((e) => [e, e.getBoundingClientRect()]).filter(([, box]) => box.height && Math.min(box.width, box.height) < least)
  .map(([e, box]) => `${e.tagName.toLowerCase()}.${e.className}: ${Math.round(box.width)} × ${Math.round(box.height)} px`)"""

# Text against what is painted behind it; WCAG's ratio, and its 4.5 for text of every size.
CONTRAST = """(least) => {
  const parse = (text) => {
    const v = text.match(/[\\d.]+%?/g).map((s) => (s.endsWith('%') ? parseFloat(s) / 100 : parseFloat(s)));
    const unit = text.startsWith('color(') ? 255 : 1;
    return [...v.slice(0, 3).map((x) => x * unit), v[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (e) => {
    const chain = [];
    for (let at = e; at; at = at.parentElement) chain.unshift(at);
    return chain.reduce((paint, at) => over(parse(getComputedStyle(at).backgroundColor), paint), [255, 255, 255, 1]);
  };
  const found = new Map(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    const text = walk.currentNode.data.trim(), skipped = 'script, style, noscript, svg, mjx-container, audio, .mv-unseen, dialog';
    if (!/[\\p{L}\\p{N}]/u.test(text) || e.closest(skipped)) continue;
    if (!e.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true })) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    let faint = 1;
    for (let at = e; at; at = at.parentElement) faint *= +getComputedStyle(at).opacity;
    const below = behind(e), ink = parse(getComputedStyle(e).color);
    ink[3] *= faint;
    const [a, b] = [light(over(ink, below)), light(below)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const above = e.parentElement?.className || e.parentElement?.tagName;
    const key = `${e.tagName.toLowerCase()}.${[...e.classList].join('.')} in ${above}`;
    if (ratio < least && !found.has(key)) found.set(key, `${ratio.toFixed(2)}: ${text.slice(0, 40)} (${key})`);
  }
  return [...found.values()];
}"""

# Layout shift as browsers report it (the worst session of 5 s, as in Core Web Vitals); installed before the page loads.
WATCH_SHIFTS = """
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const e of list.getEntries()) if (!e.hadRecentInput) shifts.push([e.startTime, e.value]);
  }).observe({ type: 'layout-shift', buffered: true });
"""
SHIFT = """() => {
  let worst = 0, sum = 0, begun = -1e9, last = -1e9;
  for (const [at, value] of shifts) {
    if (at - last > 1000 || at - begun > 5000) { begun = at; sum = 0; }
    last = at;
    sum += value;
    worst = Math.max(worst, sum);
  }
  return worst;
}"""

CONTROLS = {"button", "link", "textbox", "searchbox", "slider", "checkbox", "combobox", "radio", "switch", "DisclosureTriangle"}


def nameless(page) -> list[str]:
    "Controls that the browser's accessibility tree has no name for."
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    out = []
    for node in nodes:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if node.get("ignored") or role not in CONTROLS or name.strip():
            continue
        found = session.send("DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]})["node"]
        given = dict(zip(found.get("attributes", [])[::2], found.get("attributes", [])[1::2], strict=True))
        out.append(f"{role}: <{found['localName']} class={given.get('class', '')!r}>")
    session.detach()
    return out


def ringless(page, stops: int) -> list[str]:
    "Of the first `stops` places that the Tab key reaches, those that do not show that they are reached."
    look = """() => {
      const e = document.activeElement, s = getComputedStyle(e);
      return [e.outerHTML.slice(0, 80), e === document.body, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1,
        s.boxShadow, e.matches('#pst-skip-link a, .skip-link a')]; }"""
    out = []
    for _ in range(stops):
        page.keyboard.press("Tab")
        what, nowhere, ring, shadow, skip = page.evaluate(look)
        if nowhere:
            break
        plain = page.evaluate("""() => { const e = document.activeElement; e.blur(); const s = getComputedStyle(e).boxShadow;
                                         e.focus(); return s; }""")
        if not ring and shadow == plain and not skip:
            out.append(what)
    return out


def widget_states(path: Path) -> list[tuple[str, dict, dict]]:
    "Class, values and bytes of each widget that the page `path` carries."
    found = re.search(r'widget-state\+json">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    models = json.loads(found[1])["state"].values() if found else []
    return [(m["state"].get("_anywidget_id", "").rpartition(".")[2], m["state"],
             {b["path"][0]: base64.b64decode(b["data"]) for b in m.get("buffers", [])}) for m in models]


def cut_up(data: bytes, ends: list[int]) -> list[bytes]:
    "The parts of bytes that were packed end to end."
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def lengths(path: Path) -> list[tuple[str, float, float]]:
    "Seconds of each sound of the page `path`, as decoded, and of the picture shown with it, as the picture says."
    out = []
    for kind, state, data in widget_states(path):
        pairs = []
        for name in ("", "grid_"):
            sounds, images = (cut_up(data.get(f"{name}{what}", b""), state.get(f"{name}{what}_end", []))
                              for what in ("sounds", "images"))
            if kind == "LatentMap" and not name:
                pairs += [(sounds[s], images[i]) for s, i in zip(state["sound_of"], state["image_of"], strict=True)
                          if s >= 0 and i >= 0]
            else:
                pairs += list(zip(sounds, images, strict=True))
        for sound, image in pairs:
            if sound and image:
                y, rate = soundfile.read(io.BytesIO(sound))
                said = re.search(rb"tEXtseconds\0([\d.]+)", image[:200])
                out.append((kind, len(y) / rate, float(said[1]) if said else float("nan")))
    return out


def head(path: Path) -> dict[str, str]:
    "Title, description and picture card of the page `path`."
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<meta (?:name|property)="([\w:]+)" content="([^"]*)"', text)
    return {"title": html.unescape(re.search(r"<title>(.*?)</title>", text, re.DOTALL)[1])} | {
        key: html.unescape(value) for key, value in found}


def misdescribed(path: Path, book: Path, base: str) -> list[str]:
    "What is wrong with what the page `path` of the folder `book` tells those who link to it; `base` is its address."
    tags, out = head(path), []
    for key in ("description", "og:title", "og:description", "og:image"):
        if len(tags.get(key, "").strip()) < 5:
            out.append(f"no {key}")
    parts = [part.strip() for part in tags["title"].split("\N{EM DASH}")]
    if len(set(parts)) < len(parts):
        out.append(f"title says it twice: {tags['title']}")
    image = tags.get("og:image", "")
    if not image.startswith(base + "/"):
        out.append(f"og:image: expected an address under {base}, got {image!r}")
    else:
        file = book / image.removeprefix(base + "/")
        if not file.is_file():
            out.append(f"og:image: no such file in the book: {image}")
        elif file.read_bytes()[16:24] != struct.pack(">II", 1200, 630):
            out.append("og:image: expected 1200 × 630 pixels")
    return out
