"The map that carries its decoder: a place has the code and the picture of Python's, and a sound; what is stored is its fallback."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_live import a_model
from test_live_browser import visit  # noqa: F401

from musevae.coordinates import map_axes
from musevae.latent import encode_corpus
from musevae.live import export_decoder
from musevae.map import latent_map, middle_windows
from musevae.windows import WindowSet

REFUSED = "window.Worker = function () { throw new Error('refused'); };"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "Six clips of two genres under a global model whose weights all say something."
    import soundfile as sf

    vae, folder, rng = a_model(), tmp_path_factory.mktemp("map"), np.random.default_rng(0)
    spec, x, rows = vae.spec, [], []
    for i in range(6):
        y = (0.1 * rng.standard_normal(2 * spec.samples) * np.linspace(0.1, 1 + i, 2 * spec.samples)).astype(np.float32)
        sf.write(path := folder / f"clip{i}.wav", y, spec.sample_rate)
        x.append(spec.forward(spec.windows(torch.from_numpy(y)))[0][:, 0].half().numpy())
        rows += [dict(track=f"clip{i}", window=w, genre="ab"[i % 2], path=str(path), start_s=w * spec.seconds) for w in range(2)]
    windows = WindowSet(np.concatenate(x), np.zeros(12, np.float32), pd.DataFrame(rows), spec)
    return SimpleNamespace(path=folder / "run", vae=vae, spec=spec, windows=lambda: windows)


def press(page, x=0.41, y=0.37):
    "Press an empty place of the map."
    box = page.locator(".mv-canvas").bounding_box()
    page.locator(".mv-canvas").click(position={"x": x * box["width"], "y": y * box["height"]})


def answered(page, whose, words):
    "Wait until the answer of the page or the grid is heard, and the map says `words`; all that it says."
    page.wait_for_function("""([whose, words]) => { const el = document.querySelector('.mv'), { answer, state } = el.mvMap;
        return answer?.from === whose && el.dataset.played === 'decoded' && state.textContent.includes(words);
    }""", arg=[whose, words])
    return page.locator(".mv-note[role=status]").inner_text()


@pytest.mark.parametrize("coordinates", ["global", "all"])
def test_a_place_between_dots_is_decoded_in_the_page_as_python_decodes_it(visit, run, coordinates, measure):  # noqa: F811
    the_map = latent_map(run, coordinates=coordinates, decoded=(2, 3), seconds=0.6, live=export_decoder(run.vae))
    page = visit(the_map)
    page.evaluate("""() => { const map = document.querySelector('.mv').mvMap, present = map.present.bind(map);
        globalThis.seen = [];
        map.present = (answer) => { seen.push([answer.from, Boolean(answer.sound)]); present(answer); }; }""")
    press(page)
    page.wait_for_function("() => seen.length === 3")
    said = answered(page, "page", "sound ")
    assert page.evaluate("seen") == [["grid", True], ["page", False], ["page", True]]  # stored first; then picture; then sound
    page.evaluate("() => { seen.length = 0; delete document.querySelector('.mv').dataset.played; }")
    press(page, 0.43)
    page.wait_for_function("() => seen.length === 2")
    assert page.evaluate("seen") == [["page", False], ["page", True]]  # once the decoder is there, nobody else answers before it
    page.evaluate("() => { seen.length = 0; delete document.querySelector('.mv').dataset.played; }")
    press(page)
    page.wait_for_function("() => seen.length === 2")
    assert "in a worker of this page" in said and the_map.decoder["manifest"]["fingerprint"] in said
    measure(f"map with a small decoder: {said}")
    z, sound, name = page.evaluate("""() => { const { z, sound, carried } = document.querySelector('.mv').mvMap.answer;
        return [z, sound.length, carried]; }""")
    samples = (the_map.decoder["frames"] - 1) * run.spec.hop
    assert sound == 44 + 2 * samples and 0.5 < samples / run.spec.sample_rate <= 0.6
    # the same place, and one of another plane, in Python
    latents = encode_corpus(run.vae, run.windows())
    axes, codes = map_axes(run.vae, latents, coordinates), latents.mean[middle_windows(run.windows().table)]
    for plane in ((0, 1), (2, 1)):
        at = np.zeros((1, len(z)))
        at[0, list(plane)] = [z[0], z[1]]
        there = axes.places(at, plane, codes)
        here = page.evaluate("""async ([z, plane]) => {
            const { decoder } = document.querySelector('.mv').mvMap, { code, carried } = decoder.code(z, plane);
            const { x } = await decoder.run("picture", { version: 100 + plane[0], z: code, how: "mean", seed: 0 });
            return [Array.from(code), carried, Array.from(x)]; }""", [at[0].tolist(), list(plane)])
        exact = np.frombuffer(the_map.decoder_codes, "<f2").reshape(-1, codes.shape[1])[max(there.carried[0], 0)]
        # what is carried is float16: to that the page adds the way
        wanted = there.codes[0] + exact - (axes.pca.center if coordinates == "all" else codes[there.carried[0]])
        assert np.abs(here[0] - wanted).max() < 1e-4 and here[1] == there.carried[0]
        with torch.no_grad():
            picture = run.vae.picture(torch.as_tensor(there.codes, dtype=torch.float32)).clamp(0, 1).numpy().ravel()
        assert run.spec.top_db * np.sqrt(np.mean((np.array(here[2]) - picture) ** 2)) < 0.1  # dB
    assert name == (None if coordinates == "all" else f"clip{axes.places(np.array([z]), (0, 1), codes).carried[0]}")


