"A decoder under the hand, in a real browser, from the file system: dragged, let go, sent as an address, without a worker, cut."
import json
import math

import numpy as np
import pytest
from test_live import a_model

from musevae import widgets as w
from musevae.live import _checksum, export_decoder
from musevae.widgets.live import Knob, Live

N, UNITS = 6, 6


@pytest.fixture(scope="module")
def vae():
    return a_model()


def a_live(vae, **changes):
    carried, rng = export_decoder(vae), np.random.default_rng(0)
    codes = rng.standard_normal((N, vae.latent_dim)).astype(np.float32)
    knobs = [Knob(np.eye(UNITS)[j], 0.1 * j, 1.0 + j, rng.standard_normal(50), f"PC{j + 1}", *words)
             for j, words in enumerate((("dark", "bright"), ("", "")))]
    given = dict(manifest=carried.manifest, weights=carried.weights, codes=codes, names=[f"clip {i}" for i in range(N)],
                 genres=["a", "b"] * 3, knobs=knobs, picture=np.full(vae.spec.shape, 0.5), title="live")
    return Live(**(given | changes))


@pytest.fixture(scope="module")
def visit(browser, tmp_path_factory):
    "`visit(widget, …)`: its page from the file system; afterwards nothing was asked of a network, and nothing failed unseen."
    folder, pages, faults = tmp_path_factory.mktemp("live"), [], []

    def open_page(widget, *, address="", script="", fails=False, **context):
        file = folder / f"{len(pages)}.html"
        file.write_text(w.standalone_html(widget, title="a page"), encoding="utf8")
        page = browser.new_context(offline=True, **{"viewport": {"width": 1000, "height": 900}, **context}).new_page()
        pages.append(page)
        page.set_default_timeout(30000)
        page.on("request", lambda r: r.url.startswith(("file:", "blob:", "data:")) or faults.append(r.url))
        if not fails:
            page.on("pageerror", lambda e: faults.append(str(e)))
        if script:
            page.add_init_script(script)
        page.goto(file.as_uri() + address)
        page.wait_for_selector("html[data-widgets=mounted]")
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert faults == []


def data(page):
    return page.evaluate("() => ({ ...document.querySelector('.mv').dataset })")


def settled(page):
    "Wait until the window of the newest state is there; what the widget says."
    page.wait_for_function("""() => { const el = document.querySelector('.mv');
        return el.mvLive && el.dataset.window === String(el.mvLive.version) && el.mvLive.version > 0; }""")
    return data(page)


def drag(page, to, nth=1):
    "Drag a slider (0: how far; then the knobs) to a part of its width; let go by `page.mouse.up()`."
    box = page.locator(".mv-live input").nth(nth).bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for part in np.linspace(0.5, to, 6):
        page.mouse.move(box["x"] + 9 + (box["width"] - 18) * part, y)
        page.wait_for_timeout(30)


def test_the_picture_and_a_grain_follow_a_knob_and_the_window_sounds_when_it_is_let_go(visit, vae, measure):
    page = visit(a_live(vae))
    first = settled(page)
    assert first["where"] == "worker" and "played" not in first
    drag(page, 0.9)
    page.wait_for_function("() => +document.querySelector('.mv').dataset.grain > 1")
    held = data(page)
    assert int(held["painted"]) > int(first["painted"]) and held["window"] == first["window"]
    page.mouse.up()
    done = settled(page)
    assert done["sound"] != first["sound"]
    page.wait_for_function("() => document.querySelector('.mv').dataset.played === 'decoded'")
    assert page.url.endswith(done["state"]) and done["state"] != first["state"]
    measure(f"live decoder, small model: {done['ms']}")
    page.locator(".mv-live button", has_text="knobs back").click()
    assert settled(page)["sound"] == first["sound"]  # dragged back: the same sound, to the bit


def test_a_press_before_the_window_is_made_plays_it_once_it_is(visit, vae):
    page = visit(a_live(vae))
    settled(page)
    page.evaluate("""() => {  // in one breath: nothing can be finished between the change and the press
        const live = document.querySelector('.mv').mvLive;
        live.state.share = 0.5;
        live.follow(true);
        document.querySelector('button.mv-play').click();
    }""")
    page.wait_for_function("() => document.querySelector('.mv').dataset.played === 'decoded'")


def test_the_stored_sound_plays_at_once_and_the_live_one_takes_over(visit, vae):
    rng = np.random.default_rng(1)
    stored = w.media.mp3(0.1 * rng.standard_normal(vae.spec.samples), 22050)
    slow = """const Real = Worker; window.Worker = class extends Real {  // whatever is asked waits for a sign
        postMessage(data) {
            if (data.kind === 'begin') super.postMessage(data);
            else window.addEventListener('go', () => super.postMessage(data), { once: true });
        } };"""
    page = visit(a_live(vae, sound=stored), script=slow)
    assert page.evaluate("() => document.querySelector('.mv-live canvas').width") == vae.spec.frames  # the stored picture
    page.locator("button.mv-play").first.click()
    page.wait_for_function("() => document.querySelector('.mv').dataset.played === 'stored'")
    assert "window" not in data(page)
    page.evaluate("() => window.dispatchEvent(new Event('go'))")
    page.wait_for_function("() => document.querySelector('.mv').dataset.painted")
    page.evaluate("() => window.dispatchEvent(new Event('go'))")
    page.wait_for_function("() => document.querySelector('.mv').dataset.played === 'decoded'")
    assert page.locator("button.mv-play").first.get_attribute("aria-pressed") == "true"


