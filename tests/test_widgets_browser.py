"musevae.widgets in a real browser, on pages of their own: pointer, keys, sound, no kernel, no network."

import json
from importlib.resources import files

import numpy as np
import pytest

from musevae import widgets as w
from musevae.widgets.scatter import Answer

RATE = 22050
GENRES = ["blues", "jazz", "metal"]


def tone(hz, seconds=3.0):
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hz * t) * np.exp(-(t % 0.5) * 4)).astype(np.float32)


@pytest.fixture(scope="module")
def visit(browser, tmp_path_factory):
    "`visit(widgets)`: their page from the file system; afterwards, nothing was asked of a network, nothing complained."
    folder, pages, faults = tmp_path_factory.mktemp("pages"), [], []

    def open_page(widgets, *, alone=True, **context):
        file = folder / f"{len(pages)}.html"
        file.write_text(w.standalone_html(widgets, title="a page"), encoding="utf8")
        page = browser.new_context(offline=True, **{"viewport": {"width": 1000, "height": 800}, **context}).new_page()
        pages.append(page)
        page.set_default_timeout(5000)
        page.on("request", lambda r: r.url.startswith(("file:", "blob:", "data:")) or faults.append(r.url))
        page.on("console", lambda m: m.type in ("error", "warning") and faults.append(m.text))
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-widgets=mounted]")
        assert page.locator(".mv[data-ready='1']").count() == (len(widgets) if isinstance(widgets, list) else 1)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert faults == []


def played(page, name, nth=0):
    "Wait until the widget says that `name` sounds."
    done = "([k, name]) => document.querySelectorAll('.mv')[k].dataset.played === name"
    page.wait_for_function(done, arg=[nth, name])


def the_map():
    rng = np.random.default_rng(0)
    centres = np.repeat([[-4, 0, 0], [4, 0, 3], [0, 5, -3]], 8, 0)
    points = centres + 0.5 * rng.standard_normal((24, 3))
    sounds = [w.mp3(tone(220 + 20 * i, 1)) for i in range(24)]
    images = [w.spectrogram_png(rng.random((32, 44)), seconds=1) for _ in range(24)]

    def decode(places):
        return [(tone(300, 0.5), np.full((32, 22), 0.5))] * len(places)

    return w.LatentMap(
        points,
        genres=np.repeat(GENRES, 8),
        names=[f"clip {i}" for i in range(24)],
        sounds=sounds,
        images=images,
        explained=[0.5, 0.3, 0.1],
        decoded=w.decoded_grid(points, decode, shape=(3, 4), size=(8, 8)),
        tracks=[f"clip {i // 4}" for i in range(24)],
        arrows=[(points[0], points[0] + 1, "+6 dB")],
    )


def walk_to_any(page):
    "Walk from nowhere to some clip with the keyboard; its name."
    page.locator(".mv-canvas").focus()
    page.keyboard.press("ArrowRight")
    return page.locator(".mv-what b").inner_text()


@pytest.fixture
def map_page(visit):
    return visit(the_map())


def test_map_shows_plays_and_walks(map_page):
    page, name = map_page, None
    name = walk_to_any(page)
    assert page.locator(".mv-tip").is_visible() and name in page.locator(".mv-tip").inner_text()
    assert name in page.locator("[role=status]").inner_text()
    page.keyboard.press("Enter")
    played(page, name)
    assert page.locator(".mv-side .mv-play").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert page.locator(".mv-side .mv-play").get_attribute("aria-pressed") == "false"
    walked = {name}
    for key in ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"] * 4:
        page.keyboard.press(key)
        walked.add(page.locator(".mv-what b").inner_text())
    assert len(walked) >= 4
    page.locator(".mv-chip").first.click()  # a neighbour
    played(page, page.locator(".mv-what b").inner_text())


def test_map_answers_the_pointer(map_page):
    page = map_page
    canvas = page.locator(".mv-canvas")
    box = canvas.bounding_box()
    found = None
    for x in range(30, int(box["width"]), 18):  # sweep until a point is under the pointer
        for y in range(20, int(box["height"]), 18):
            page.mouse.move(box["x"] + x, box["y"] + y)
            if page.locator(".mv-tip").is_visible():
                found = x, y
                break
        if found:
            break
    name = page.locator(".mv-tip b").inner_text()
    assert page.locator(".mv-tip img").evaluate("e => e.decode().then(() => e.naturalWidth)") == 44
    assert page.locator(".mv-tip span").inner_text() in GENRES
    page.mouse.down()
    page.mouse.up()
    played(page, name)
    assert page.locator(".mv-shot").evaluate("e => e.decode().then(() => e.naturalWidth)") == 44
    page.locator(".mv").evaluate("e => delete e.dataset.played")
    # an empty place: the middle between three genres
    canvas.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.72})
    played(page, "decoded")
    assert "decoded, no clip here" in page.locator(".mv-what").inner_text()
    canvas.press("Shift+ArrowLeft")
    assert "component 1" in page.locator(".mv-what").inner_text()


