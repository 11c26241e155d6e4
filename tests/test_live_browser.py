"A decoder under the hand, in a real browser, from the file system: dragged, let go, sent as an address, without a worker, cut."
import base64
import io
import json
import math

import numpy as np
import pytest
import soundfile
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


def drag_back(page, begin, to, nth=1):
    "Move a slider that is held at `begin` to another part of its width."
    box = page.locator(".mv-live input").nth(nth).bounding_box()
    for part in np.linspace(begin, to, 6):
        page.mouse.move(box["x"] + 9 + (box["width"] - 18) * part, box["y"] + box["height"] / 2)
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
    said = "nothing is decoded here: weights: expected finite numbers in code.0.weight, got NaN or infinity"
    assert page.locator(".mv-alert").inner_text() == said


def test_a_decoder_of_another_model_says_so_in_one_line_and_the_stored_sound_plays(visit, vae):
    live = a_live(vae, sound=w.media.mp3(0.1 * np.random.default_rng(1).standard_normal(vae.spec.samples), 22050))
    own, other = live.manifest["fingerprint"], export_decoder(a_model(seed=1))
    live.manifest, live.weights = other
    page = visit(live)
    said = (f"nothing is decoded here, the stored sound only: decoder: expected that of model {own}, whose clips these are, "
            f"got that of {other.manifest['fingerprint']}")
    page.wait_for_selector(".mv-alert")
    page.locator("button.mv-play").first.click()
    page.wait_for_function("() => document.querySelector('.mv').dataset.played === 'stored'")
    drag(page, 0.8)
    page.mouse.up()
    page.wait_for_function("(said) => document.querySelector('.mv-alert')?.textContent === said", arg=said)
    assert page.locator(".mv-alert").count() == 1 and "painted" not in data(page)


def test_a_slider_dragged_away_and_back_gives_the_same_sound(visit, vae):
    page, sounds, states = visit(a_live(vae)), [], []
    settled(page)
    for to in (0.6, 0.9, 0.6):
        drag(page, to)
        page.mouse.up()
        done = settled(page)
        sounds.append(done["sound"])
        states.append(done["state"])
    drag(page, 0.9)
    drag_back(page, 0.9, 0.6)
    page.mouse.up()
    done = settled(page)
    assert sounds[0] == sounds[2] == done["sound"] != sounds[1]  # to the bit, let go in between or not
    assert states[0] == states[2] == done["state"] != states[1]


OFFLINE = """() => {  // the page's sounds go into a recording of 1 s; `when(t, change)`: what is done at t, after which it goes on
    const Context = class extends OfflineAudioContext { get state() { return 'running'; } };
    const recording = new Context(1, 44100, 44100), { resume } = OfflineAudioContext.prototype;
    globalThis.until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 1)); };
    globalThis.when = (t, change) => recording.suspend(t).then(change).then(() => resume.call(recording));
    globalThis.recorded = async () => Array.from((await recording.startRendering()).getChannelData(0));
    musevaeStage.context = recording;
}"""


def a_wav(y, rate):
    soundfile.write(file := io.BytesIO(), y, rate, format="wav", subtype="FLOAT")
    return file.getvalue()


def recording(page, script, *given):
    page.evaluate(OFFLINE)
    return np.array(page.evaluate(script, list(given)))


def test_nothing_clicks_when_a_sound_starts_stops_and_gives_way(visit, vae):
    page, rate = visit(a_live(vae)), 44100
    settled(page)
    tones = [0.8 * np.cos(2 * np.pi * hz * np.arange(2 * rate) / rate) for hz in (90, 70)]
    page.evaluate("""(tones) => {
        globalThis.tones = tones.map((tone) => Uint8Array.from(atob(tone), (c) => c.charCodeAt(0)));
    }""", [base64.b64encode(a_wav(tone, rate)).decode() for tone in tones])
    own = 0.8 * (2 * np.pi * 90 / rate + 1 / 441)  # a step of the tone, and one of a line over 10 ms
    for after in (0.003, 0.022, 0.026, 0.03, 0.1):  # s from the start: before it is heard, in its rise, at its end, later
        y = recording(page, """([after]) => {
            const voice = new (document.querySelector('.mv').mvLive.voice.constructor)().load(tones);
            const play = async () => { voice.play(0.3).catch(() => {}); await until(() => voice.playing); };
            when(0.1, play);
            when(0.1 + after, () => voice.stop());
            when(0.3, play);
            when(0.3 + after, () => voice.choose(1));
            when(0.5, () => voice.choose(0));
            when(0.5 + after, play);
            when(0.8, play);
            when(0.8 + after, () => voice.stop());
            return recorded();
        }""", after)
        assert np.abs(np.diff(y)).max() < 1.2 * own, after
        heard, silent = y[int(0.44 * rate) : int(0.5 * rate)], y[int(0.24 * rate) : int(0.3 * rate)]
        assert np.abs(heard).max() > 0.7 and not silent.any() and not y[-2000:].any()


def test_nothing_clicks_when_another_way_is_chosen_while_it_sounds(visit, vae):
    page = visit(a_live(vae))
    settled(page)
    y = recording(page, """async () => {
        const el = document.querySelector('.mv'), live = el.mvLive, { voice, computer, rate } = live, run = computer.run;
        let hz = 60;  // tones in place of what is decoded: in these a step can be told from a click
        const tone = (_, i) => 0.8 * Math.cos((2 * Math.PI * hz * i) / rate);
        computer.run = async (kind, job) => {
            const found = await run(kind, job);
            if (found?.y) { hz += 10; found.y = found.y.map(tone); }
            return found;
        };
        const press = async (words) => {
            [...el.querySelectorAll('button')].find((button) => button.textContent === words).click();
            await until(() => el.dataset.window === String(live.version) && voice.playing);
        };
        when(0.05, async () => { live.play(0.2).catch(() => {}); await until(() => voice.playing); });
        when(0.1, () => press('with grain'));
        when(0.35, () => press('linear part'));
        when(0.6, () => press('mean'));
        when(0.85, () => voice.stop());
        return recorded();
    }""")
    own = 0.8 * (2 * np.pi * 90 / 44100 + 2 / 441)  # a step of the tones, and of two lines over 10 ms
    heard = y[int(0.2 * 44100) : int(0.8 * 44100)]
    assert np.abs(heard).max() > 0.7 and np.abs(np.diff(heard)).max() < 1.2 * own and np.abs(np.diff(y[-9000:])).max() < 1.2 * own


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
