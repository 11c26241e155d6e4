"The built book in a real browser, opened from the file system with the network off."

import configparser
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pagegates as gate
import pytest
from pagecheck import visit
from playwright.sync_api import Error

ROOT = Path(__file__).resolve().parents[1]
PAGES = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
sys.path.insert(0, str(ROOT / "nbs" / "_book"))

import handouts  # noqa: E402
import pages  # noqa: E402


@pytest.fixture(scope="module")
def survey(book, browser):
    "Each page visited once: what stands on it, and what it complained of."
    found = {}

    def visit_once(name):
        with visit(browser, book / f"{name}.html", color_scheme="light", reduced_motion="reduce") as seen:
            page = seen.page
            facts = found[name] = {**seen.survey(), "complaints": seen.complaints}
            facts["measured"] = pages.measured(page, book / f"{name}.html")
            facts["stray_tex"] = page.evaluate(gate.STRAY_TEX)
            facts["printouts"] = page.evaluate(gate.PRINTOUT)
            facts["nameless"] = gate.nameless(page)
            facts["crowded"] = page.evaluate(gate.TICKS) + page.evaluate(gate.CUT, gate.TITLES)
            facts["faint"] = {"light": page.evaluate(gate.CONTRAST, 4.5)}
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            page.wait_for_timeout(200)
            facts["faint"]["dark"] = page.evaluate(gate.CONTRAST, 4.5)
            page.emulate_media(color_scheme="light", media="print")
            page.set_viewport_size({"width": 718, "height": 1000})  # A4 between margins of 1 cm
            page.wait_for_timeout(150)
            facts["cut_on_paper"] = page.evaluate(gate.CUT, gate.PAPER)
            facts["folded_on_paper"] = page.evaluate(gate.FOLDED)
            page.emulate_media(media="screen")
            page.set_viewport_size({"width": 390, "height": 800})  # a telephone
            page.wait_for_timeout(150)
            facts["too_wide"] = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth")
            facts["crowded"] += page.evaluate(gate.TICKS) + page.evaluate(gate.CUT, gate.TITLES)
            facts["unsigned"] = page.evaluate(gate.UNSIGNED)
            facts["shrunk"] = page.evaluate(gate.SHRUNK, 0.85)
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            facts["unsigned"] += page.evaluate(gate.UNSIGNED)
            page.wait_for_timeout(200)
            facts["faint"]["dark"] += page.evaluate(gate.CONTRAST, 4.5)

    def look(name):
        for last in (False, True):
            if name in found:
                break
            try:
                visit_once(name)
            except Error:  # a tab that crashed says nothing of the page: once more
                found.pop(name, None)
                if last:
                    raise
        return found[name]

    return look


def test_the_front_door_leads_to_the_landing_page(book):
    assert 'url=nbs/index.html' in (book / "index.html").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(name, survey):
    page = survey(name)
    assert page["complaints"] == []
    assert page["unmounted"] == 0
    assert page["unnamed"] == [], "pictures of players without a name"
    for widget in page["widgets"]:
        assert widget.get("mounted") == "1" and widget.get("ready") == "1" and "error" not in widget, widget
    math = page["math"]
    assert math["wrong"] == [] and math["shown"] >= math["written"]
    for image in page["images"]:
        assert image["wide"] > 0, f"does not show: {image['src']}"
        assert image["alt"].strip() and not re.search(r"\.(png|svg|jpe?g)$", image["alt"]), f"no alt text: {image['src']}"


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_telephone(name, survey):
    assert survey(name)["too_wide"] <= 1, "pixels to scroll sideways at 390 wide"


@pytest.mark.parametrize("name", PAGES)
def test_what_a_telephone_cuts_has_a_sign(name, survey):
    assert survey(name)["unsigned"] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_figures_letters_can_be_read_on_a_telephone(name, survey):
    assert survey(name)["shrunk"] == []


def test_no_figure_is_lettered_smaller_than_8_points():
    sizes = {(path.name, int(size)) for path in (ROOT / "nbs").glob("*.ipynb")
             for size in re.findall(r"fontsize=(\d+)", path.read_text(encoding="utf-8"))}
    assert len(sizes) > 20 and [found for found in sizes if found[1] < 8] == []


