"Collapse: the panel against toys whose answer is known, its words by their rules, and bad input refused by name."
import math

import numpy as np
import pytest
import torch
from made import made_windows

from musevae.collapse import SILENT, Diagnosis, Split, diagnose, diagnosis, plot_panel, split_rate
from musevae.evaluation import ACTIVE, judge
from musevae.vae import ConvVAE, VAEConfig


def code(n, d, gain, sigma, seed=1):
    "Means and standard deviations of q(z|x) = N(gain · x, sigma²), x standard normal; not from the seed of the draws."
    mean = gain * np.random.default_rng(seed).standard_normal((n, d))
    return mean, np.full_like(mean, sigma)


@pytest.mark.parametrize("d, gain, sigma", [(1, 0.5, 0.8), (1, 2.0, 0.5), (2, 1.0, 0.7), (3, 0.6, 0.6)])
def test_information_is_that_of_a_gaussian_channel(d, gain, sigma):
    found = split_rate(*code(2000, d, gain, sigma))
    assert found.information == pytest.approx(d / 2 * math.log1p(gain**2 / sigma**2), abs=0.08)


@pytest.mark.parametrize("gain, sigma", [(0.8, 0.6), (1.5, 0.4), (0.3, 1.2)])
def test_mismatch_is_the_kl_of_the_heap(gain, sigma):
    "q(z) is Gaussian of variance gain² + sigma²; its KL from the standard normal is known."
    v = gain**2 + sigma**2
    assert split_rate(*code(3000, 1, gain, sigma)).mismatch == pytest.approx((v - 1 - math.log(v)) / 2, abs=0.06)


def test_the_two_parts_by_the_definition_written_out():
    mean, std = np.random.default_rng(1).normal(size=(7, 3)), np.random.default_rng(2).uniform(0.3, 1.5, (7, 3))
    z = torch.as_tensor(mean + std * np.random.default_rng(5).standard_normal(mean.shape))
    q = torch.distributions.Normal(torch.as_tensor(mean), torch.as_tensor(std))
    pairs = q.log_prob(z[:, None]).sum(2)  # z_i under q(z | x_k)
    expected = (pairs.diagonal() - pairs.logsumexp(1) + math.log(7)).mean().item()
    found = split_rate(mean, std, seed=5)
    assert found.information == pytest.approx(expected, abs=1e-10)
    rate = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean().item()
    assert found.rate == pytest.approx(rate) and found.information + found.mismatch == pytest.approx(rate)


@pytest.mark.parametrize("n, d, sigma", [(1, 4, 0.1), (5, 2, 1e-6), (60, 512, 0.05), (300, 3, 0.01)])
def test_information_never_passes_its_ceiling_and_clouds_apart_reach_it(n, d, sigma):
    found = split_rate(*code(n, d, 1.0, sigma))
    assert found.information <= found.ceiling + 1e-9 and found.ceiling == pytest.approx(math.log(n))
    assert found.information == pytest.approx(found.ceiling, rel=0.01, abs=1e-9)


def test_the_same_posterior_for_every_window_says_nothing():
    found = split_rate(np.zeros((50, 3)), np.full((50, 3), 0.5))
    assert found.information == pytest.approx(0, abs=1e-12)
    assert found.mismatch == pytest.approx(3 / 2 * (0.25 - 1 + math.log(4)))


def test_a_rate_of_another_prior_is_taken_as_it_is():
    found = split_rate(*code(100, 2, 1.0, 0.5), rate=7.0)
    assert found.rate == 7.0 and found.mismatch == 7.0 - found.information


@pytest.mark.parametrize("mean, std, message", [
    (np.zeros((3, 2)), np.ones((3, 3)), "std: expected the shape of mean"),
    (np.zeros(3), np.ones(3), "std: expected the shape of mean"),
    (np.zeros((0, 2)), np.ones((0, 2)), "n ≥ 1"),
    (np.zeros((3, 0)), np.ones((3, 0)), "d ≥ 1"),
    (np.zeros((3, 2)), np.zeros((3, 2)), "standard deviations > 0"),
    (np.full((3, 2), np.nan), np.ones((3, 2)), "finite means"),
    (np.zeros((3, 2)), np.full((3, 2), np.inf), "finite means"),
])
def test_what_is_no_code_is_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        split_rate(mean, std)


