"The pulse of a picture, paired differences of probes, and samples with their noise: oracles and limit cases."

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musevae.latent import Probe, onset_envelope, probe_gap, pulse
from musevae.mel import MelSpec
from musevae.reconstruction import with_noise

SPEC = MelSpec()
FRAME = SPEC.hop / SPEC.sample_rate


def ticking(every, first=5):
    "A picture of clicks, one every so many frames."
    y = torch.zeros(1, SPEC.samples)
    y[0, first * SPEC.hop :: every * SPEC.hop] = 1
    return SPEC.forward(y)[0]


@settings(max_examples=12, deadline=None)
@given(every=st.integers(13, 64), first=st.integers(2, 9))
def test_pulse_finds_the_period_of_clicks_and_its_strength(every, first):
    found = pulse(ticking(every, first), SPEC)
    assert found.period == pytest.approx(every * FRAME)  # not twice, not half of it
    assert found.strength == pytest.approx(1 - every * FRAME / SPEC.seconds, abs=0.1)


def test_noise_has_next_to_no_pulse_and_a_beat_in_it_has():
    g = torch.Generator().manual_seed(0)
    y = torch.randn(16, SPEC.samples, generator=g)
    noise = pulse(SPEC.forward(y)[0], SPEC)
    beat = 1 + 9 * (torch.arange(SPEC.samples) % (24 * SPEC.hop) < 2000)
    assert noise.strength.max() < 0.25
    found = pulse(SPEC.forward(y * beat)[0], SPEC)
    assert found.strength.min() > 0.7 and found.period == pytest.approx(np.full(16, 24 * FRAME))


def test_pulse_asks_what_rises_and_not_how_loud_it_is():
    x = ticking(20).numpy()
    assert pulse(x + 0.25, SPEC).strength == pytest.approx(pulse(x, SPEC).strength, abs=1e-4)
    assert pulse(0.5 * x, SPEC).strength == pytest.approx(pulse(x, SPEC).strength, abs=1e-4)
    assert pulse(x[:, 0], SPEC) == pulse(x, SPEC)  # with or without the channel
    assert (onset_envelope(np.linspace(1, 0, 50) * np.ones((1, 4, 50))) == 0).all()  # falling is no onset
    assert (pulse(np.full((2, 128, 216), 0.5), SPEC).strength == 0).all()  # nothing ever rises


def test_pulse_refuses_lags_that_no_window_holds():
    with pytest.raises(ValueError, match=r"lags: expected 0 < shortest ≤ longest < 4\.99 s, got 0\.3 and 5\.5"):
        pulse(ticking(20), SPEC, lags=(0.3, 5.5))
    with pytest.raises(ValueError, match="lags: expected"):
        pulse(ticking(20), SPEC, lags=(0, 1))
    with pytest.raises(ValueError, match=r"x: expected shape \(n, n_mels, frames ≥ 2\), got \(128, 216\)"):
        pulse(np.zeros((128, 216)), SPEC)


# --- paired differences -----------------------------------------------------------------------------------------------


def answers(right, labels):
    "A probe that is right where it is told to be."
    predicted = np.where(right, labels, "wrong").astype(object)
    return Probe(float(np.mean(right)), (0.0, 1.0), 0.5, 1, predicted)


def test_the_gap_of_two_probes_is_that_of_their_scores_and_pairs_shrink_its_interval():
    rng = np.random.default_rng(0)
    labels, groups = np.array(["a", "b"] * 60), np.repeat([f"clip {i}" for i in range(20)], 6)
    hard = np.repeat(rng.random(20) < 0.5, 6)  # clips that no space can read
    one, other = answers(~hard, labels), answers(~hard & (np.arange(120) % 6 > 0), labels)
    gap, (low, high) = probe_gap(one, other, labels, groups)
    assert gap == pytest.approx(one.score - other.score) and 0 < low < gap < high
    apart = probe_gap(answers(~hard, labels), answers(np.zeros(120, bool), labels), labels, groups)[1]
    assert high - low < 0.5 * (apart[1] - apart[0])  # of the score alone: clips differ, the difference does not
    assert probe_gap(one, one, labels, groups) == (0.0, (0.0, 0.0))
    back, (below, above) = probe_gap(other, one, labels, groups)
    assert (back, below, above) == pytest.approx((-gap, -high, -low))


def test_a_gap_needs_rows_that_both_probes_scored():
    labels = np.array(["a", "b", "a", "b"])
    one, other = (answers(np.ones(4, bool), labels) for _ in range(2))
    one.predicted[:2], other.predicted[2:] = None, None
    with pytest.raises(ValueError, match="expected probes that scored the same rows, got none in common"):
        probe_gap(one, other, labels, labels)


# --- samples with their noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_the_noise_of_a_sample_is_what_the_likelihood_says(likelihood):
    scale = torch.linspace(0.01, 0.05, 24)
    vae = SimpleNamespace(likelihood=likelihood, scale=scale)
    x_hat = torch.full((60, 1, 24, 50), 0.5)
    noise = with_noise(vae, x_hat, seed=3) - x_hat
    assert torch.equal(with_noise(vae, x_hat, seed=3) - x_hat, noise)
    assert not torch.equal(with_noise(vae, x_hat, seed=4) - x_hat, noise)
    size = noise.abs().mean((0, 1, 3)) if likelihood == "laplace" else noise.square().mean((0, 1, 3)).sqrt()
    assert size.numpy() == pytest.approx(scale.numpy(), rel=0.06) and noise.mean().abs() < 1e-3
    far = (noise.abs() > 3 * size[:, None]).double().mean()
    assert far > 0.03 if likelihood == "laplace" else far < 0.004
    edge = with_noise(SimpleNamespace(likelihood=likelihood, scale=torch.tensor(0.1)), torch.tensor([[[[0.0, 1.0]]]]))
    assert edge.min() >= 0 and edge.max() <= 1