def test_map_legend_axes_zoom_and_theme(map_page):
    page = map_page
    ink = "() => document.querySelector('.mv-canvas').toDataURL()"

    def changes(act):
        before = page.evaluate(ink)
        act()
        page.wait_for_function(f"before => ({ink})() !== before", arg=before)

    buttons = page.locator(".mv-genre")
    assert [b.split() for b in buttons.all_inner_texts()] == [[g, "8"] for g in GENRES]
    changes(lambda: buttons.nth(1).click())
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["true", "false", "true"]
    for _ in range(12):  # walking never meets a hidden genre
        page.locator(".mv-canvas").press("ArrowRight")
        assert page.locator(".mv-kind").inner_text() != "jazz"
    buttons.nth(2).dblclick()
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["false", "false", "true"]
    buttons.nth(2).dblclick()
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["true"] * 3
    changes(lambda: page.get_by_label("horizontal axis").select_option("2"))
    assert page.get_by_label("horizontal axis").locator("option").all_inner_texts()[2] == "component 3 · 10.0 %"
    page.get_by_label("horizontal axis").select_option("0")
    changes(lambda: page.get_by_role("button", name="zoom in").click())
    changes(lambda: page.get_by_role("button", name="whole map").click())
    changes(lambda: page.get_by_role("button", name="ellipses").click())
    changes(lambda: page.get_by_role("button", name="decoder").click())
    changes(lambda: page.evaluate("document.documentElement.style.colorScheme = 'dark';"
                                  " document.documentElement.dataset.theme = 'dark'"))


def test_a_decoder_in_the_page_answers_for_a_place(map_page):
    "A third provider, registered by a script of the page, is asked first; when it goes, the stored grid answers again."
    page = map_page
    canvas = page.locator(".mv-canvas")
    box = canvas.bounding_box()
    empty = {"x": box["width"] * 0.5, "y": box["height"] * 0.72}
    page.evaluate("""(mp3) => { globalThis.asked = []; musevaePlaces.push({
      place: async (z, { axes, model }) => {
        asked.push([z, axes, model.get("components")]);
        return { z, sound: Uint8Array.from(mp3), picture: "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=", from: "page" };
      } }); }""", list(w.mp3(tone(500, 1.0))))
    canvas.click(position=empty)
    played(page, "decoded")
    [[z, axes, components]] = page.evaluate("asked")
    assert axes == [0, 1] and components == len(z) == 3 and z[2] == 0
    assert f"component 1: {z[0]:.2f}, component 2: {z[1]:.2f}" == page.locator(".mv-kind").inner_text()  # that very place
    assert page.locator(".mv-shot").get_attribute("src").startswith("data:image/gif")
    assert page.evaluate("musevaeStage.owner.duration") == pytest.approx(1, abs=0.1)  # the grid's sounds last half a second
    page.evaluate("musevaePlaces.pop()")
    canvas.click(position=empty)
    page.wait_for_function("document.querySelector('.mv-shot').src.startsWith('blob:')")
    assert len(page.evaluate("asked")) == 1
    assert page.locator(".mv-kind").inner_text() != f"component 1: {z[0]:.2f}, component 2: {z[1]:.2f}"  # the nearest cell


def test_a_map_with_words_says_where_they_come_from_and_whom_it_carries(visit):
    rng = np.random.default_rng(0)
    points = np.column_stack([np.repeat([-4.0, 4.0], 4), *rng.standard_normal((2, 8))])

    def decode(places):
        return [Answer(tone(300, 0.5), np.full((32, 22), 0.5), f"clip {int(p[0] > 0) * 4}") for p in places]

    page = visit(w.LatentMap(
        points, genres=GENRES[:2] * 4, names=[f"clip {i}" for i in range(8)], explained=[0.5, 0.3, 0.1],
        axis_ends=[("sparse", "full"), ("dark", "bright"), ("", "")], notes=["PC1: fullness", "PC2: centroid", "PC3: nothing"],
        decoded=w.decoded_grid(points, decode, shape=(3, 4), size=(8, 8))))
    note = page.locator(".mv-note span")
    assert not note.first.is_visible()
    page.get_by_text("what the axes are").click()
    assert note.first.is_visible()
    assert note.all_inner_texts() == ["→ sparse ← → full · 50.0 %: PC1: fullness.", "↑ dark ← → bright · 30.0 %: PC2: centroid."]
    canvas = page.locator(".mv-canvas")
    box = canvas.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(2, abs=0.02)
    canvas.click(position={"x": box["width"] * 0.6, "y": box["height"] * 0.1})
    played(page, "decoded")
    assert "clip 4, carried here" in page.locator(".mv-what").inner_text()
    assert "towards full" in page.locator(".mv-kind").inner_text() and "clip 4" in page.locator("[role=status]").inner_text()
    page.get_by_label("horizontal axis").select_option("2")
    assert note.all_inner_texts()[0] == "→ component 3 · 10.0 %: PC3: nothing."