def panel(kl, variance, information=1.0, ceiling=4.0):
    return Diagnosis(np.array(kl), np.array(variance), Split(sum(kl), information, 0.0, ceiling), 5.0, 6.0)


@pytest.mark.parametrize("kl, variance, state, idle", [
    ([0.0, 0.0], [0.0, 0.0], "collapsed", 0),
    ([0.5, 0.0], [0.0, 0.0], "collapsed", 1),
    ([0.5, 0.0], [0.5, 0.0], "partly collapsed", 0),
    ([0.5, 2 * SILENT], [0.5, ACTIVE], "partly collapsed", 1),  # the threshold itself is not active
    ([0.5, SILENT], [0.5, ACTIVE], "partly collapsed", 0),
    ([0.5, 0.5], [0.5, 2 * ACTIVE], "alive", 0),
])
def test_words_follow_their_rules(kl, variance, state, idle):
    found = panel(kl, variance)
    assert found.state == state and found.idle == idle and found.verdict.startswith(f"{state}: {found.active} of 2")
    assert ("idle" in found.verdict) == bool(idle)


def test_the_ceiling_is_named_where_it_is_reached():
    assert "ceiling of log n = 4.0" in panel([3.0], [0.9], information=3.7).verdict
    assert "ceiling" not in panel([3.0], [0.9], information=3.5).verdict
    assert "ceiling" not in panel([0.0], [0.0], information=0.0, ceiling=0.0).verdict  # one window: no ceiling to speak of


@pytest.fixture
def windows():
    return made_windows()


@pytest.fixture
def vae(windows):
    torch.manual_seed(0)
    return ConvVAE(VAEConfig(latent_dim=6, filter_blocks=0), windows.spec).initialise(windows.tensor()).eval()


def test_a_model_above_the_water_is_alive_and_one_below_is_collapsed(vae, windows):
    alive = diagnose(vae, windows)
    assert alive.active > 0 and alive.rmse_db < alive.rmse_db_sampled
    vae.transform.noise.fill_(2 * vae.transform.variance.max().item())
    found = diagnose(vae, windows)
    assert found.state == "collapsed" and found.charged == 0 and found.split.rate < 1e-4
    assert found.rmse_db == pytest.approx(found.rmse_db_sampled, abs=1e-3) and found.rmse_db > alive.rmse_db


def test_a_diagnosis_is_read_off_a_judgement_alone(vae, windows, monkeypatch):
    judged, whole = judge(vae, windows), diagnose(vae, windows)
    monkeypatch.setattr(vae, "posterior", None)  # whoever encodes again fails
    found = diagnosis(judged)
    assert found.figures() == whole.figures()
    assert found.active == judged.active_units and found.split.rate == judged.rate_nats
    assert found.rmse_db == judged.rmse_db and np.isclose(found.kl_per_unit.sum(), judged.rate_nats)


def test_figures_do_not_depend_on_the_batch_size(vae, windows):
    whole, parts = (diagnose(vae, windows, batch_size=n).figures() for n in (64, 3))
    assert parts.pop("verdict") == whole.pop("verdict")
    assert parts == pytest.approx(whole, rel=1e-4)


def test_no_windows_are_refused(vae, windows):
    with pytest.raises(ValueError, match="windows: expected at least one"):
        diagnose(vae, windows.tensor()[:0])


def test_the_panel_draws_what_it_says():
    import matplotlib.pyplot as plt

    found = panel([0.5, 3.0, 0.0], [0.5, 0.9, 0.0], information=1.5)
    figure = plot_panel(found)
    units, db, nats = figure.axes
    assert figure.get_suptitle() == found.verdict
    assert units.lines[0].get_ydata()[:2].tolist() == [3.0, 0.5] and units.lines[0].get_ydata()[2] < SILENT
    assert [bar.get_height() for bar in db.patches] == [5.0, 6.0] and [bar.get_height() for bar in nats.patches] == [1.5, 4.0]
    plt.close(figure)
