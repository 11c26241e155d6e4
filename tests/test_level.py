"The water level: the closed form against the ELBO itself, its two inverses, and the widget that runs along it."
import io
import math

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import made_windows
from scipy.optimize import minimize_scalar

from musevae.collapse.level import WaterLevel
from musevae.evaluation import judge
from musevae.vae import ConvVAE, VAEConfig
from musevae.vae.linear import SeparableTransform
from musevae.widgets.level import Level, faded

VARIANCES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 50), st.floats(0.05, 20), st.floats(0.02, 2))
def test_the_closed_form_is_the_optimum_of_the_elbo(v, beta, s2):
    """One unit, the encoder eliminated by calculus and the weight by brute force: a = w / (w² + βs²), σ² = βs² / (w² + βs²)."""
    def loss(w):
        a, var = w / (w**2 + beta * s2), beta * s2 / (w**2 + beta * s2)
        return ((1 - w * a) ** 2 * v + w**2 * var) / (2 * s2) + beta * (a**2 * v + var - 1 - math.log(var)) / 2

    w = minimize_scalar(loss, bounds=(0, 2 * math.sqrt(v)), method="bounded", options=dict(xatol=1e-9)).x
    water = WaterLevel(np.array([v]), 0.0, 10)
    level = water.level(beta, scale=math.sqrt(s2))
    best = math.sqrt(max(0.0, v - level))
    assert loss(best) <= loss(w) + 1e-9 * abs(loss(w))
    a, var = best / (best**2 + level), level / (best**2 + level)
    told = ((1 - best * a) ** 2 * v + best**2 * var, (a**2 * v + var - 1 - math.log(var)) / 2)
    assert (water.energy(level), water.rate(level)) == pytest.approx(told, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(VARIANCES, st.floats(0, 100), st.floats(1e-3, 1e3), st.floats(1.01, 50))
def test_a_higher_price_spends_fewer_nats_and_errs_more(variance, outside, beta, times):
    water = WaterLevel(np.array(variance), outside, 500)
    for options in ({}, dict(scale=0.3), dict(scale=0.3, likelihood="laplace")):
        low, high = (water.level(b, **options) for b in (beta, beta * times))
        assert low < high and water.rate(low) >= water.rate(high) and water.units(low) >= water.units(high)
        assert water.energy(low) <= water.energy(high) * (1 + 1e-12)


@settings(deadline=None)
@given(VARIANCES, st.floats(1e-3, 200), st.floats(1e-2, 1e2))
def test_rate_and_price_are_turned_round(variance, nats, beta):
    water = WaterLevel(np.array(variance), 1.0, 500)
    assert water.rate(water.level_at_rate(nats)) == pytest.approx(nats, rel=1e-9, abs=1e-12)
    for options in ({}, dict(scale=0.3), dict(scale=0.3, likelihood="laplace")):
        assert water.beta(water.level(beta, **options), **options) == pytest.approx(beta, rel=1e-6)


def test_a_model_at_the_level_has_its_rate_and_its_error():
    windows = made_windows()
    x = windows.tensor()
    vae = ConvVAE(VAEConfig(latent_dim=12, filter_blocks=0), windows.spec).initialise(x).eval()
    water = WaterLevel.of(vae.transform)
    for nats in (2.0, 10.0, 25.0):
        vae.transform.noise.fill_(water.level_at_rate(nats))
        found = judge(vae, x)
        assert found.rate_nats == pytest.approx(nats, rel=1e-3)
        assert (found.kl_per_unit > 1e-6).sum() == water.units(vae.transform.noise.item())


def test_the_slope_along_the_curve_is_the_price():
    water = WaterLevel(40 / np.arange(1, 200), 3.0, 1000)
    for level in (0.7, 3.3, 11.0):
        near, far = level * (1 - 1e-5), level * (1 + 1e-5)
        slope = (water.energy(far) - water.energy(near)) / (water.rate(near) - water.rate(far))
        assert slope == pytest.approx(2 * level, rel=1e-3)


@pytest.mark.parametrize("make, message", [
    (lambda: WaterLevel(np.array([]), 0.0, 1), "variance: expected one or more"),
    (lambda: WaterLevel(np.array([1.0, 0.0]), 0.0, 1), "variance: expected"),
    (lambda: WaterLevel(np.array([1.0]), -1.0, 1), "outside, bins"),
    (lambda: WaterLevel(np.array([1.0]), 0.0, 1).level(0.0), "beta: expected a finite number > 0"),
    (lambda: WaterLevel(np.array([1.0]), 0.0, 1).level_at_rate(-1.0), "rate: expected a finite number of nats"),
])
def test_what_makes_no_level_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def tone(hz, seconds=0.3):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * 22050)) / 22050).astype(np.float32)