@pytest.mark.parametrize("name", ["index", "05_elbo", "08_collapse", "09g_live"])
def test_a_telephones_controls_have_room_for_a_finger(name, book, browser):
    with visit(browser, book / "nbs" / f"{name}.html", width=390, height=844, has_touch=True, is_mobile=True) as seen:
        assert seen.page.evaluate(gate.SMALL, 40) == []


@pytest.mark.parametrize("name", pages.chapters())
def test_prose_before_code_and_nothing_to_scroll_sideways(name, survey):
    assert survey(name)["measured"].faults == []


def test_the_table_of_pages(survey, measure):
    listed = [survey(name)["measured"] for name in pages.chapters()]
    measure(pages.table(listed))
    known = {page.name: page for page in listed}
    assert set(pages.EXCEPTIONS) <= set(known), "exceptions for chapters that are not there"
    assert all(reason for allowed in pages.EXCEPTIONS.values() for reason in allowed.values())


@pytest.mark.parametrize("name", handouts.listed())
def test_a_demonstration_stands_alone_and_plays_with_one_click(name, book, browser):
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    base = ini["DEFAULT"]["doc_host"] + ini["DEFAULT"]["doc_baseurl"]
    file = book / f"{handouts.page_of(name)}.html"
    assert gate.misdescribed(file, book, base) == []
    with visit(browser, file) as seen:
        seen.page.locator("button.mv-play").first.click()
        assert played(seen.page.locator(".mv-widget").first)
        assert all(image["wide"] > 0 for image in seen.survey()["images"]) and seen.complaints == []
        seen.page.locator("p.mv-send a").last.click()
        seen.page.locator(f".mv-send a[href='{file.name}']").wait_for(state="attached")  # the chapter leads back


def test_folded_code_opens_copies_and_is_found(book, browser):
    "Without scripts it opens, with them the copy button has every line as it was written."
    file = book / "nbs" / "06_annealing.html"
    with visit(browser, file, java_script_enabled=True) as seen:
        fold = seen.page.locator("details.mv-fold").nth(1)
        code = fold.locator("div.cell_input pre")
        assert not code.is_visible()
        fold.locator("summary").click()
        assert code.is_visible() and not fold.locator(".mv-abstract").is_visible()
        written = seen.page.evaluate("e => e.cloneNode(true).innerText", code.element_handle())  # what the button copies
        cells = [re.sub(r"(?m)^#\s*\|.*\n?", "", c.source).strip()
                 for c in nbformat.read(ROOT / "nbs" / "06_annealing.ipynb", as_version=4).cells]
        assert written.strip() in cells


@pytest.mark.parametrize("name", PAGES)
def test_every_formula_is_set(name, survey):
    assert survey(name)["stray_tex"] == []


@pytest.mark.parametrize("name", PAGES)
def test_outputs_speak_to_readers(name, survey):
    assert survey(name)["printouts"] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_control_has_a_name(name, survey):
    assert survey(name)["nameless"] == []