def test_a_place_that_is_dragged_is_seen_and_heard_on_the_way_and_sounds_whole_when_it_is_let_go(visit, run, measure):  # noqa: F811
    page = visit(latent_map(run, decoded=(2, 3), seconds=0.6, live=export_decoder(run.vae)))
    page.evaluate("""() => { const map = document.querySelector('.mv').mvMap, { grains } = map;
        const play = grains.play.bind(grains), hear = map.hear.bind(map);
        let calls = 0;
        map.hear = async (...what) => {
            const mine = ++calls;
            globalThis.settled = false;
            await hear(...what);
            globalThis.settled = mine === calls;
        };
        globalThis.grained = [];
        grains.play = (y, rate) => { grained.push([y.length / rate, Math.abs(y[0]), Math.abs(y.at(-1))]); play(y, rate); }; }""")
    press(page)
    answered(page, "page", "sound ")
    page.wait_for_function("() => settled")  # the page's own sound, not the stored one before it
    page.locator(".mv").evaluate("e => delete e.dataset.played")
    box = page.locator(".mv-canvas").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    page.mouse.move(*at(0.41, 0.37))
    page.mouse.down()
    for x in np.linspace(0.43, 0.6, 6):
        page.mouse.move(*at(x, 0.4))
        page.wait_for_timeout(30)
    page.wait_for_function("() => grained.length > 0")
    held = page.evaluate("""() => { const el = document.querySelector('.mv'), { answer, voice, sideImage } = el.mvMap;
        return [+el.dataset.passed, answer, voice.playing, sideImage.src.slice(0, 14), 'played' in el.dataset]; }""")
    assert held[0] >= 1 and held[1:] == [None, False, "data:image/png", False]  # nothing whole sounds while it is held
    page.mouse.move(*at(0.41, 0.37))
    page.mouse.up()
    measure(f"map, let go: {answered(page, 'page', 'sound ')}")
    page.evaluate("() => { globalThis.first = document.querySelector('.mv').mvMap.answer; }")
    page.mouse.click(*at(0.41, 0.37))  # pressed where it was let go: the same sound, to the bit
    page.wait_for_function("""() => { const { answer } = document.querySelector('.mv').mvMap;
        return answer && answer !== first && ["sound", "z"].every((key) => String(answer[key]) === String(first[key])); }""")
    assert all(0 < seconds < 0.4 and begin == end == 0 for seconds, begin, end in page.evaluate("grained"))


