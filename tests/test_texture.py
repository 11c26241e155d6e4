"Movement by band and rate, on noise whose spectrum is known; and the grain of a model, place by place."

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from made import made_windows

from musevae.generation import sample
from musevae.mel import MelSpec
from musevae.texture import RATES, modulation_power, posterior_predictive, texture_ratio
from musevae.vae import VAEConfig

SPEC = MelSpec(n_mels=8)
RATE = np.fft.rfftfreq(SPEC.frames, SPEC.hop / SPEC.sample_rate)


def noise(n, seed, extra=0):
    return torch.randn(n, 1, SPEC.n_mels, SPEC.frames + extra, generator=torch.Generator().manual_seed(seed))


def inside(curve):
    "Mean of a curve over each range of rates."
    return np.array([curve[(low <= RATE) & (high > RATE)].mean() for low, high in pairwise(RATES)])


def test_white_noise_has_as_much_power_as_a_range_is_wide():
    scale = 0.01 * torch.arange(1, 9).view(1, 1, 8, 1)
    found = modulation_power(scale * noise(400, 0), SPEC)
    width = inside(np.ones(len(RATE))) * [((low <= RATE) & (high > RATE)).sum() for low, high in pairwise(RATES)]
    expected = (80 * scale.flatten().numpy())[:, None] ** 2 * 2 * width / SPEC.frames
    assert found == pytest.approx(expected, rel=0.12) and found.sum() == pytest.approx(expected.sum(), rel=0.02)


def test_other_noise_of_the_same_spectrum_gives_one():
    "First-order autoregressive noise, twice: another draw, as rough."
    def coloured(seed):
        e, y = noise(300, seed, 50), [torch.zeros(300, 1, 8)]
        for t in range(e.shape[-1]):
            y.append(0.8 * y[-1] + 0.05 * e[..., t])
        return 0.5 + torch.stack(y[51:], -1)

    found = texture_ratio(coloured(1), coloured(2), SPEC, groups=2)
    assert found.level == pytest.approx(np.ones(2), abs=0.06) and found.modulation == pytest.approx(np.ones((2, 4)), abs=0.1)


@pytest.mark.parametrize("taps", [[0.5, 0.5], [1 / 3] * 3, [1.0, -0.5]])
def test_a_filter_shows_its_curve(taps):
    e = 0.05 * noise(300, 3, len(taps) - 1)
    filtered = sum(h * e[..., k : k + SPEC.frames] for k, h in enumerate(taps))
    curve = np.abs(sum(h * np.exp(-2j * np.pi * RATE * SPEC.hop / SPEC.sample_rate * k) for k, h in enumerate(taps))) ** 2
    found = texture_ratio(0.5 + filtered, 0.5 + e[..., : SPEC.frames], SPEC, groups=1)
    assert found.modulation[0] == pytest.approx(inside(curve), abs=0.05)
    assert found.level[0] == pytest.approx(sum(h * h for h in taps), abs=0.03)


def test_twice_as_loud_a_movement_is_four_times_the_power_in_its_group_alone():
    x = 0.5 + 0.03 * noise(20, 4)
    louder = x.clone()
    louder[:, :, 4:] = 0.5 + 2 * (x[:, :, 4:] - 0.5)
    found = texture_ratio(louder, x, SPEC, groups=2)
    assert found.level == pytest.approx([1, 4], rel=1e-4)
    assert found.modulation == pytest.approx(np.array([[1] * 4, [4] * 4]), rel=1e-4)


def test_a_slow_wave_does_not_leak_into_the_fast_ranges():
    t = torch.arange(SPEC.frames) / SPEC.frames
    slow = (0.3 * torch.sin(2 * math.pi * 3.37 * t)).expand(1, 1, 8, -1)  # 0.67 Hz, not periodic in the window
    found = modulation_power(slow, SPEC)[0]
    assert found[0] > 0.9 * found.sum() and found[3] < 1e-4 * found[0]