def test_a_slow_answer_for_a_place_that_is_left_is_not_heard(map_page):
    page = map_page
    canvas = page.locator(".mv-canvas")
    box = canvas.bounding_box()
    page.evaluate("""(mp3) => musevaePlaces.push({ place: (z, { signal }) => new Promise((resolve) => {
      globalThis.finish = () => { resolve({ z, sound: Uint8Array.from(mp3), picture: "", from: "page" }); return signal.aborted; };
    }) })""", list(w.mp3(tone(500, 0.5))))
    canvas.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.72})
    assert "decoded, no clip here" in page.locator(".mv-what").inner_text()
    name = walk_to_any(page)
    assert page.evaluate("finish()") is True
    page.keyboard.press("Enter")
    played(page, name)
    assert name in page.locator(".mv-what").inner_text()


def test_map_of_many_points_is_quick(visit, measure):
    rng = np.random.default_rng(0)
    n = 6000  # all of GTZAN
    genres, names = [f"genre {i % 10}" for i in range(n)], [f"clip {i}" for i in range(n)]
    page = visit(w.LatentMap(rng.normal(size=(n, 8)), genres=genres, names=names))
    move = """async () => {
      const canvas = document.querySelector('.mv-canvas'), {left, top} = canvas.getBoundingClientRect();
      const begun = performance.now();
      for (let k = 0; k < 20; k++) {
        const at = {clientX: left + 100 + 20 * k, clientY: top + 200, pointerType: 'mouse'};
        canvas.dispatchEvent(new PointerEvent('pointermove', at));
        await new Promise(requestAnimationFrame);
      }
      return (performance.now() - begun) / 20; }"""
    frame = min(page.evaluate(move) for _ in range(3))  # the least: other work on the machine only adds
    measure(f"latent map, {n} points: {frame:.0f} ms a frame under the pointer")
    assert frame < 60


def test_map_fits_a_telephone_and_a_finger(visit):
    page = visit(the_map(), viewport={"width": 360, "height": 700}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    name = walk_to_any(page)
    page.locator(".mv-side .mv-play").tap()
    played(page, name)


def test_player_plays_seeks_and_keys(visit):
    page = visit(w.Player(tone(440), title="a tone"))
    slider, button = page.get_by_role("slider"), page.get_by_role("button")
    assert button.get_attribute("aria-label") == "play a tone"
    button.click()
    played(page, "a tone")
    page.wait_for_function("+document.querySelector('.mv-spec').getAttribute('aria-valuenow') > 0.2")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "1.3 s" and slider.get_attribute("aria-valuenow") == "1.25"
    assert page.locator(".mv-time").inner_text() == "1.3 / 3.0 s"
    page.keyboard.press(" ")
    page.wait_for_function("+document.querySelector('.mv-spec').getAttribute('aria-valuenow') > 1.3")
    page.keyboard.press(" ")
    assert button.get_attribute("aria-pressed") == "false"
    page.evaluate("""() => {
      window.seen = [];
      const spec = document.querySelector('.mv-spec');
      new MutationObserver(() => seen.push(+spec.getAttribute('aria-valuenow'))).observe(spec, { attributes: true });
    }""")
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] * 0.8, "y": 20})  # a click seeks, and plays from there
    page.wait_for_function("seen.length > 3 && seen.at(-1) === 0")  # to its end, and back to the start
    seen = page.evaluate("seen.filter((t) => t > 0)")
    assert seen == sorted(seen) and 2.3 < seen[0] < 2.6 and seen[-1] <= 3
    assert button.get_attribute("aria-pressed") == "false"


def test_one_sound_at_a_time(visit):
    page = visit([w.Players({"low": tone(220), "high": tone(880)}), w.Compare(tone(300), tone(301))])
    buttons = page.locator(".mv-play")
    for k, name, nth in ((0, "low", 0), (1, "high", 0), (2, "original", 1), (0, "low", 0)):
        buttons.nth(k).click()
        played(page, name, nth)
        assert [b.get_attribute("aria-pressed") for b in buttons.all()] == [str(i == k).lower() for i in range(3)]


