"The latent map's scripts, part by part, in a browser without a page: geometry, colours, who answers for a place."

import numpy as np
import pytest

from musevae.widgets.page import scripts

SOURCE = scripts("core.js", "plane.js", "place.js")


@pytest.fixture(scope="module")
def js(browser):
    "`js(body, *arguments)`: what a function body makes of the arguments a, b, c …, with the module's exports at hand as `m`."
    page = browser.new_page()
    page.evaluate("""async (source) => {
        globalThis.m = await import(URL.createObjectURL(new Blob([source], { type: 'text/javascript' }))); }""", SOURCE)
    call = "([body, args]) => new (Object.getPrototypeOf(async () => {}).constructor)('a', 'b', 'c', 'd', body)(...args)"
    yield lambda body, *args: page.evaluate(call, [body, list(args)])
    page.close()


CLOUD = np.array([[0, 0, 9], [3, 1, -2], [-2, 4, 5], [1, -3, 1]], float)
CLIPS = {"n": 4, "k": 3, "data": CLOUD.ravel().tolist(), "genre": [0, 1, 0, 1], "tracks": [], "arrows": []}


def view_of(js, width=600, height=400, axes=(0, 1), **how):
    "What the view does to corners and back, as numbers."
    return js("""const v = m.viewOf(m.bounds(a, b), c[0], c[1], d);
        return {unit: v.unit, at: [0, 1, 2, 3].map((i) => m.at(v, a, i, b)),
                back: [0, 1, 2, 3].map((i) => v.back(...m.at(v, a, i, b)))};""", CLIPS, list(axes), [width, height], how)


@pytest.mark.parametrize("how", [{}, {"zoom": 3, "pan": [40, -15]}])
@pytest.mark.parametrize("axes", [(0, 1), (2, 0)])
def test_the_plane_has_one_unit_and_leads_back(js, how, axes):
    seen = view_of(js, axes=axes, **how)
    wanted = CLOUD[:, axes]
    assert np.allclose(seen["back"], wanted)
    moved = np.array(seen["at"])
    assert np.allclose(moved[1] - moved[0], (wanted[1] - wanted[0]) * [seen["unit"], -seen["unit"]])  # up is up
    if not how:
        assert (moved >= 33.9).all() and (moved <= [566.1, 366.1]).all()  # all of it, within the margin
        assert np.isclose(np.ptp(moved, 0) - [532, 332], 0).any()  # and no smaller than it must be


def test_arrows_are_within_the_bounds(js):
    clips = {**CLIPS, "arrows": [{"from": [0, 0, 0], "to": [7, -9, 0], "label": ""}]}
    assert js("return m.bounds(a, [0, 1])", clips) == [[-2, 7], [-9, 4]]


def test_a_zoom_keeps_the_place_under_the_pointer(js):
    stays = """const before = m.viewOf(m.bounds(a, [0, 1]), 600, 400, b), spot = [450, 90], at = before.back(...spot);
        const after = m.viewOf(m.bounds(a, [0, 1]), 600, 400, m.rescaled(b, c, spot, 600, 400));
        return [after.x(at[0]), after.y(at[1]), after.zoom];"""
    assert js(stays, CLIPS, {"zoom": 1.5, "pan": [10, 20]}, 2) == pytest.approx([450, 90, 3])
    assert js("return m.rescaled({zoom: 20, pan: [0, 0]}, 9, [1, 1], 600, 400).zoom") == 24
    assert js("return m.rescaled({zoom: 2, pan: [50, 60]}, 0.1, [1, 1], 600, 400)") == {"zoom": 1, "pan": [0, 0]}


def test_nearest_and_next_see_only_what_is_shown(js):
    find = """const v = m.viewOf(m.bounds(a, [0, 1]), 600, 400), spot = m.at(v, a, 1, [0, 1]);
        const shown = (i) => !b.includes(i);
        return [m.nearest(v, a, [0, 1], spot, c, shown), m.next(v, a, [0, 1], 0, [1, 0], shown)];"""
    assert js(find, CLIPS, [], 14) == [1, 1]
    assert js(find, CLIPS, [1], 14) == [-1, 0]  # hidden: nothing within reach, nobody to the right
    assert js(find, CLIPS, [1], 1e9)[0] in (0, 2, 3)


