"Noise with a colour: its density, its bound for bins at the floor, collapse without loss, calibration, and what it refuses."
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from musevae.elbo import elbo
from musevae.vae.coloured import Coloured
from musevae.vae.linear import ColouredGaussian, SeparableTransform

SHAPE = (6, 10)


def music(n=400, seed=0):
    "Windows with a colour: a few strong places, many weak ones, around a mean spectrum; none at the floor."
    rng = torch.Generator().manual_seed(seed)
    truth = SeparableTransform(SHAPE, math.prod(SHAPE))
    truth.bands.copy_(torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(9)))[0])
    truth.variance.copy_(torch.logspace(-1.5, -4, math.prod(SHAPE)))
    return truth.inverse(truth.variance.sqrt() * torch.randn(n, math.prod(SHAPE), generator=rng)).clamp_min(1e-4)


def started(x, d, tail=0.0):
    transform = SeparableTransform.fit(x, d)
    return transform, Coloured(SHAPE, tail=tail).colour(transform)


@pytest.mark.parametrize("d", [0, 7, 30])
def test_a_linear_code_neither_gains_nor_loses_a_nat(d):
    x = music()
    transform, noise = started(x, d)
    mean, logvar = transform.mean_logvar(x)
    std = (logvar / 2).exp()
    bounds = [elbo(x, transform.mean_picture(mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(s))),
                   Normal(mean, std), likelihood=noise) for s in range(30)]
    bound, rate = (torch.stack([getattr(b, name) for b in bounds]).mean().item() for name in ("nats", "rate"))
    assert bound == pytest.approx(ColouredGaussian.fit(x).log_evidence(x).mean().item(), abs=0.3)
    assert rate == 0 if d == 0 else rate > d / 2


def test_density_and_draws_are_those_of_the_covariance_written_out():
    _, noise = started(music(), 5)
    basis = torch.kron(noise.bands, noise.cosines).T
    covariance = basis @ noise.scale.square().flatten().diag() @ basis.T
    x, x_hat = music(4, 1), music(4, 2)
    exact = -MultivariateNormal(x_hat.flatten(1).double(), covariance.double()).log_prob(x.flatten(1).double())
    assert torch.allclose(noise.nll(x, x_hat).double(), exact, rtol=1e-3)
    drawn = noise.draw(torch.zeros(20_000, 1, *SHAPE), torch.Generator().manual_seed(0)).flatten(1)
    assert torch.allclose(drawn.T @ drawn / len(drawn), covariance, atol=3 * covariance.max() / 20_000**0.5)


def test_the_bound_for_the_floor_is_what_drawn_values_say_and_costs_nothing_where_no_bin_is_at_it():
    x = music()
    transform, noise = started(x, 5, tail=0.02)
    x_hat = transform.profile.expand(len(x), 1, *SHAPE)
    noise.tail = 0.0
    plain = noise.nll(x, x_hat)
    noise.tail = 0.02
    assert torch.equal(noise.nll(x, x_hat), plain)
    x = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.2, 0.0, x)[:4]
    floor = x <= 0
    x_hat = torch.where(floor, 0.0, x_hat[:4])  # near the floor, so that what is made up below it counts
    exact = noise.nll(x, x_hat)
    noise.tail = 0.0
    rng = torch.Generator().manual_seed(1)
    drawn = (torch.where(floor, -0.02 * torch.empty(x.shape).exponential_(generator=rng), x) for _ in range(4000))
    sampled = torch.stack([noise.nll(values, x_hat) for values in drawn]).mean(0) - floor.flatten(1).sum(1) * (1 + math.log(0.02))
    assert torch.allclose(exact, sampled, atol=0.5)


def test_calibration_follows_the_errors_and_leaves_the_kept_places_alone():
    x = music()
    transform, noise = started(x, 7)
    before = noise.scale.clone()
    for _ in range(200):
        noise.calibrate(transform.profile + 0.5 * (x - transform.profile), transform.profile.expand_as(x), momentum=0.1)
    free = ~noise.kept
    assert torch.equal(noise.scale[noise.kept], before[noise.kept])
    assert torch.allclose(noise.scale[free], before[free] / 2, rtol=0.05)


def test_variances_are_averaged_and_not_their_logarithms():
    x = music(4000)
    transform, noise = started(x, 0)
    before = noise.log_scale.clone()
    noise.neighbours = 0
    for batch in x.split(8) * 2:  # eight windows: the mean log of such an estimate is 0.13 too low
        noise.calibrate(batch, transform.profile.expand_as(batch), momentum=0.02)
    assert abs((noise.log_scale - before).mean().item()) < 0.02


def test_refused():
    with pytest.raises(ValueError, match="tail: expected a number ≥ 0, got -1"):
        Coloured(SHAPE, tail=-1)
    with pytest.raises(ValueError, match=r"x_hat: expected the shape of x, \(2, 1, 6, 10\), got \(1, 1, 6, 10\)"):
        Coloured(SHAPE).nll(torch.zeros(2, 1, *SHAPE), torch.zeros(1, 1, *SHAPE))