def test_compare_switches_at_the_same_position(visit):
    page = visit(w.Compare(tone(440), tone(440) * 0.1, labels=("original", "copy")))
    page.locator(".mv-play").click()
    played(page, "original")
    page.wait_for_function("+document.querySelector('.mv-spec').getAttribute('aria-valuenow') > 0.3")
    page.keyboard.press("b")
    played(page, "copy")
    at = page.evaluate("""() => {
      const before = musevaeStage.owner.position;
      for (const button of document.querySelectorAll('.mv-switch')) button.click();
      const heads = [...document.querySelectorAll('.mv-spec')].map((e) => e.getAttribute('aria-valuenow'));
      return [before, musevaeStage.owner.position, ...heads]; }""")
    assert abs(at[1] - at[0]) < 0.05 and at[2] == at[3]
    switches = page.locator(".mv-switch")
    assert [s.get_attribute("aria-pressed") for s in switches.all()] == ["false", "true"]
    switches.first.click()
    played(page, "original")
    assert page.locator(".mv-play").get_attribute("aria-pressed") == "true"  # it went on
    # level-matched: the copy was a tenth as loud
    peak = "([k]) => musevaeStage.owner.decoded.then((b) => b[k].getChannelData(0).reduce((m, v) => Math.max(m, v), 0))"
    assert page.evaluate(peak, [0]) == pytest.approx(page.evaluate(peak, [1]), rel=0.05)


def test_morph_goes_on_under_the_slider(visit):
    frames = [(tone(220 + 110 * k), np.full((128, 130), k / 4)) for k in range(5)]
    page = visit(w.Morph(frames, ("low", "high")))
    slider = page.get_by_role("slider", name="from low to high")
    before = page.locator(".mv-spec img").get_attribute("src")
    page.locator(".mv-play").click()
    played(page, "low")
    slider.focus()
    page.keyboard.press("ArrowRight")
    played(page, "25 % of the way")
    page.keyboard.press("End")
    played(page, "high")
    assert page.locator(".mv-spec img").get_attribute("src") != before
    assert page.locator(".mv-play").get_attribute("aria-pressed") == "true"


def test_schedule_is_the_librarys(visit):
    annealing = pytest.importorskip("musevae.annealing")
    page = visit(w.Schedule("cyclical", epochs=100, steps=80, start=0.1, end=0.9, cycles=3, ramp=0.4, steepness=7))
    core = (files("musevae") / "static" / "core.js").read_text("utf8")
    source = core + (files("musevae") / "static" / "schedule.js").read_text("utf8")
    options = {"steps": 80, "start": 0.1, "end": 0.9, "cycles": 3, "ramp": 0.4, "steepness": 7}
    steps = [0, 0.5, 1, 13.3, 26.6, 26.7, 40, 66.6666, 79.999, 80, 81, 1e6]
    script = """async ([source, kinds, options, steps]) => {
      const { beta } = await import(URL.createObjectURL(new Blob([source], {type: 'text/javascript'})));
      return kinds.map((kind) => steps.map((step) => beta({kind, ...options}, step))); }"""
    kinds = list(annealing.SCHEDULES)
    for kind, ours in zip(kinds, page.evaluate(script, [source, kinds, options, steps]), strict=True):
        made = annealing.schedule(**w.Schedule(kind, **options).options)
        assert ours == pytest.approx([made(step) for step in steps], abs=1e-12), kind
    page.get_by_role("button", name="cosine").click()
    page.get_by_label("β at the end").fill("0.5")
    assert page.locator("code").inner_text() == 'schedule("cosine", steps=80, start=0.1, end=0.5)'
    shown = [float(b) for b in page.locator(".mv").get_attribute("data-beta").split()]
    made = annealing.cosine(80, start=0.1, end=0.5)
    assert shown == pytest.approx([made(step) for step in (0, 25, 50, 75, 100)], abs=1e-6)
    assert page.get_by_label("cycles").is_hidden()
    page.locator(".mv-chart").press("PageUp")
    assert page.locator(".mv-readout").inner_text() == f"epoch 10.0: β = {made(10):.3f}"


def test_a_sound_that_cannot_be_decoded_says_so(visit):
    player = w.Player(tone(440), title="broken")
    player.sounds, player.sounds_end = b"no sound", [8]
    page = visit(player)
    page.locator(".mv-play").click()
    page.wait_for_selector(".mv[data-error]")
    assert "No sound" in page.get_by_role("alert").inner_text()
    assert page.locator(".mv").get_attribute("data-played") is None


