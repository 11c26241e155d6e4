"The colour of the noise: a scale a band in closed form, linear filters as a control, the Gaussian without a latent."
import math

import pytest
import torch
from made import MODEL, SPEC

from musevae.elbo import calibrated_scale, elbo
from musevae.presets import PRESETS
from musevae.vae import ColouredGaussian, ConvVAE, VAEConfig, cosine_basis

NOISE = torch.logspace(-2, -1, 16)[:, None]  # standard deviation of the bands: ten times from bottom to top


def music(n, seed):
    "Pictures of four loud time courses, well inside [0, 1], under noise of another level in each band."
    g = torch.Generator().manual_seed(seed)
    courses = torch.randn(n, 4, generator=g) @ cosine_basis(31)[:4]
    shape = torch.linspace(0.5, 1, 16)[:, None]
    return (0.5 + 0.1 * shape * courses[:, None] + NOISE * torch.randn(n, 16, 31, generator=g)).unsqueeze(1)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_scales_by_the_band_are_those_the_errors_have(likelihood):
    x, unseen = music(400, 0), music(400, 1)
    vae = ConvVAE(VAEConfig(**MODEL, likelihood=likelihood), SPEC).initialise(x).eval()
    with torch.no_grad():
        x_hat = vae(unseen)[0]
    errors = calibrated_scale(unseen, x_hat, likelihood=likelihood, per_band=True)
    assert vae.scale.shape == (16,) and errors[-1] > 3 * errors[0]
    assert torch.allclose(vae.scale, errors, rtol=0.05)


def test_scales_by_the_band_gain_on_unseen_windows():
    "As much as Jensen's inequality says: half the bins times what the log of the mean is above the mean of the logs."
    x, unseen = music(400, 0), music(400, 1)
    nats = {}
    for per_band in (False, True):
        vae = ConvVAE(VAEConfig(**MODEL, per_band=per_band), SPEC).initialise(x).eval()
        torch.manual_seed(0)
        with torch.no_grad():
            x_hat, mean, std = vae(unseen)
            nats[per_band] = elbo(unseen, x_hat, torch.distributions.Normal(mean, std), scale=vae.scale).nats.item()
    errors = calibrated_scale(unseen, x_hat, per_band=True)
    jensen = 16 * 31 / 2 * (errors.square().mean().log() - errors.square().log().mean()).item()
    assert nats[True] - nats[False] == pytest.approx(jensen, rel=0.05) and jensen > 100


def test_which_presets_have_a_scale_a_band():
    assert VAEConfig().per_band
    bands = {name: chosen.vae.per_band for name, chosen in PRESETS.items()}
    places = dict(demo=False, gtzan=False)  # every place of a basis has its own
    assert bands == places | dict(transform=True, paper=False, code=False, linear=False)  # the others' losses know one scale


@pytest.mark.parametrize("linear", [True, False])
def test_linear_filters_are_linear(linear):
    "An affine map sends the middle of two pictures to the middle of their images; a filter with GELUs does not."
    torch.manual_seed(0)
    vae = ConvVAE(VAEConfig(**MODEL, linear_filters=linear), SPEC)
    for part in (vae.encoder.closed.filter, vae.decoder.path.closed.filter):
        torch.nn.init.normal_(part.head.weight)
        a, b = music(2, 0)[:1], music(2, 1)[1:]
        bend = (part((a + b) / 2) - (part(a) + part(b)) / 2).abs().max() / part(a).abs().max()
        assert (bend < 1e-5) == linear
    twin = ConvVAE(VAEConfig(**MODEL), SPEC)
    twin.load_state_dict(vae.state_dict())  # the same weights, in the same places


def test_coloured_gaussian_is_the_dense_one():
    shape, x = (4, 6), torch.randn(30, 1, 4, 6, generator=torch.Generator().manual_seed(0)).cumsum(3) / 10 + 0.5
    found = ColouredGaussian.fit(x)
    t = found.transform
    basis = torch.kron(t.bands, cosine_basis(6))[t.index].double()
    dense = torch.distributions.MultivariateNormal(
        t.profile.expand(shape).flatten().double(), basis.T @ torch.diag(t.variance.double()) @ basis)
    assert torch.allclose(found.log_evidence(x), dense.log_prob(x.flatten(1).double()), atol=1e-3)
    assert found.log_evidence(x.half()).shape == (30,)
    drawn = found.sample(4000, torch.Generator().manual_seed(1))
    entropy = (2 * math.pi * math.e * t.variance).log().sum().item() / 2
    assert found.log_evidence(drawn).mean().item() == pytest.approx(-entropy, abs=4 * math.sqrt(12 / 4000))
    with pytest.raises(ValueError, match=r"x: expected shape \(n ≥ 1, 1, 4, 6\), got \(30, 1, 6, 4\)"):
        found.log_evidence(x.transpose(2, 3))


def test_few_windows_do_not_starve_its_variances():
    "Five windows leave some of 496 variances near zero by chance; their neighbours know better."
    few, unseen = music(5, 0), music(200, 1)
    alone, drawn, enough = (ColouredGaussian.fit(x, neighbours=n).log_evidence(unseen).mean()
                            for x, n in ((few, 0), (few, 8), (music(400, 2), 8)))
    assert alone < drawn - 100 and drawn < enough
