"""Importance weights of a bound: how many samples count."""

import math

import pytest
import torch
from torch.distributions import Normal

from musevae.elbo import effective_samples, iwae, log_weights


class Exact:
    """x = z w + s ε in one bin a unit: the posterior is known, and `shift` and `stretch` spoil it."""

    likelihood, scale = "gaussian", 0.5

    def __init__(self, d=3, shift=0.0, stretch=1.0):
        self.w = torch.linspace(0.5, 2, d, dtype=torch.float64)
        self.shift, self.stretch = shift, stretch

    def encode(self, x):
        v = self.w**2 + self.scale**2
        std = (self.scale / v.sqrt()).expand_as(x)
        return Normal(x * self.w / v + self.shift * std, self.stretch * std)

    def decode(self, z):
        return z * self.w

    def evidence(self, x):
        return Normal(0, (self.w**2 + self.scale**2).sqrt()).log_prob(x).sum(1)


def generator():
    return torch.Generator().manual_seed(0)


def windows(d=3, n=50):
    return torch.randn(n, d, dtype=torch.float64, generator=generator())


def test_every_sample_of_the_true_posterior_counts_and_has_the_weight_of_the_evidence():
    x, model = windows(), Exact()
    log_w = log_weights(x, model, 16, generator=generator())
    assert log_w.shape == (16, 50)
    assert torch.allclose(log_w, model.evidence(x).expand(16, -1))
    assert torch.allclose(effective_samples(log_w), torch.full((50,), 16.0, dtype=torch.float64))


def test_samples_of_a_spoiled_posterior_count_as_the_integral_says():
    a, b, d = 0.4, 1.3, 2
    log_w = log_weights(windows(d), Exact(d, a, b), 20_000, generator=generator())
    per_unit = b**2 / math.sqrt(2 * b**2 - 1) * math.exp(a**2 / (2 * b**2 - 1))
    assert abs(effective_samples(log_w).mean() / 20_000 * per_unit**d - 1) < 0.01


def test_as_units_are_added_one_sample_outweighs_the_rest():
    counted = []
    for d in (1, 8, 512):
        log_w = log_weights(windows(d), Exact(d, 0.5, 1.5), 64, generator=generator())
        counted.append(effective_samples(log_w).mean())
    assert counted[0] > counted[1] > counted[2] and counted[2] < 1.5


@pytest.mark.parametrize("level", [-4e4, 0.0, 4e4])
def test_the_count_lies_between_one_and_k_at_any_level(level):
    log_w = torch.tensor([[0.0, 0.0, 0.0], [0.0, -200.0, -0.01], [0.0, -300.0, 0.01]]) + level
    counted = effective_samples(log_w)
    assert counted[0] == 3 and counted[1] == 1 and 2.9 < counted[2] <= 3


def test_the_bound_is_the_mean_of_the_weights_in_the_logarithm():
    x, model = windows(), Exact(shift=0.7)
    bound = iwae(x, model, 5, generator=generator())
    weights = log_weights(x, model, 5, generator=generator()).exp()
    assert torch.allclose(bound, weights.mean(0).log())
