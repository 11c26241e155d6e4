"Samples with their noise: what the likelihood says, and no more."

from types import SimpleNamespace

import pytest
import torch

from musevae.generation import with_noise
from musevae.vae.likelihood import LIKELIHOODS


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_the_noise_of_a_sample_is_what_the_likelihood_says(likelihood):
    scale = torch.linspace(0.01, 0.05, 24)
    vae, loud = (SimpleNamespace(likelihood=LIKELIHOODS[likelihood]((24, 50), per_band)) for per_band in (True, False))
    vae.likelihood.settle(scale)
    x_hat = torch.full((60, 1, 24, 50), 0.5)
    noise = with_noise(vae, x_hat, seed=3) - x_hat
    assert torch.equal(with_noise(vae, x_hat, seed=3) - x_hat, noise)
    assert not torch.equal(with_noise(vae, x_hat, seed=4) - x_hat, noise)
    size = noise.abs().mean((0, 1, 3)) if likelihood == "laplace" else noise.square().mean((0, 1, 3)).sqrt()
    assert size.numpy() == pytest.approx(scale.numpy(), rel=0.06) and noise.mean().abs() < 1e-3
    far = (noise.abs() > 3 * size[:, None]).double().mean()
    assert far > 0.03 if likelihood == "laplace" else far < 0.004
    loud.likelihood.settle(0.1)
    edge = with_noise(loud, torch.tensor([[[[0.0, 1.0]]]]))
    assert edge.min() >= 0 and edge.max() <= 1
