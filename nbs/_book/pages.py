"""What a reader scrolls past: a table of the built book's pages, and what of it is too much.

    python nbs/_book/pages.py [CHAPTER ...]     measures _build/html in a browser (`make chromium` finds or installs one)

At 1440 × 900: height in screens, the share of it that is code, how many screens down the first sound and the first
figure stand, how many sounds there are, kilobytes with pictures, and what has to be scrolled sideways. `tests/test_pages.py`
holds every chapter to the limits below. Workshops (3a, A2) are read for their code, by those who want it: they may have a
little more of it, and begin with something else than a sound or a figure.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIDE, TALL = 1440, 900  # pixels
CODE, ROOM = 0.25, 0.30  # most of a chapter's height, and of a workshop's
SCREENS = 2.0  # down to the first sound or figure, at most

# Chapters that may exceed a limit, and why.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "11c_songs": {"code": "functions that read and write stand beside one lesson"},
}

MEASURE = """() => {
  const article = document.querySelector('.bd-article'), all = (s) => [...article.querySelectorAll(s)];
  const tall = (e) => e.getBoundingClientRect().height;
  const seen = (e) => e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true }) && tall(e) > 0;
  const first = (list) => Math.min(...list.filter(seen).map((e) => (e.getBoundingClientRect().top + scrollY) / innerHeight));
  const hides = /auto|scroll/, code = ':is(details.mv-fold, details.hide.above-input, div.cell_input, div[class*="highlight-"])';
  const scrolls = (e) => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && hides.test(getComputedStyle(e).overflowX);
  return {
    height: tall(article) / innerHeight,
    code: all(code).filter((e) => seen(e) && !e.parentElement.closest(code + ', .cell_output'))
      .reduce((sum, e) => sum + tall(e), 0) / tall(article),
    sound: first(all('.mv-widget:has(.mv-play), audio')),
    figure: first(all('img, svg, canvas').filter((e) => !e.closest('button, mjx-container, .headerlink'))),
    sounds: all('.mv-widget .mv-spec, .mv-widget .mv-map, audio').filter(seen).length,
    sideways: all('*').filter((e) => !e.closest('.mv-widget') && seen(e) && scrolls(e))
      .map((e) => e.innerText.trim().slice(0, 50)),
  };
}"""


@dataclass(frozen=True)
class Page:
    """What was measured of a page.

    Attributes:
        name: the chapter's file, without folder and extension.
        height: in screens.
        code: share of the height.
        sound: screens above the first sound; infinite if there is none.
        figure: screens above the first figure.
        sounds: how many there are to play.
        sideways: what has to be scrolled sideways, as it begins.
        kilobytes: of the page and its pictures.
    """

    name: str
    height: float
    code: float
    sound: float
    figure: float
    sounds: int
    sideways: tuple[str, ...]
    kilobytes: int

    @property
    def faults(self) -> list[str]:
        "What is over a limit, exceptions left out."
        chapter = re.match(r"\d+_", self.name)
        most = CODE if chapter else ROOM
        found = {
            "code": self.code > most and f"code is {100 * self.code:.0f} % of the height, at most {100 * most:.0f}",
            "first": chapter and min(self.sound, self.figure) > SCREENS and
            f"the first sound or figure stands {min(self.sound, self.figure):.1f} screens down, at most {SCREENS:.0f}",
            "sideways": bool(self.sideways) and f"scrolls sideways: {'; '.join(self.sideways)}",
        }
        return [text for key, text in found.items() if text and key not in EXCEPTIONS.get(self.name, {})]


def measured(page, file: Path) -> Page:
    "The page that stands open in the browser's `page`, at `WIDE` × `TALL`, built from `file`."
    found = page.evaluate(MEASURE)
    infinite = {key: float("inf") if found[key] is None else found[key] for key in ("sound", "figure")}
    pictures = {file.parent / src for src in re.findall(r'src="([^":]*_images/[^"]+)"', file.read_text(encoding="utf-8"))}
    weight = file.stat().st_size + sum(picture.stat().st_size for picture in pictures if picture.is_file())
    return Page(file.stem, **(found | infinite | {"sideways": tuple(found["sideways"])}), kilobytes=round(weight / 1000))


def table(pages: list[Page]) -> str:
    "A line a page."
    def down(screens: float) -> str:
        return "   –" if screens == float("inf") else f"{screens:4.1f}"

    lines = [f"{'page':22} screens  code  sound  figure  sounds     kB  over the limit"]
    for p in pages:
        lines.append(f"{p.name:22} {p.height:7.1f} {100 * p.code:4.0f}%   {down(p.sound)}    {down(p.figure)} {p.sounds:7} "
                     f"{p.kilobytes:6}  {'; '.join(p.faults)}")
    code = sum(p.code * p.height for p in pages) / sum(p.height for p in pages)
    lines.append(f"{len(pages)} pages: {sum(p.height for p in pages):.0f} screens, {100 * code:.0f} % code, "
                 f"{sum(p.sounds for p in pages)} sounds, {sum(p.kilobytes for p in pages) / 1000:.1f} MB; "
                 f"{sum(bool(p.faults) for p in pages)} pages over a limit")
    return "\n".join(lines)


def chapters() -> list[str]:
    "Pages of the contents that have a number."
    names = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [name for name in names if re.search(r"/(\d|[A-Z]\d)", name)]


def main(names: list[str], book: Path) -> int:
    sys.path.insert(0, str(ROOT / "tests"))
    import chromium
    from conftest import FLAGS
    from pagecheck import visit
    from playwright.sync_api import sync_playwright

    wanted = [name for name in chapters() if not names or name.rpartition("/")[2] in names]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=FLAGS)
        pages = []
        for name in wanted:
            with visit(browser, book / f"{name}.html", width=WIDE, height=TALL, reduced_motion="reduce") as seen:
                pages.append(measured(seen.page, book / f"{name}.html"))
        browser.close()
    print(table(pages))
    return int(any(page.faults for page in pages))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="file names without extension; none: all")
    parser.add_argument("--book", type=Path, default=ROOT / "_build" / "html", help="the built book's folder")
    given = parser.parse_args()
    sys.exit(main(given.chapters, given.book.resolve()))