@pytest.mark.parametrize("tracks", [[], [0, 1, 0, 1]])
def test_neighbours_are_nearest_in_all_components(js, tracks):
    found = js("return m.neighbours(a, 0, 2)", {**CLIPS, "tracks": tracks})
    away = np.linalg.norm(CLOUD - CLOUD[0], axis=1)
    others = [i for i in (1, 2, 3) if not tracks or tracks[i] != tracks[0]]
    assert found == sorted(others, key=lambda i: away[i])[:2]


def test_the_ellipse_holds_half_of_a_gaussian(js):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 2)) @ np.array([[2, 0.5], [0, 0.7]]) + [3, -1]
    e = js("return m.ellipse(a)", points.tolist())
    c, s = np.cos(e["angle"]), np.sin(e["angle"])
    x, y = (points - [e["x"], e["y"]]).T
    inside = ((c * x + s * y) / e["r1"]) ** 2 + ((c * y - s * x) / e["r2"]) ** 2 < 1
    assert inside.mean() == pytest.approx(0.5, abs=0.03)
    assert js("return m.ellipse([[0, 0], [1, 1]])") is None


def test_ticks_are_round_and_about_90_px_apart(js):
    for zoom in (1, 2.7, 24):
        found = js("""const v = m.viewOf([[-4.1, 5.3], [-2, 6]], 700, 400, {zoom: a});
            return [m.ticks(v), v.unit, v.back(0, 400), v.back(700, 0)];""", zoom)
        lines, unit, low, high = found
        for values, least, most in ((lines["across"], low[0], high[0]), (lines["up"], low[1], high[1])):
            assert all(least <= v <= most for v in values) and values
            step = (values[1] - values[0]) if len(values) > 1 else None
            if step:
                assert 90 <= step * unit <= 230 and f"{step:.0e}"[0] in "125"


def test_marks_are_lighter_on_a_dark_page_only_where_they_must_be(js):
    palette = ["#bd1f01", "#3f90da"]
    light, dark = (js("return m.shades(a, b, c)", palette, *page) for page in
                   (("rgb(0, 0, 0)", "rgb(255, 255, 255)"), ("rgb(255, 255, 255)", "rgb(18, 18, 18)")))
    assert light["fills"] == palette and dark["fills"] == ["rgb(206 87 65)", "#3f90da"]
    assert js("return [m.contrast('#000000', '#ffffff'), m.luminance('#808080')]") == pytest.approx([21, 0.2159], abs=1e-3)
    assert js("return [m.mix('#000000', '#ffffff', 0.5), m.mix('rgb(10, 20, 30)', '#0a141e', 0.3)]") == [
        "rgb(128 128 128)", "rgb(10 20 30)"]


@pytest.mark.parametrize("paper", ["rgb(18, 18, 18)", "rgb(20, 24, 30)", "rgb(17, 17, 17)"])
def test_every_genre_is_seen_on_a_dark_page(js, paper):
    from musevae.corpus import GENRES, genre_style

    palette = [look["color"] for look in genre_style(GENRES).values()]
    fills = js("return m.shades(a, 'rgb(255, 255, 255)', b).fills", palette, paper)
    assert sum(f != p for f, p in zip(fills, palette, strict=True)) == 4
    assert min(js("return a.map((f) => m.contrast(f, b))", fills, paper)) > 3  # WCAG's least contrast of graphics


# --- who answers for a place -----------------------------------------------------------------------------------------

CELLS = {"axes": [0, 2], "x": [-1, 1, 3], "y": [0, 2], "images": [None] * 6, "sounds": [[k] if k != 4 else None for k in range(6)]}


def test_the_stored_grid_answers_with_its_nearest_cell(js):
    place = "return await m.storedGrid(a, (q) => `picture ${q}`).place(b, {axes: c})"
    assert js(place, CELLS, [2.2, 0, 1.9], [0, 2]) == {"z": [3, 0, 2], "sound": [5], "picture": "picture 5", "from": "grid"}
    assert js(place, CELLS, [-9, 0, -9], [0, 2])["z"] == [-1, 0, 0]
    assert js(place, CELLS, [1, 0, 2], [0, 2]) is None  # a cell without sound and picture
    assert js(place, CELLS, [1, 0, 2], [0, 1]) is None  # another plane
    assert js(place, {"sounds": [], "images": []}, [1, 0, 2], [0, 2]) is None  # no grid


