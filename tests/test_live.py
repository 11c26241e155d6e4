"The decoder in the page against Python, step by step, in a browser; what it weighs; what it refuses."
import base64
import hashlib
import json
import math
from importlib.resources import files

import numpy as np
import pytest
import torch
from made import pictures

from musevae.live import decoder_steps, export_decoder
from musevae.mel import MelSpec
from musevae.vae import ConvVAE, VAEConfig
from musevae.vocoder import griffin_lim
from musevae.widgets.live import engine

STEPS = ("centre", "scale", "gain", "linear", "link", "correction", "picture")


def a_model(seconds=1.0, seed=0, **options):
    "A global model with a filter, all of whose weights say something."
    torch.manual_seed(seed)
    spec = MelSpec(seconds=seconds, n_mels=40)
    chosen = dict(latent_dim=24, global_dim=6, contiguous=True, likelihood="coloured", per_band=False, filter_width=10)
    vae = ConvVAE(VAEConfig(**(chosen | options)), spec).initialise(pictures(60, spec)).eval()
    with torch.no_grad():
        for name, value in vae.named_parameters():
            if name.startswith("decoder") and value.abs().max() < 1e-6:
                value.normal_(0, 0.02)
    return vae


@pytest.fixture(scope="module")
def vae():
    return a_model()


@pytest.fixture(scope="module")
def page(browser):
    "A page that has the engine as `E`, and nothing else."
    page = browser.new_context(offline=True).new_page()
    page.add_script_tag(content=engine() + "globalThis.E = musevaeEngine();")
    yield page
    page.context.close()


def carry(page, carried, weights=None):
    "Give the page a decoder as `D` and its vocoder as `V`; the message, if it refuses."
    data = base64.b64encode(carried.weights if weights is None else weights).decode()
    return page.evaluate("""([manifest, data]) => {
        try {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            globalThis.D = new E.Decoder(manifest, bytes);
            globalThis.V = new E.Vocoder(manifest.spec);
        } catch (error) { return error.message; }
    }""", [carried.manifest, data])


def steps_of(page, z):
    "The page's own `decoder_steps` of a code."
    return {name: np.array(found) for name, found in page.evaluate("""(z) => {
        const moved = D.fields(z.slice(0, D.units)), linear = D.linear(z, moved);
        const steps = { centre: moved.centre, scale: moved.logScale, gain: moved.logGain, linear, link: D.link(linear),
          correction: D.correction(linear).map((v) => 4 * v), picture: D.picture(z) };
        return Object.fromEntries(Object.entries(steps).map(([name, step]) => [name, Array.from(step)]));
    }""", z.tolist()).items()}


def rounded(vae):
    "The model with the weights that the page has."
    other = ConvVAE(vae.config, vae.spec).eval()
    noise = "decoder.path.closed.transform.noise"  # goes into the manifest as it is
    state = vae.state_dict()
    other.load_state_dict({k: v.half().float() if v.is_floating_point() and k != noise else v for k, v in state.items()})
    return other


@pytest.mark.parametrize("options", [{}, dict(filter_blocks=0), dict(latent_dim=6), dict(seconds=0.7)])
def test_the_page_computes_what_python_computes_step_by_step(page, options):
    vae = a_model(**options)
    assert carry(page, export_decoder(vae)) is None
    torch.manual_seed(1)
    for z in torch.randn(3, vae.latent_dim):
        here = steps_of(page, z)
        there = decoder_steps(rounded(vae), z[None])
        for name in STEPS:
            wanted = there[name][0].numpy().ravel()
            assert np.abs(here[name] - wanted).max() < 2e-5 * max(1.0, np.abs(wanted).max()), name
        whole = decoder_steps(vae, z[None])["picture"][0].numpy().ravel()
        assert 80 * np.sqrt(np.mean((here["picture"] - whole) ** 2)) < 0.1  # dB: what float16 costs