@pytest.mark.parametrize("name", PAGES)
def test_ticks_and_titles_have_room(name, survey):
    "At 1440 and at 390 pixels."
    assert survey(name)["crowded"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_text_stands_out(name, scheme, survey):
    assert survey(name)["faint"][scheme] == []


@pytest.mark.parametrize("name", PAGES)
def test_paper_loses_nothing(name, survey):
    assert survey(name)["cut_on_paper"] == [] and survey(name)["folded_on_paper"] == []


@pytest.mark.parametrize("name", PAGES)
def test_pictures_last_as_long_as_their_sounds(name, book):
    pairs = gate.lengths(book / f"{name}.html")
    assert [(kind, heard, seen) for kind, heard, seen in pairs if not abs(heard - seen) < 0.1] == []


def test_the_front_page_and_others_play_enough_to_judge(book):
    assert sum(len(gate.lengths(book / f"{name}.html")) for name in PAGES) > 300


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is_to_those_who_link_to_it(name, book):
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    base = ini["DEFAULT"]["doc_host"] + ini["DEFAULT"]["doc_baseurl"]
    assert gate.misdescribed(book / f"{name}.html", book, base) == []


@pytest.mark.parametrize("key", ["title", "description", "og:image"])
def test_no_two_pages_are_described_alike(key, book):
    said = [gate.head(book / f"{name}.html")[key] for name in PAGES]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(("name", "width", "slower"), [
    ("index", 1440, 1), ("index", 1280, 1), ("index", 390, 1), ("08_collapse", 390, 1), ("A3_files", 1280, 1),
    ("hear_ladder", 390, 3)])
def test_a_page_does_not_jump(name, width, slower, book, browser, measure):
    "A short page also on a slow machine, where its text is there long before its widgets."
    with visit(browser, book / "nbs" / f"{name}.html", width=width, height=844, slower=slower) as seen:
        seen.page.wait_for_timeout(500)
        shift = seen.page.evaluate(gate.SHIFT)
    measure(f"{name}, {width} px: layout shift {shift:.3f}")
    assert shift < 0.1


@pytest.mark.parametrize("width", [1280, 1440])
def test_the_landing_pages_code_is_seen_whole(width, book, browser):
    with visit(browser, book / "nbs" / "index.html", width=width) as seen:
        assert seen.page.evaluate(gate.CUT, ".bd-article pre") == []


def test_the_keyboards_place_is_always_seen(book, browser):
    "The ring, on everything that the Tab key reaches above the text and on some of what stands in it."
    with visit(browser, book / "nbs" / "06_annealing.html") as seen:
        assert gate.ringless(seen.page, 60) == []


def test_contents_and_route_call_a_chapter_by_one_name(survey, book, browser):
    with visit(browser, book / "nbs" / "index.html") as seen:
        names = seen.page.evaluate("""() => [...document.querySelectorAll('.bd-article table a, .bd-sidebar-primary .nav a')]
            .map((a) => [a.href.split('/').pop(), a.textContent.replace(/\\s+/g, ' ').trim()])""")
    called = {}
    for file, name in names:
        called.setdefault(file, set()).add(name)
    chapters = [name.rpartition("/")[2] + ".html" for name in PAGES if re.search(r"/(\d|[A-Z]\d)", name)]
    assert {file: called.get(file, set()) for file in chapters if len(called.get(file, ())) != 1} == {}


def test_every_captioned_figure_of_a_chapter_has_its_number(book):
    found = {name: (book / f"{name}.html").read_text(encoding="utf-8") for name in PAGES if re.search(r"/(\d|[A-Z]\d)", name)}
    for name, text in found.items():
        numbers = [re.search(r'caption-number">Figure [^.<]+\.(\d+)<', caption) for caption in text.split("<figcaption")[1:]]
        assert [n and int(n[1]) for n in numbers] == [*range(1, len(numbers) + 1)], name
    assert sum(text.count("<figcaption") for text in found.values()) > 90


@pytest.mark.parametrize("name", PAGES)
def test_directives_and_hidden_cells_do_not_show(name, survey):
    page = survey(name)
    assert [line for line in page["text"].splitlines() if re.match(r"\s*#\s*\|", line)] == []
    assert "nbdev_export()" not in "\n".join(page["code"])
    notebook = ROOT / f"{name}.ipynb"
    if notebook.exists():
        cells = nbformat.read(notebook, as_version=4).cells
        hidden = [re.sub(r"(?m)^#\s*\|.*\n?", "", c.source).strip() for c in cells
                  if c.cell_type == "code" and re.search(r"(?m)^#\s*\|\s*hide\s*$", c.source)]
        assert [code for code in hidden if code in page["code"]] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name, survey, book):
    root = book.as_uri()
    for link in sorted(set(survey(name)["links"])):
        url, anchor = urldefrag(link)
        if not url.startswith(root):
            continue
        path = Path(unquote(urlparse(url).path))
        assert path.exists(), f"{name} links to {link}"
        if anchor and path.suffix == ".html":
            target = path.relative_to(book).with_suffix("").as_posix()
            ids = survey(target)["ids"] if target in PAGES else re.findall(r'id="([^"]+)"', path.read_text())
            assert unquote(anchor) in ids, f"{name} links to {link}"


