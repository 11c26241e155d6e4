"""Oracles for musevae.elbo: other implementations, known evidence, limit cases, invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence

from musevae.elbo import (
    ELBO,
    calibrated_scale,
    effective_beta,
    elbo,
    gaussian_nll,
    implied_scale,
    iwae,
    kl_to_standard_normal,
    laplace_nll,
)

NLL = {"gaussian": (gaussian_nll, Normal), "laplace": (laplace_nll, Laplace)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(batch=3, bands=6, frames=5, seed=0, dtype=torch.float64):
    g = generator(seed)
    return torch.rand(2, batch, 1, bands, frames, generator=g, dtype=dtype).unbind(0)


def normal(batch=3, d=4, seed=0, dtype=torch.float64):
    g = generator(seed)
    mean = torch.randn(batch, d, generator=g, dtype=dtype)
    return Normal(mean, torch.rand(batch, d, generator=g, dtype=dtype) + 0.05)


@pytest.mark.parametrize("likelihood", NLL)
@pytest.mark.parametrize("scale", [0.1, torch.tensor(0.1), torch.linspace(0.05, 0.5, 6)])
def test_nll_equals_torch_distributions(likelihood, scale):
    nll, distribution = NLL[likelihood]
    x, x_hat = pictures()
    per_bin = scale[:, None] if torch.is_tensor(scale) and scale.ndim else scale
    expected = -distribution(x_hat, torch.as_tensor(per_bin, dtype=x.dtype)).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(nll(x, x_hat, scale), expected, rtol=1e-6)
    assert nll(x, x_hat, scale).shape == (3,)


@pytest.mark.parametrize("likelihood", NLL)
def test_the_density_integrates_to_one(likelihood):
    grid = torch.linspace(-20, 20, 400_001, dtype=torch.float64)[:, None]
    mass = (-NLL[likelihood][0](grid, torch.zeros_like(grid), 0.3)).exp().sum() * 1e-4
    assert abs(mass - 1) < 1e-6


@pytest.mark.parametrize("likelihood", NLL)
@pytest.mark.parametrize("per_band", [False, True])
def test_calibrated_scale_is_the_minimum(likelihood, per_band):
    x, x_hat = pictures()
    best = calibrated_scale(x, x_hat, likelihood=likelihood, per_band=per_band)
    assert best.shape == ((6,) if per_band else ())
    scale = best.clone().requires_grad_()
    NLL[likelihood][0](x, x_hat, scale).sum().backward()
    assert scale.grad.abs().max() < 1e-8
    for factor in (0.9, 1.1):
        assert NLL[likelihood][0](x, x_hat, factor * best).sum() > NLL[likelihood][0](x, x_hat, best).sum()


def test_calibrated_scale_closed_forms_and_floor():
    x, x_hat = pictures()
    assert torch.isclose(calibrated_scale(x, x_hat), (x - x_hat).square().mean().sqrt())
    assert torch.isclose(calibrated_scale(x, x_hat, likelihood="laplace"), (x - x_hat).abs().mean())
    exact = x.clone().requires_grad_()
    scale = calibrated_scale(x, exact, per_band=True)
    assert (scale == 1e-3).all()
    gaussian_nll(x, exact, scale).sum().backward()
    assert torch.isfinite(exact.grad).all()


def test_per_band_never_loses_where_it_was_fitted():
    x, x_hat = pictures(seed=3)
    for likelihood, (nll, _) in NLL.items():
        one, bands = (calibrated_scale(x, x_hat, likelihood=likelihood, per_band=p) for p in (False, True))
        assert nll(x, x_hat, bands).sum() <= nll(x, x_hat, one).sum() + 1e-9


def test_gradient_does_not_depend_on_detaching_the_scale():
    x, start = pictures()
    for likelihood, (nll, _) in NLL.items():
        grads = []
        for detach in (True, False):
            x_hat = start.clone().requires_grad_()
            scale = calibrated_scale(x, x_hat, likelihood=likelihood)
            nll(x, x_hat, scale.detach() if detach else scale).sum().backward()
            grads.append(x_hat.grad)
        assert torch.allclose(*grads, rtol=1e-9)


def test_kl_equals_torch_distributions():
    q = normal(batch=50, d=8)
    assert torch.allclose(kl_to_standard_normal(q), kl_divergence(q, Normal(0.0, 1.0)), rtol=1e-12)
    assert torch.equal(kl_to_standard_normal(Independent(q, 1)), kl_to_standard_normal(q))


def test_kl_by_monte_carlo_within_its_error():
    q, p = normal(batch=1, d=6, seed=1), Normal(0.0, 1.0)
    torch.manual_seed(0)
    z = q.sample((200_000,))
    draws = (q.log_prob(z) - p.log_prob(z))[:, 0]
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - kl_to_standard_normal(q)[0]).abs() < 4.5 * error).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-5, 5), st.floats(1e-4, 10))
def test_kl_is_never_negative(mean, std):
    for dtype, slack in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        q = Normal(torch.tensor([[mean]], dtype=dtype), torch.tensor([[std]], dtype=dtype))
        assert kl_to_standard_normal(q).item() >= -slack


def test_kl_vanishes_at_the_prior_only():
    assert kl_to_standard_normal(Normal(torch.zeros(1, 3), torch.ones(1, 3))).abs().max() == 0
    assert (kl_to_standard_normal(Normal(torch.zeros(1, 2), torch.tensor([[0.99, 1.01]]))) > 0).all()


@pytest.mark.parametrize("likelihood", NLL)
def test_a_batch_is_only_a_sample(likelihood):
    x, x_hat = pictures(batch=12)
    q = normal(batch=12)
    whole = elbo(x, x_hat, q, likelihood=likelihood, scale=0.1)
    for size in (1, 3, 4, 12):
        parts = [
            elbo(x[i : i + size], x_hat[i : i + size], Normal(q.mean[i : i + size], q.stddev[i : i + size]),
                 likelihood=likelihood, scale=0.1)
            for i in range(0, 12, size)
        ]
        for name in ELBO._fields:
            mean = torch.stack([getattr(p, name) for p in parts]).mean(0)
            assert torch.allclose(mean, getattr(whole, name), rtol=1e-10)
    repeated = elbo(x.repeat(3, 1, 1, 1), x_hat.repeat(3, 1, 1, 1), Normal(q.mean.repeat(3, 1), q.stddev.repeat(3, 1)),
                    likelihood=likelihood, scale=0.1)
    assert torch.isclose(repeated.nats, whole.nats)


def test_parts_and_loss_add_up():
    x, x_hat = pictures()
    bound = elbo(x, x_hat, normal(), scale=0.2)
    assert torch.isclose(bound.rate, bound.kl_per_unit.sum()) and bound.kl_per_unit.shape == (4,)
    assert torch.isclose(bound.nats, -(bound.distortion + bound.rate))
    assert torch.isclose(bound.loss(), -bound.nats)
    assert torch.isclose(bound.loss(beta=0.25), bound.distortion + 0.25 * bound.rate)
    floor = bound.kl_per_unit.median()
    assert torch.isclose(bound.loss(2.0, floor.item()),
                         bound.distortion + 2 * torch.maximum(bound.kl_per_unit, floor).sum())


# --- models whose evidence is known ------------------------------------------------------------------------------


class LinearGaussian:
    """x = b + W z + s ε, with the true posterior as encoder (W has orthogonal columns), or a spoiled one."""

    likelihood = "gaussian"

    def __init__(self, bins=10, d=3, s=0.5, shift=0.0, stretch=1.0, seed=0):
        g = generator(seed)
        q, _ = torch.linalg.qr(torch.randn(bins, d, generator=g, dtype=torch.float64))
        self.w = q * torch.linspace(2, 0.5, d, dtype=torch.float64)
        self.b, self.scale = torch.randn(bins, generator=g, dtype=torch.float64), s
        self.shift, self.stretch = shift, stretch

    def sample(self, n, seed=1):
        g = generator(seed)
        z = torch.randn(n, self.w.shape[1], generator=g, dtype=torch.float64)
        return self.decode(z) + self.scale * torch.randn(n, len(self.b), generator=g, dtype=torch.float64)

    def posterior(self, x):
        precision = 1 + self.w.square().sum(0) / self.scale**2
        return Normal((x - self.b) @ self.w / self.scale**2 / precision, precision.rsqrt().expand(len(x), -1))

    def encode(self, x):
        q = self.posterior(x)
        return Normal(q.mean + self.shift * q.stddev, self.stretch * q.stddev)

    def decode(self, z):
        return self.b + z @ self.w.T

    def evidence(self, x):
        cov = self.w @ self.w.T + self.scale**2 * torch.eye(len(self.b), dtype=torch.float64)
        return MultivariateNormal(self.b, cov).log_prob(x)


def test_with_the_true_posterior_one_sample_gives_the_evidence_exactly():
    model = LinearGaussian()
    x = model.sample(40)
    for k in (1, 5):
        assert torch.allclose(iwae(x, model, k, generator=generator()), model.evidence(x), rtol=1e-9)


def test_elbo_lies_below_the_evidence_by_the_kl_of_the_posteriors():
    model = LinearGaussian(shift=0.6, stretch=1.4)
    x = model.sample(300)
    gap = kl_divergence(model.encode(x), model.posterior(x)).sum(1).mean()
    torch.manual_seed(0)
    draws = []
    for _ in range(200):
        q = model.encode(x)
        draws.append(elbo(x, model.decode(q.sample()), q, scale=model.scale).nats)
    draws = torch.stack(draws)
    error = draws.std() / len(draws) ** 0.5
    assert abs(model.evidence(x).mean() - draws.mean() - gap) < 4.5 * error
    assert gap > 20 * error


def test_iwae_rises_to_the_evidence():
    model = LinearGaussian(shift=0.6, stretch=1.4)
    x, g = model.sample(300), generator()
    gaps, errors = [], []
    for k in (1, 4, 16, 64):
        values = torch.stack([(model.evidence(x) - iwae(x, model, k, generator=g)).mean() for _ in range(8)])
        gaps.append(values.mean().item())
        errors.append(values.std().item() / 8**0.5)
    assert all(a > b for a, b in zip(gaps, gaps[1:], strict=False))
    assert all(gap > -4 * error for gap, error in zip(gaps, errors, strict=True))
    assert gaps[-1] < 0.05 * gaps[0]


def test_iwae_takes_the_picture_where_a_model_has_one():
    class Model(LinearGaussian):
        def picture(self, z):
            return super().decode(z)

        def decode(self, z):
            return super().decode(z).exp()

    plain = LinearGaussian(shift=0.3)
    x = plain.sample(20)
    values = [
        iwae(x, Model(shift=0.3), 3, generator=generator()),
        iwae(x, Model(shift=0.3), 3, x_hat_of=lambda z: Model().picture(z), generator=generator()),
        iwae(x, plain, 3, generator=generator()),
    ]
    assert torch.allclose(values[0], values[2]) and torch.allclose(values[1], values[2])


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_a_trained_linear_vae_keeps_the_units_above_the_water_level(beta):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    v, s2, d = torch.tensor([6.0, 3.0, 1.5, 0.7, 0.1, 0.1, 0.1]), 0.25, 4
    torch.manual_seed(0)
    white = torch.randn(300, 7)
    white = (white - white.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T, correction=0))).T
    x = white * v.sqrt() @ torch.linalg.qr(torch.randn(7, 7))[0].T
    encoder, decoder = torch.nn.Linear(7, d), torch.nn.Linear(d, 7)
    log_std = torch.zeros(d, requires_grad=True)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), log_std])
    for step in range(1500):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 1500)
        q = Normal(encoder(x), log_std.exp().expand(300, -1), validate_args=False)
        loss = elbo(x, decoder(q.rsample()), q, scale=s2**0.5).loss(beta)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.set_num_threads(threads)
    rates = kl_to_standard_normal(q).mean(0).detach().sort(descending=True).values
    expected = (v[:d] / (beta * s2)).log().clamp_min(0) / 2
    assert torch.allclose(rates, expected, atol=0.04)
    assert ((rates > 0.02) == (v[:d] > beta * s2)).all()


# --- hidden betas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", NLL)
def test_an_averaged_loss_is_an_elbo_of_the_implied_scale(likelihood):
    x, start = pictures(batch=4, bands=8, frames=9)
    q0, weight = normal(batch=4), 5e-3

    def gradients(loss):
        leaves = [t.clone().requires_grad_() for t in (start, q0.mean, q0.stddev)]
        loss(leaves[0], Normal(*leaves[1:])).backward()
        return torch.cat([t.grad.flatten() for t in leaves])

    def averaged(x_hat, q):
        error = (x - x_hat).abs() if likelihood == "laplace" else (x - x_hat).square()
        return error.mean() + weight * kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()

    scale = implied_scale(weight, 72, likelihood=likelihood)
    ours = gradients(lambda x_hat, q: elbo(x, x_hat, q, likelihood=likelihood, scale=scale).loss())
    assert torch.allclose(gradients(averaged), weight * ours, rtol=1e-8)


@pytest.mark.parametrize("likelihood", NLL)
def test_effective_beta_gives_the_same_trade(likelihood):
    x, start = pictures()
    nll = NLL[likelihood][0]
    scale, calibrated = 0.8, 0.05
    beta = effective_beta(scale, calibrated, likelihood=likelihood)
    grads = []
    for s in (scale, calibrated):
        x_hat = start.clone().requires_grad_()
        nll(x, x_hat, s).sum().backward()
        grads.append(x_hat.grad)
    assert torch.allclose(beta * grads[0], grads[1], rtol=1e-9)


def test_the_public_codes_loss():
    assert math.isclose(implied_scale(5e-4, 128 * 216), 13.824)
    assert 200 < effective_beta(13.824, 0.05) < 320


# --- machines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    x, x_hat = (t.to(dtype) for t in pictures(bands=128, frames=216, dtype=torch.float32))
    q = normal(dtype=torch.float32)
    low = elbo(x, x_hat, Normal(q.mean.to(dtype), q.stddev.to(dtype)), scale=0.1)
    high = elbo(x.double(), x_hat.double(), Normal(q.mean.to(dtype).double(), q.stddev.to(dtype).double()), scale=0.1)
    assert low.distortion.dtype == low.rate.dtype == torch.float32
    assert torch.allclose(low.nats.double(), high.nats, rtol=1e-5)


def test_autocast_changes_nothing():
    x, x_hat = pictures(dtype=torch.float32)
    q = normal(dtype=torch.float32)
    plain = elbo(x, x_hat, q, scale=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = elbo(x, x_hat, q, scale=0.1)
    assert cast.nats.dtype == torch.float32 and torch.equal(cast.nats, plain.nats)


def test_compiles_as_one_graph():
    def loss(x, x_hat, mean, std, scale, beta):
        q = Normal(mean, std, validate_args=False)
        return elbo(x, x_hat, q, likelihood="laplace", scale=scale).loss(beta, 0.1)

    x, x_hat = pictures(dtype=torch.float32)
    q = normal(dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for scale in (0.1, torch.linspace(0.1, 0.3, 6)):
        args = (x, x_hat, q.mean, q.stddev, scale, 0.5)
        assert torch.allclose(compiled(*args), loss(*args))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x, y, q: gaussian_nll(x, y[:1], 0.1), ["x_hat", "(3, 1, 6, 5)", "(1, 1, 6, 5)"]),
        (lambda x, y, q: laplace_nll(x, y, 0.0), ["scale", "above 0", "0.0"]),
        (lambda x, y, q: laplace_nll(x, y, math.nan), ["scale", "nan"]),
        (lambda x, y, q: gaussian_nll(x, y, torch.ones(5)), ["scale", "(6,)", "(5,)"]),
        (lambda x, y, q: elbo(x, y, q, likelihood="cauchy", scale=0.1), ["likelihood", "gaussian, laplace", "cauchy"]),
        (lambda x, y, q: calibrated_scale(x, y, likelihood="l1"), ["likelihood", "l1"]),
        (lambda x, y, q: kl_to_standard_normal(Laplace(0.0, 1.0)), ["posterior", "Normal", "Laplace"]),
        (lambda x, y, q: iwae(x, None, 0), ["k", "at least 1", "0"]),
        (lambda x, y, q: implied_scale(0, 10), ["kl_weight", "0"]),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError) as error:
        call(*pictures(), normal())
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