def test_a_widget_that_fails_leaves_the_others(browser, tmp_path):
    class Broken(w.Player):
        _esm = "export default { render() { throw new Error('on purpose'); } }"

    file = tmp_path / "page.html"
    file.write_text(w.standalone_html([Broken(tone(440)), w.Player(tone(440))], title="a page"), encoding="utf8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-widgets=mounted]")
    assert "on purpose" in page.locator("body").inner_text()
    assert page.locator(".mv[data-ready='1']").count() == 1
    page.close()


def test_dark_light_and_reduced_motion(visit):
    looks = set()
    for scheme in ("light", "dark"):
        page = visit(the_map(), color_scheme=scheme, reduced_motion="reduce")
        colour = page.evaluate("getComputedStyle(document.querySelector('.mv')).color")
        looks.add(json.dumps(colour))
        walk_to_any(page)
        page.keyboard.press("Enter")
        page.wait_for_selector(".mv[data-played]")
    assert len(looks) == 2


def a_level(**options):
    stops = [(b, tone(220 + 110 * k, 1.0), np.full((32, 43), k / 4)) for k, b in enumerate((1, 10, 100, 1000))]
    return w.Level(4.0 * 2.0 ** (-np.arange(60) / 4), outside=0.3, noise=0.01, bins=1000, stops=stops, title="a toy", **options)


def test_level_runs_along_the_closed_form_and_sounds(visit):
    level = a_level(marks=[("a model", 50.0, 9.0)])
    page = visit(level)
    el, slider = page.locator(".mv"), page.get_by_role("slider", name="β, the price of a nat")
    page.locator(".mv-play").click()
    played(page, "β = 1")
    seen = []
    for step in (0, 77, 150, 201, 300):
        slider.fill(str(step))
        low, high = level.span
        beta = low * (high / low) ** (step / 300)
        seen.append([float(v) for v in el.get_attribute("data-level").split()])
        assert seen[-1] == pytest.approx(level.at(beta), rel=1e-5, abs=1e-5)
        assert f"{level.at(beta)[0]} of 60 units" in slider.get_attribute("aria-valuetext")
    units, nats, db = np.array(seen).T
    assert (np.diff(units) < 0).all() and (np.diff(nats) < 0).all() and (np.diff(db) > 0).all() and units[-1] == 0
    played(page, "β = 1,000")  # it went on, and the nearest stop is heard
    assert page.locator(".mv-play").get_attribute("aria-pressed") == "true"
    assert "picture and sound: β = 1,000: 0 of 60 units, 0 nats" in page.locator(".mv-heard").inner_text()
    slider.press("Home")
    played(page, "β = 1")
    words = page.evaluate("[...document.querySelectorAll('.mv-level canvas')].map((c) => c.mvLabels.map((l) => l[0]))")
    assert "a model" in words[1] and "drowns at β" in words[0] and "rate, nats per window" in words[1]


def test_the_water_is_taken_with_the_mouse_and_the_curve_is_clicked(visit):
    page = visit(a_level())
    left, right = page.locator(".mv-level canvas").nth(0), page.locator(".mv-level canvas").nth(1)
    level = "+document.querySelector('.mv').dataset.level.split(' ')[0]"
    box = left.bounding_box()
    counts = []
    for share in (0.7, 0.5, 0.3):
        left.click(position={"x": box["width"] * 0.6, "y": box["height"] * share})
        counts.append(page.evaluate(level))
    assert counts[0] > counts[1] > counts[2]
    right.click(position={"x": right.bounding_box()["width"] - 14, "y": 150})
    assert page.evaluate(level) > counts[-1]


def test_level_fits_a_telephone(visit):
    page = visit(a_level(), viewport={"width": 360, "height": 700}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = page.evaluate("[...document.querySelectorAll('.mv-level canvas')].map((c) => c.getBoundingClientRect().top)")
    assert heights[1] > heights[0] + 100  # one below the other
    page.locator(".mv-play").tap()
    played(page, "β = 1")


def test_morph_says_a_label_at_every_stop(visit):
    frames = [(tone(220 + 110 * k), np.full((128, 130), k / 4)) for k in range(3)]
    page = visit(w.Morph(frames, ["β = 1", "β = 10", "β = 3000"]))
    slider = page.get_by_role("slider", name="from β = 1 to β = 3000")
    page.locator(".mv-play").click()
    played(page, "β = 1")
    slider.press("ArrowRight")
    played(page, "β = 10")
    assert page.locator(".mv-where").inner_text() == "β = 10" and slider.get_attribute("aria-valuetext") == "β = 10"