def played(element, timeout=10_000):
    "The name of what `element` plays, once the sound has started."
    element.page.wait_for_function("e => e.dataset.played", arg=element.element_handle(), timeout=timeout)
    return element.get_attribute("data-played")


def test_the_map_answers(book, browser, survey, measure):
    "On the first screen: hover names a clip, click plays it, an empty place plays what the decoder makes of it."
    with visit(browser, book / "nbs" / "index.html") as seen:
        page = seen.page
        el = page.locator(".mv-widget", has=page.locator(".mv-map")).first
        canvas, tip = el.locator("canvas.mv-canvas"), el.locator(".mv-tip")
        box = canvas.bounding_box()
        assert box["y"] < 600, "the map does not stand on the first screen"
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        point = None
        for k in range(40 * 30):  # pass over the plane until a clip answers
            x, y = box["x"] + box["width"] * (k % 40 + .5) / 40, box["y"] + box["height"] * (k // 40 + .5) / 30
            page.mouse.move(x, y)
            if tip.is_visible():
                point = x, y
                break
        assert point, "no clip answers the pointer"
        name = tip.locator("b").inner_text()
        assert name
        assert tip.locator("img").count() == 1, "hovering shows the clip's spectrogram"
        assert el.get_attribute("data-played") is None
        page.mouse.click(*point)
        assert played(el) == name
        assert el.get_attribute("data-error") is None
        page.keyboard.press("Escape")
        canvas.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_function("([e, was]) => e.dataset.played !== was && e.dataset.played === e.dataset.selected",
                               arg=[el.element_handle(), name], timeout=10_000)
        assert seen.complaints == []
    measure(f"landing page: first widget after {survey('nbs/index')['firstWidget'] / 1000:.2f} s (aim: 2 s)")


def test_every_page_with_players_plays(book, browser, survey):
    "The first player of each page: press, and it plays."
    pages = 0
    for name in PAGES:
        if not survey(name)["widgets"]:
            continue
        with visit(browser, book / f"{name}.html") as seen:
            buttons = seen.page.locator(".mv-widget:not(:has(.mv-map)) button.mv-play")
            if buttons.count() == 0:
                continue
            pages += 1
            button = buttons.first
            el = seen.page.locator(".mv-widget", has=seen.page.locator("button.mv-play")).filter(
                has_not=seen.page.locator(".mv-map")).first
            button.evaluate("""(e) => {  // a busy machine may look when a short sound is over
                new MutationObserver(() => { if (e.ariaPressed === 'true') e.dataset.was = 'pressed'; })
                    .observe(e, { attributes: true, attributeFilter: ['aria-pressed'] });
            }""")
            button.click()
            assert played(el), name
            assert button.get_attribute("data-was") == "pressed", name
            assert seen.complaints == [], name
    assert pages >= 3


def test_plain_players_play(book, browser):
    "`<audio>` elements, where a chapter uses them, hold sound that this browser decodes."
    for name in PAGES:
        if "<audio" not in (book / f"{name}.html").read_text():
            continue
        with visit(browser, book / f"{name}.html") as seen:
            seconds = seen.page.evaluate("""async () => {
                const audio = document.querySelector('audio');
                await audio.play();
                await new Promise((done) => setTimeout(done, 400));
                return audio.currentTime;
            }""")
            assert seconds > 0, name


def test_dark_mode_is_one_click(book, browser):
    with visit(browser, book / "nbs" / "03_mel.html", color_scheme="light") as seen:
        page = seen.page
        paper = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(paper)
        for _ in range(3):  # automatic, light, dark
            page.locator("button.theme-switch-button:visible").first.click()
            if page.evaluate("document.documentElement.dataset.theme") == "dark":
                break
        dark = page.evaluate(paper)
        assert dark != light and max(map(int, re.findall(r"\d+", dark)[:3])) < 60
    with visit(browser, book / "nbs" / "03_mel.html", color_scheme="dark") as seen:
        assert seen.page.evaluate(paper) == dark, "the system's choice is followed"


def test_search_finds_a_chapter(book, browser):
    with visit(browser, book / "search.html", query="?q=spectrogram") as seen:
        results = seen.page.locator("#search-results ul.search li a")
        results.first.wait_for(timeout=15_000)
        assert results.count() > 0
        assert seen.remote == []