def a_level(**options):
    stops = [(b, tone(hz), np.full((16, 13), 0.5)) for b, hz in ((1.0, 440), (8.0, 330), (90.0, 220))]
    return Level(0.5 ** np.arange(8), bins=100, **(dict(outside=0.1, noise=0.02, stops=stops) | options))


def test_what_the_page_is_given_is_finite_and_sounds():
    level = a_level(marks=[("m", 3.0, 9.0)])
    state = level.get_state()
    numbers = [state[name] for name in ("outside", "noise", "top_db", "bins", "seconds", "beta", "duration")]
    numbers += [*state["betas"], *state["span"], *np.frombuffer(level.variance, "<f4")]
    numbers += [level.marks[0]["nats"], level.marks[0]["db"]]
    assert all(math.isfinite(n) for n in numbers)
    for start, end in zip([0, *level.sounds_end], level.sounds_end, strict=False):
        y, rate = soundfile.read(io.BytesIO(level.sounds[start:end]))
        assert rate == 22050 and len(y) / rate == pytest.approx(level.duration, abs=0.01)
        assert np.sqrt(np.mean(y**2)) == pytest.approx(0.1, rel=0.1)  # all at -20 dB
        assert abs(y[:20]).max() < 0.1 * abs(y).max()  # a faded edge, so that a loop does not click
    figures = np.array([level.at(b) for b in level.betas])
    assert (np.diff(figures[:, 1]) < 0).all() and (np.diff(figures[:, 2]) > 0).all()
    assert level.to_png()[:4] == b"\x89PNG"


def test_the_widget_tells_the_closed_form():
    level, water = a_level(), WaterLevel(0.5 ** np.arange(8), 0.1, 100)
    for beta in (0.3, 1.0, 7.0, 60.0):
        told = water.units(beta * 0.02), water.rate(beta * 0.02), water.rmse_db(beta * 0.02)
        assert level.at(beta) == pytest.approx(told, rel=1e-6)


@pytest.mark.parametrize("options", [
    dict(stops=[(1.0, tone(300), np.zeros((4, 13)))]),
    dict(stops=[(2.0, tone(300), np.zeros((4, 13))), (2.0, tone(300), np.zeros((4, 13)))]),
    dict(span=(1.5, 100.0)), dict(span=(0.5, 80.0)), dict(noise=0.0), dict(outside=-1.0),
])
def test_stops_and_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="stops: expected|variance, noise"):
        a_level(**options)


def test_a_fade_is_ten_milliseconds_and_changes_nothing_else():
    y = faded(np.ones(22050, np.float32))
    assert y[0] == y[-1] == 0 and (np.diff(y[:220]) > 0).all() and (y[221:-221] == 1).all()
    assert len(faded(np.ones(3, np.float32))) == 3


def test_pictures_at_levels_go_from_the_window_to_the_mean_spectrum():
    from musevae.water import pictures_at

    windows = made_windows()
    x = windows.tensor()
    transform = SeparableTransform.fit(x, x[0].numel() - 5)
    noise, power = transform.noise.item(), transform.variance.max().item()
    near, middle, far = pictures_at(transform, x[:1], [1e-9, power / 50, 2 * power])
    assert torch.allclose(far, transform.profile.expand_as(far), atol=1e-4)
    errors = [(p - x[0]).square().mean() for p in (near, middle, far)]
    assert errors[0] < errors[1] < errors[2] and transform.noise.item() == noise