@pytest.mark.parametrize("line, do", [
    ("x: expected shape (n ≥ 1, 1, 8, 216), got (2, 1, 8, 7)", lambda: modulation_power(torch.zeros(2, 1, 8, 7), SPEC)),
    ("x: expected shape (n ≥ 1, 1, 8, 216), got (0, 1, 8, 216)", lambda: modulation_power(torch.zeros(0, 1, 8, 216), SPEC)),
    ("groups: expected 1 to 8, got 0", lambda: texture_ratio(noise(1, 0), noise(1, 0), SPEC, groups=0)),
    ("groups: expected 1 to 8, got 9", lambda: texture_ratio(noise(1, 0), noise(1, 0), SPEC, groups=9)),
    ("rates: expected ranges of at least 0.20 Hz up to 21.5, got (1, 1.01)",
     lambda: modulation_power(noise(1, 0), SPEC, (1, 1.01))),
])
def test_what_is_refused(line, do):
    with pytest.raises(ValueError) as caught:
        do()
    assert str(caught.value) == line


# --- the grain of a model ----------------------------------------------------------------------------------------------
WINDOWS = made_windows()
X = WINDOWS.tensor().float()


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    config = VAEConfig(latent_dim=24, filter_blocks=0, likelihood="coloured", contiguous=True, global_dim=4)
    vae = config.build(WINDOWS.spec).initialise(X[:30]).eval()
    code = vae.decoder.path.closed.code
    with torch.no_grad():
        code.decoder[-1].weight.add_(0.2 * torch.randn(code.decoder[-1].weight.shape))
    return vae


def test_the_variance_of_grain_is_the_fields_place_by_place(vae):
    z = torch.randn(1, 24, generator=torch.Generator().manual_seed(1)).expand(3000, -1)
    silent = torch.zeros(3000, 1, *WINDOWS.spec.shape)
    log_scale, log_gain = vae.likelihood.field(z[:1])
    drawn = vae.likelihood.draw(silent, torch.Generator().manual_seed(2), z)
    ratio = vae.likelihood.places(drawn, log_gain.expand(3000, -1)).square().mean(0) / (2 * log_scale[0]).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=0.005)
    assert ratio.std().item() == pytest.approx(math.sqrt(2 / 3000), rel=0.15)


def test_grain_brings_back_the_variance_that_the_model_says_music_has(vae):
    "Codes of the model's own pictures, drawn again: as much variance at every place as the pictures have; the mean has less."
    generator = torch.Generator().manual_seed(3)
    g = torch.zeros(2000, 4)
    z = torch.cat([g, torch.randn(2000, 20, generator=generator)], 1)
    own = vae.decoder.path.closed.mean_picture(z)
    x = vae.likelihood.draw(own, generator, z)
    encoder = vae.encoder._local(x, vae.decoder.path.closed.code.fields(g), vae.decoder.path.closed.code, vae.transform)
    mean, draw = encoder[0], encoder[0] + encoder[1] * torch.randn(encoder[0].shape, generator=generator)
    again = vae.likelihood.draw(vae.decoder.path.closed.mean_picture(torch.cat([g, draw], 1)), generator, z)
    kept = vae.transform.index
    total, back, smooth = (vae.likelihood.places(p).flatten(1).var(0)
                           for p in (x, again, vae.decoder.path.closed.mean_picture(torch.cat([g, mean], 1))))
    assert (back / total).mean().item() == pytest.approx(1, abs=0.02)
    assert (back[kept] / total[kept]).numpy() == pytest.approx(np.ones(20), abs=0.25)
    assert smooth.sum() < 0.98 * total.sum() and (smooth[kept] < total[kept]).all()


def test_a_predictive_draw_depends_on_the_seed_alone_and_stays_in_range(vae):
    one, same, other = (posterior_predictive(vae, X[:8], seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.min() >= 0 and one.max() <= 1 and one.shape == X[:8].shape
    with torch.no_grad():
        z = vae.encode(X).mean
        noise = vae.likelihood.draw(torch.full_like(X, 0.5), torch.Generator().manual_seed(9), z).clamp(0, 1)
    rough, of_noise, of_mean = (p.diff(dim=-1).std() for p in (posterior_predictive(vae, X), noise, vae.reconstruct(X)))
    assert 0.7 < rough / of_noise < 1.3 and of_mean < 0.5 * of_noise, "the noise is in it, and of its size"


def test_samples_with_grain_are_the_samples_and_noise(vae):
    smooth, grained = (sample(vae, 3, seed=5, grain=grain) for grain in (False, True))
    assert torch.equal(grained[:2], sample(vae, 2, seed=5, grain=True)), "the first of a seed, however many are asked for"
    gap = grained - smooth.clamp(0, 1)
    assert 0.3 < gap.std() / vae.scale.square().mean().sqrt() < 1.5 and grained.min() >= 0 and grained.max() <= 1