def test_the_linear_picture_and_the_noise_are_the_models_own(page, vae):
    carry(page, export_decoder(vae))
    z = torch.randn(1, vae.latent_dim, generator=torch.Generator().manual_seed(2))
    linear = np.array(page.evaluate("(z) => Array.from(D.picture(z, { how: 'linear' }))", z[0].tolist()))
    wanted = decoder_steps(rounded(vae), z)["linear"][0].numpy().ravel().clip(0, 1)
    assert np.abs(linear - wanted).max() < 1e-5
    scale, e, again, other = (np.array(v) for v in page.evaluate("""(z) => {
        const moved = D.fields(z.slice(0, D.units)), draws = [1, 1, 2].map((seed) => D.noisePicture(moved, seed));
        return [D.noiseScale(moved), ...draws].map((v) => Array.from(v));
    }""", z[0].tolist()))
    with torch.no_grad():
        log_scale, log_gain = rounded(vae).likelihood.field(z)
    assert np.abs(scale - log_scale[0].numpy().ravel()).max() < 1e-5
    picture = torch.tensor(e, dtype=torch.float32).view(1, 1, *vae.spec.shape)
    white = (vae.likelihood.places(picture, log_gain) * (-log_scale).exp()).ravel()  # the draw undone, as Python undoes its own
    assert abs(white.mean()) < 4 / math.sqrt(len(white)) and abs(white.square().mean() - 1) < 4 * math.sqrt(2 / len(white))
    assert (e == again).all() and (e != other).any()


def picture_of(vae):
    return vae.picture(torch.zeros(1, vae.latent_dim)).detach().clamp(0, 1)


def test_magnitude_and_sound_are_pythons(page, vae):
    carry(page, export_decoder(vae))
    spec, x = vae.spec, picture_of(vae)
    sound = page.evaluate("""([x, iterations]) => {
        const { frames, samples } = V.spec, phase = V.phases(0, frames, 3);
        const m = V.magnitude(V.power(Float64Array.from(x), -6), frames, { iterations });
        const y = V.sound(m, samples, phase, { iterations: 8 });
        const again = V.play(Float64Array.from(x), { refDb: -6, seed: 3, nnls: iterations, iterations: 8 });
        return Object.fromEntries(Object.entries({ m, phase, y, again }).map(([name, v]) => [name, Array.from(v)]));
    }""", [x.ravel().tolist(), 20])
    there = spec.stft_magnitude(x.double(), torch.tensor([-6.0]), iterations=20)[0].T
    here = torch.tensor(sound["m"]).view_as(there)
    loud = there > there.max() * 1e-4
    assert (20 * (here / there).log10())[loud].abs().max() < 0.01  # dB
    phase = torch.tensor(sound["phase"]).view_as(there).T[None]
    y = griffin_lim(there.T[None].float(), spec, spec.samples, iterations=8, phase=phase.float())[0].numpy()
    assert np.abs(np.array(sound["y"]) - y).max() < 1e-3 * np.abs(y).max()
    assert sound["again"] == sound["y"]  # the seed decides: a slider dragged back gives the same sound


def test_what_cannot_be_carried_is_refused_in_one_line():
    refused = [(dict(global_dim=0, likelihood="gaussian", per_band=True), "global code"), (dict(linear_filters=True), "GELUs"),
               (dict(output="decibel"), "magnitude"), (dict(profile=False), "profile")]
    for options, words in refused:
        with pytest.raises(ValueError, match=words) as caught:
            export_decoder(a_model(**options))
        assert "\n" not in str(caught.value)
    bad = a_model()
    with torch.no_grad():
        bad.decoder.path.closed.filter.stem.weight[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="finite weights.*stem.weight"):
        export_decoder(bad)


def test_the_page_refuses_what_was_cut_or_changed(page, vae):
    carried = export_decoder(vae)
    cut = carry(page, carried, carried.weights[:-100])
    assert f"expected {len(carried.weights)} bytes, got {len(carried.weights) - 100}" in cut
    changed = bytearray(carried.weights)
    changed[7] ^= 1
    assert "checksum" in carry(page, carried, bytes(changed))
    bands = json.loads(json.dumps(carried.manifest))
    bands["spec"]["n_mels"] = 64
    assert "expected code.2.weight of shape 224 × 128, got 176 × 128" in carry(page, carried._replace(manifest=bands))
    nan = np.frombuffer(carried.weights, "<f2").copy()
    nan[3] = np.nan
    from musevae.live import _checksum

    manifest = carried.manifest | dict(checksum=_checksum(nan.tobytes()))
    assert "finite" in carry(page, carried._replace(manifest=manifest), nan.tobytes())
    carry(page, carried)
    for z, words in (([0.0] * 3, "24 numbers, got 3"), ([math.nan] * 24, "finite")):
        said = page.evaluate("""(z) => { try { D.picture(z.map((v) => v ?? NaN)); } catch (e) { return e.message; } }""",
                             [None if v != v else v for v in z])
        assert words in said


def test_the_library_is_the_one_that_was_published():
    folder = files("musevae") / "static"
    text = (folder / "fourier-transform.js").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "3fd53eeb6d509647c7d19ecc3c2ddece720ea11c15629322cabd15810b3f9757"
    assert "MIT License" in (folder / "fourier-transform.LICENSE").read_text()