def test_an_answer_says_whom_it_carries(js):
    carrying = {**CELLS, "carried": [f"clip {q}" for q in range(6)]}
    place = "return (await m.storedGrid(a, () => '').place(b, {axes: [0, 2]})).carried"
    assert js(place, carrying, [2.2, 0, 1.9]) == "clip 5" and js(place, CELLS, [2.2, 0, 1.9]) is None
    heard = KERNEL + "const found = ask([7, 0, 8]); answer(5); return (await found).carried ?? null;"
    assert js(heard, {"answer_carried": "clip 9"}) == "clip 9" and js(heard, {"answer_carried": ""}) is None


def test_an_axis_is_written_by_its_ends_or_by_its_name(js):
    script = """const written = [], pen = {measureText: (w) => ({width: 6 * w.length})};
        const view = m.viewOf(m.bounds(a, [0, 1]), 600, 300);
        m.paintAxisNames(pen, {view, axisNames: ["across", "up"], axisEnds: b, colour: () => ""},
          (words, x, y) => written.push([words, x < 300, y < 150]));
        return written;"""
    assert sorted(js(script, CLIPS, [["sparse", "full"], ["dark", "bright"]])) == sorted([
        ["full →", False, False], ["← sparse", True, False], ["↑ bright", True, True], ["↓ dark", True, False]])
    assert sorted(js(script, CLIPS, [None, ["dark", "bright"]])) == sorted([
        ["across →", False, False], ["↑ bright", True, True], ["↓ dark", True, False]])
    assert sorted(js(script, CLIPS, [None, None])) == sorted([["across →", False, False], ["↑ up", True, True]])


def test_steps_on_the_grid_stay_on_it(js):
    step = "return m.cellStep(a, b, c)"
    assert js(step, CELLS, [-1, 0], [1, 0]) == [1, 0] and js(step, CELLS, [-1, 0], [0, 1]) == [-1, 2]
    assert js(step, CELLS, [-1, 0], [-1, -1]) == [-1, 0] and js(step, CELLS, [3, 2], [1, 1]) == [3, 2]


KERNEL = """const heard = new Set(), values = {asks: true, components: 3, ...a};
    const model = {get: (key) => values[key], set: (key, v) => { values[key] = v; }, off: (_, f) => heard.delete(f),
      on: (_, f) => heard.add(f), static: values.static, save_changes: () => { values.told = values.place; }};
    const answer = (sound) => { values.answer_sound = new Uint8Array([sound]); heard.forEach((f) => f()); };
    const late = [], python = m.kernel(model, (found) => late.push(found), 30);
    const grid = m.storedGrid(c ?? {}, () => "");
    const ask = (z) => m.ask(m.providers(python, grid), z, {axes: [2, 0], model});
    const plain = (found) => found && {...found, sound: [...found.sound]};
    const rest = (ms) => new Promise((done) => setTimeout(done, ms));
    """


def test_the_kernel_is_asked_for_that_very_place(js):
    seen = js(KERNEL + "const found = ask([7, 0, 8]); answer(5); return [values.told, plain(await found)];", {})
    assert seen == [[2, 0, 8, 7], {"z": [7, 0, 8], "sound": [5], "picture": "", "from": "kernel"}]
    for none in ({"asks": False}, {"static": True}):
        assert js(KERNEL + "return [ask([7, 0, 8]), values.told ?? null];", none) == [None, None]


def test_a_silent_kernel_gives_way_to_the_grid_and_may_come_late(js):
    cells = {**CELLS, "axes": [2, 0]}
    seen = js(KERNEL + """const found = plain(await ask([2, 0, 3])); answer(9);
        return [found.from, found.sound, late.map((l) => [...l.sound])];""", {}, None, cells)
    assert seen == ["grid", [5], [[9]]]
    assert js(KERNEL + "return [await ask([2, 0, 3])];", {}) == [None]  # nobody else
    assert js(KERNEL + "python.end(); answer(9); return late;", {}) == []


def test_who_is_registered_comes_first_and_may_fail(js):
    script = """const answers = [() => null, () => Promise.reject(new Error("no")), () => Promise.resolve({from: "page"})];
        const page = {place: (z) => answers[z[0] + 1]()};
        musevaePlaces.push(page);
        const grid = {place: () => Promise.resolve({from: "grid"})}, nobody = {place: () => null};
        const found = [];
        for (const x of [1, 0, -1]) found.push((await m.ask(m.providers(nobody, grid), [x], {})).from);
        musevaePlaces.pop();
        return [...found, (await m.ask(m.providers(nobody, grid), [1], {})).from];"""
    assert js(script) == ["page", "grid", "grid", "grid"]
