"Residuals in units of the noise: white noise of scale 1, whatever likelihood the data were drawn from."
import numpy as np
import pytest
import torch
from made import SPEC, model, pictures
from scipy.stats import kstest

from musevae.evaluation import judge
from musevae.reconstruction import plot_calibration
from musevae.vae import SeparableTransform, VAEConfig
from musevae.vae.likelihood import LIKELIHOODS, Gaussian

PROMISED = {"gaussian": "norm", "laplace": "laplace", "coloured": "norm", "global": "norm"}


def noisy(name, per_band, n=400):
    "A likelihood of several scales, with data x drawn from it around x̂ that was decoded from z: it, x, x̂, z."
    x, g = pictures(60), torch.Generator().manual_seed(0)
    if name == "global":
        torch.manual_seed(0)
        vae = VAEConfig(10, filter_blocks=0, likelihood="coloured", per_band=False, global_dim=3).build(SPEC).initialise(x)
        torch.nn.init.normal_(vae.decoder.path.closed.code.decoder[-1].weight, std=0.4)
        noise, z = vae.likelihood, torch.randn(n, 10, generator=g)
        x_hat = vae.picture(z)
    else:
        noise, z = LIKELIHOODS[name](SPEC.shape, per_band), None
        if name == "coloured":
            noise.colour(SeparableTransform.fit(x, 5))
        else:
            noise.settle(torch.linspace(0.02, 0.2, SPEC.n_mels) if per_band else 0.1)
        x_hat = pictures(n, seed=1)
    x_hat = x_hat.detach() + 1.0  # far above the floor
    return noise, noise.draw(x_hat, g, z), x_hat, z


CASES = [("gaussian", False), ("gaussian", True), ("laplace", False), ("laplace", True), ("coloured", False), ("global", False)]


@pytest.mark.parametrize(("name", "per_band"), CASES)
@torch.no_grad()
def test_what_is_drawn_is_white_noise_of_scale_one(name, per_band):
    noise, x, x_hat, z = noisy(name, per_band)
    left = noise.standardised(x, x_hat, z)
    assert left.shape == x.shape and noise.name == name
    by_band = noise.standard().fitted(left, [0, 1, 3], 0.0)  # 12,400 numbers each
    by_frame = noise.standard().fitted(left, [0, 1, 2], 0.0)
    assert (by_band - 1).abs().max() < 0.04 and (by_frame - 1).abs().max() < 0.05
    assert kstest(left.flatten()[::7].numpy(), PROMISED[name]).pvalue > 1e-3
    unit = left / left.std()
    for a, b in ((unit[..., 1:], unit[..., :-1]), (unit[..., 1:, :], unit[..., :-1, :])):
        assert (a * b).mean().abs() < 0.01  # neighbours in time and in frequency know nothing of one another
    plain = (x - x_hat) / (x - x_hat).std()
    if name in ("coloured", "global"):
        assert (plain[..., 1:] * plain[..., :-1]).mean() > 0.2  # and before they did


@torch.no_grad()
def test_the_noise_of_another_code_is_not_standard():
    noise, x, x_hat, z = noisy("global", False)
    assert (noise.standardised(x, x_hat, z.flip(0)).square().mean((1, 2, 3)).sqrt() - 1).abs().max() > 0.2
    with pytest.raises(ValueError, match="z: expected the codes that were decoded"):
        noise.standardised(x, x_hat)


@torch.no_grad()
def test_standardising_undoes_the_draw_place_by_place():
    "Turned to the places of the basis, what is left are the very numbers that were drawn."
    noise, _, x_hat, z = noisy("global", False, n=20)
    drawn = torch.randn(x_hat[:, 0].shape, generator=torch.Generator().manual_seed(5))
    left = noise.standardised(noise.draw(x_hat, torch.Generator().manual_seed(5), z), x_hat, z)
    assert torch.allclose(noise.places(left), drawn, atol=2e-3)


def test_another_shape_is_refused():
    for name in LIKELIHOODS:
        with pytest.raises(ValueError, match="x_hat: expected the shape of x"):
            LIKELIHOODS[name](SPEC.shape).standardised(pictures(2), pictures(1))


@pytest.mark.parametrize("changes", [dict(), dict(likelihood="laplace"), dict(likelihood="coloured"),
                                     dict(likelihood="coloured", global_dim=2)])
def test_a_judgement_keeps_them_and_the_figure_holds_them_against_the_family_of_the_noise(changes):
    vae = model(**changes)
    found = judge(vae, pictures(40), residuals=100)
    figure = plot_calibration(found.residuals, SPEC, likelihood=vae.likelihood)
    left, right = figure.axes
    family = "laplace" if changes.get("likelihood") == "laplace" else "gaussian"
    assert f"{family} of scale 1" in [t.get_text() for t in left.get_legend().get_texts()]
    t, promised = left.lines[0].get_data()
    assert np.trapezoid(promised, t) == pytest.approx(1, abs=0.01)
    size = right.lines[0].get_ydata()
    assert len(size) == SPEC.n_mels and 0.5 < size.mean() < 1.5  # on the windows of the fit


def test_the_base_is_its_own_family_and_coloured_noise_is_gaussian():
    assert {name: family.standard() for name, family in LIKELIHOODS.items()} == {
        name: Gaussian if name == "coloured" else family for name, family in LIKELIHOODS.items()}