def test_an_address_says_the_same_in_another_page_and_in_python(visit, vae):
    live = a_live(vae)
    address = f"#z=1,2,4,25;0.50,-1.20;grain&model={live.manifest['fingerprint']}"
    one, two = visit(live, address=address), visit(live, address=address)
    assert settled(one)["sound"] == settled(two)["sound"] and data(one)["state"] == address
    there = one.evaluate("() => Array.from(document.querySelector('.mv').mvLive.job().z)")
    assert np.allclose(there, live.code(address), atol=1e-9)
    assert address in one.locator(".mv-code").inner_text()


@pytest.mark.parametrize("address, words", [
    ("#z=1,2,4,25;0.50,-1.20;mean&model=0123456789abcdef", "got one of another, 0123456789abcdef"),
    ("#z=1,2,99,25;0.50,-1.20;mean&model={}", "clips below 6"),
    ("#z=1,2,4,25;0.50;mean&model={}", "2 knobs"),
    ("#z=nonsense", "expected #z="),
])
def test_an_address_that_means_nothing_is_refused_in_one_line_and_the_page_lives(visit, vae, address, words):
    live = a_live(vae)
    address = address.format(live.manifest["fingerprint"])
    page = visit(live, address=address)
    said = page.locator(".mv-alert").inner_text()
    assert words in said and "\n" not in said
    assert settled(page)["sound"]
    with pytest.raises(ValueError, match="address: expected"):
        live.code(address)


def test_without_a_worker_the_page_computes_itself_and_says_so(visit, vae):
    live = a_live(vae)
    with_worker = settled(visit(live))
    for script in ("window.Worker = function () { throw new Error('refused'); };",
                   "window.Worker = class { postMessage() {} terminate() {} };"):  # a worker that never answers
        page = visit(live, script=script)
        alone = settled(page)
        assert alone["where"] == "page" and alone["sound"] == with_worker["sound"]
        assert "no worker was to be had" in page.locator(".mv-state").inner_text()


def test_what_was_cut_says_so_on_the_page(visit, vae):
    whole = a_live(vae)
    cut = a_live(vae, weights=whole.weights[:-2])
    page = visit(cut)
    page.wait_for_selector(".mv-alert")
    assert f"expected {len(whole.weights)} bytes, got {len(whole.weights) - 2}" in page.locator(".mv-alert").inner_text()
    short = a_live(vae)
    short.codes = short.codes[:-2]
    page = visit(short, fails=True)
    assert "was the page cut?" in page.locator(".mv-failed").inner_text()


def test_weights_that_are_no_numbers_are_named_on_the_page_in_one_line(visit, vae):
    whole = a_live(vae)
    broken = b"\x00\x7e" + whole.weights[2:]  # a NaN of sixteen bits, and a checksum that knows it
    page = visit(a_live(vae, weights=broken, manifest=export_decoder(vae).manifest | dict(checksum=_checksum(broken))))
    page.wait_for_selector(".mv-alert")
    assert page.locator(".mv-alert").inner_text() == "weights: expected finite numbers in code.0.weight, got NaN or infinity"


def test_sounds_are_at_one_level_and_begin_and_end_in_silence(visit, vae):
    page = visit(a_live(vae))
    for how in ("mean", "with grain", "linear part"):
        page.locator(".mv-live button", has_text=how).click()
        settled(page)
        y = np.array(page.evaluate("() => Array.from(document.querySelector('.mv').mvLive.y)"))
        assert y[0] == y[-1] == 0 and np.abs(y[:20]).max() < 0.2 * np.abs(y).max()
        peak, rms = np.abs(y).max(), np.sqrt(np.mean(y**2))
        assert peak <= 0.981 and (math.isclose(rms, 0.1, rel_tol=0.05) or math.isclose(peak, 0.98, rel_tol=0.01))


def test_swap_and_the_wav_are_what_they_say(visit, vae):
    import io

    import soundfile

    page = visit(a_live(vae))
    page.locator("select").nth(1).select_option("3")
    settled(page)
    page.locator(".mv-live button", has_text="swap").click()
    state = settled(page)["state"]
    assert state.startswith("#z=3,0,")
    with page.expect_download() as file:
        page.locator(".mv-live button", has_text="WAV").click()
    y, rate = soundfile.read(io.BytesIO(file.value.path().read_bytes()))
    assert rate == 22050 and len(y) == vae.spec.samples
    assert json.loads(data(page)["ms"])["window"] > 0


@pytest.mark.parametrize("changes, words", [
    (dict(names=["a"]), "codes: expected"), (dict(codes=np.zeros((N, 3))), "codes: expected"), (dict(start=N), "start: expected"),
    (dict(knobs=[Knob(np.ones(3), 0.0, 1.0, np.ones(3), "PC1")]), "knobs: expected"),
    (dict(knobs=[Knob(np.ones(UNITS), 0.0, 0.0, np.ones(3), "PC1")]), "knobs: expected"),
])
def test_what_does_not_go_together_is_refused(vae, changes, words):
    with pytest.raises(ValueError, match=words):
        a_live(vae, **changes)


@pytest.mark.parametrize("context", [dict(color_scheme="dark"),
                                     dict(viewport=dict(width=390, height=800), has_touch=True, is_mobile=True)])
def test_it_fits_a_phone_and_the_dark(visit, vae, context):
    page = visit(a_live(vae), **context)
    settled(page)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("() => document.querySelector('.mv-hist').width > 0")
