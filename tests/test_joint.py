"The Gaussian over what holds for a window: a new one saves nothing, a fitted one is the best of all Gaussians."

import math

import pytest
import torch

from musevae.vae.joint import JointGaussian


def posteriors(n=400, units=7, seed=0):
    "Means that belong together, and standard deviations."
    generator = torch.Generator().manual_seed(seed)
    turn = torch.randn(units, units, generator=torch.Generator().manual_seed(9)) / math.sqrt(units)
    return torch.randn(n, units, generator=generator) @ turn.T + 0.5, 0.1 + 0.3 * torch.rand(n, units, generator=generator)


def mean_rate(joint, mean, std):
    "Mean over posteriors of KL(q ‖ joint) less that to N(0, I), in closed form."
    inverse = torch.linalg.inv(joint.root @ joint.root.mT)
    e = mean - joint.mean
    ours = ((e @ inverse) * e).sum(1) + (std.square() * inverse.diagonal()).sum(1) + 2 * joint.root.diagonal().log().sum()
    return ((ours - (mean.square() + std.square()).sum(1)) / 2).mean().item()


def test_a_new_one_is_n_0_i():
    o = torch.randn(5, 7)
    assert not JointGaussian(7).saved(o).any() and torch.equal(JointGaussian(7).draw(o), o)


def test_no_other_gaussian_has_a_lower_mean_rate():
    mean, std = posteriors(4_000)
    best = JointGaussian(7).double().fit(mean, std)
    least = mean_rate(best, mean.double(), std.double())
    assert least < -0.5
    for i in range(20):
        other = JointGaussian(7).double()
        generator = torch.Generator().manual_seed(i)
        other.mean.copy_(best.mean + 0.1 * torch.randn(7, generator=generator))
        away = torch.eye(7) + 0.1 * torch.randn(7, 7, generator=generator).tril()
        other.root.copy_(best.root @ away.double())
        assert mean_rate(other, mean.double(), std.double()) > least


def test_what_is_saved_is_the_fall_of_the_rate():
    mean, std = posteriors(20_000)
    joint = JointGaussian(7).fit(mean, std)
    drawn = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    assert joint.saved(drawn).sum(1).mean().item() == pytest.approx(-mean_rate(joint, mean, std), abs=0.03)


def test_samples_have_its_moments_and_keep_what_is_known():
    joint = JointGaussian(7).fit(*posteriors())
    eps = torch.randn(200_000, 7, generator=torch.Generator().manual_seed(1))
    drawn = joint.draw(eps)
    assert torch.allclose(drawn.mean(0), joint.mean, atol=0.02)
    assert torch.allclose(torch.cov(drawn.T), joint.root @ joint.root.T, atol=0.03)
    again = joint.draw(torch.randn(200_000, 7, generator=torch.Generator().manual_seed(2)), drawn[:, :3])
    assert torch.equal(again[:, :3], drawn[:, :3])
    assert torch.allclose(torch.cov(again.T), joint.root @ joint.root.T, atol=0.03)  # a joint draw, in two steps


def test_few_windows_leave_it_at_n_0_i():
    mean, std = posteriors(3, units=60)
    joint = JointGaussian(60).fit(mean, std)
    assert (torch.linalg.eigvalsh(joint.root @ joint.root.T) > 0.9).all()


@pytest.mark.parametrize("bad", [torch.zeros(4, 6), torch.full((4, 7), math.nan)])
def test_other_units_and_nan_are_refused(bad):
    with pytest.raises(ValueError, match=r"mean, std: expected finite numbers of shape \(n, 7\)"):
        JointGaussian(7).fit(bad, torch.ones_like(bad))
