"What a reader's browser meets on a page of the built book: collected here, judged in test_pages.py."

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pagegates import WATCH_SHIFTS

LOCAL = ("file:", "blob:", "data:")

# What stands on a page: targets, links, pictures, code and text.
SURVEY = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const article = document.querySelector('.bd-article') ?? document.body;
  return {
    ids: all('[id]').map((e) => e.id).concat(all('a[name]').map((e) => e.name)),
    links: all('a[href]').map((e) => e.href),
    images: [...article.querySelectorAll('img')].filter((e) => !e.closest('.mv-widget'))
      .map((e) => ({ src: e.src.slice(0, 120), alt: e.alt, wide: e.naturalWidth })),
    unnamed: all('.mv-widget img[src^="blob:"]:not([alt]), .mv-widget img[src^="blob:"][alt=""]').map((e) => e.className),
    code: [...article.querySelectorAll('div.cell_input pre')].map((e) => e.textContent.trim()),
    text: article.innerText,
    math: { written: all('.math').length, shown: all('mjx-container').length,
            wrong: all('[data-mml-node="merror"], mjx-merror').map((e) => e.textContent) },
    widgets: all('.mv-widget').map((e) => ({ ...e.dataset, text: e.classList.contains('mv-failed') ? e.innerText : '' })),
    unmounted: all('script[type="application/vnd.jupyter.widget-view+json"]').length,
    firstWidget: Number(document.documentElement.dataset.firstWidget ?? NaN),
  };
}"""


@dataclass
class Visit:
    "One page, open in a browser without a network, and everything it complained of."

    page: object
    remote: list[str] = field(default_factory=list)  # requests that are not to this disk
    failed: list[str] = field(default_factory=list)  # files that are not there
    errors: list[str] = field(default_factory=list)  # console errors, uncaught exceptions

    def settle(self) -> None:
        "Wait until formulae are set and widgets are mounted."
        self.page.wait_for_function("""() => document.readyState === 'complete'
            && (!document.querySelector('.math') || document.querySelector('mjx-container'))
            && (!document.querySelector('script[type$="widget-view+json"], .mv-widget')
                || document.documentElement.dataset.widgets === 'mounted')""")

    def survey(self) -> dict:
        return self.page.evaluate(SURVEY)

    @property
    def complaints(self) -> list[str]:
        return [f"not local: {url}" for url in self.remote] + [f"missing: {url}" for url in self.failed] + self.errors


@contextmanager
def visit(browser, path: Path, *, query: str = "", width: int = 1440, height: int = 900, slower: float = 1, **context):
    "Open the file `path` with the network off; `slower`: by how much the browser slows its scripts down."
    room = browser.new_context(viewport={"width": width, "height": height}, **context)
    room.set_offline(True)
    room.add_init_script(WATCH_SHIFTS)
    page = room.new_page()
    page.set_default_timeout(90_000)  # a busy machine is slow, not wrong
    if slower > 1:
        room.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    seen = Visit(page)
    page.on("request", lambda r: None if r.url.startswith(LOCAL) else seen.remote.append(r.url))
    page.on("requestfailed", lambda r: seen.failed.append(r.url) if r.url.startswith("file:") else None)
    page.on("console", lambda m: seen.errors.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: seen.errors.append(f"uncaught: {e}"))
    try:
        page.goto(path.as_uri() + query)
        seen.settle()
        yield seen
    finally:
        room.close()