def test_any_clip_takes_the_colour_of_any_other_by_keys_and_buttons(visit, run):  # noqa: F811
    the_map = latent_map(run, decoded=(2, 3), seconds=0.6, live=export_decoder(run.vae))
    page = visit(the_map, viewport=dict(width=390, height=900), has_touch=True, is_mobile=True)
    codes = np.frombuffer(the_map.decoder_codes, "<f2").astype(float).reshape(6, -1)
    units = the_map.decoder["manifest"]["units"]
    page.evaluate("""() => { const { decoder } = document.querySelector('.mv').mvMap, own = decoder.place.bind(decoder);
        decoder.place = (z, request) => { globalThis.asked = request.found; return own(z, request); };
        document.querySelector('.mv').mvMap.choose(1); }""")
    page.locator(".mv-canvas").focus()
    page.keyboard.press("a")
    page.evaluate("() => document.querySelector('.mv').mvMap.choose(4)")
    page.locator(".mv-pair button", has_text="as B").tap()
    slider = page.locator(".mv-pair input")

    def made(words):
        page.wait_for_function("""(words) => { const { answer } = document.querySelector('.mv').mvMap;
            return answer?.sound && answer.from === 'page' && answer.words.includes(words); }""", arg=words)
        return page.evaluate("() => [Array.from(asked.code), String(document.querySelector('.mv').mvMap.answer.sound)]")

    code, whole = made("in the colour of clip")  # of itself, once there are two: A's rhythm in B's colour
    assert np.array_equal(code, np.r_[codes[4, :units], codes[1, units:]])
    assert page.evaluate("() => document.querySelector('.mv').mvMap.pair.ends") == [1, 4]
    slider.focus()
    page.keyboard.press("PageDown")
    share = float(slider.input_value()) / 100
    assert 0 < share < 1
    code, between = made("% of the way to the colour of clip")
    wanted = codes[1].copy()
    wanted[:units] += share * (codes[4, :units] - codes[1, :units])
    assert np.abs(code - wanted).max() < 1e-9
    slider.press("End")
    assert made("in the colour of clip")[1] == whole
    page.locator(".mv-pair button", has_text="A ⇄ B").tap()
    page.wait_for_function("() => asked.carried === 4")
    code, swapped = made("in the colour of clip")
    assert np.array_equal(code, np.r_[codes[1, :units], codes[4, units:]]) and swapped != whole
    page.locator(".mv-pair button", has_text="A ⇄ B").tap()
    page.wait_for_function("() => asked.carried === 1")
    slider.focus()
    page.keyboard.press("PageDown")
    assert made("% of the way")[1] == between  # the slider brought back: the same sound, to the bit
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_what_is_stored_answers_where_weights_are_cut_or_anothers_and_without_a_worker_the_page_decodes(visit, run):  # noqa: F811
    cut = latent_map(run, decoded=(2, 3), seconds=0.3, live=export_decoder(run.vae))
    whole = cut.decoder_weights
    cut.decoder_weights = whole[:-2]
    page = visit(cut)
    for place in (0.41, 0.6):
        press(page, place)
        said = answered(page, "grid", "stored answers only")
        assert said == ("nothing is decoded here, stored answers only: weights: "
                        f"expected {len(whole)} bytes, got {len(whole) - 2}; was the page cut?")
        page.locator(".mv").evaluate("e => delete e.dataset.played")
    cut.decoder_weights, own = whole, cut.codes_of
    cut.codes_of = "0123456789abcdef"  # codes of one model beside the decoder of another
    page = visit(cut)
    press(page)
    assert answered(page, "grid", "stored answers only").endswith(
        f"decoder: expected that of model 0123456789abcdef, whose clips these are, got that of {own}")
    cut.codes_of = own
    page = visit(cut, script=REFUSED)
    press(page)
    assert "no worker was to be had" in answered(page, "page", "sound ")


def test_a_map_carries_its_own_models_decoder_or_none(run):
    with pytest.raises(ValueError, match="live: expected the decoder of"):
        latent_map(run, decoded=None, live=export_decoder(a_model(seed=1)))
    plain = latent_map(run, decoded=None)
    assert plain.decoder == {} and plain.decode is not None and "musevaeEngine() {" not in plain._esm
