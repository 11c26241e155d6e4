"Encoder, prior, decoder and likelihood as parts: what each is asked, parts of one's own, and weights of yesterday."
import copy
import json
import math
import warnings

import pytest
import torch
from made import MODEL, SPEC, model, pictures
from safetensors.torch import save_file
from torch.distributions import Normal, kl_divergence

from musevae.elbo import elbo, gaussian_nll, kl_to_standard_normal, laplace_nll, log_weights, rate
from musevae.training import TrainConfig, average_weights, steps
from musevae.vae import VAE, ConvVAE, VAEConfig
from musevae.vae.likelihood import LIKELIHOODS, Gaussian, Likelihood
from musevae.vae.networks import NETWORKS
from musevae.vae.parts import (
    Absent,
    GaussianEncoder,
    MagnitudeDecoder,
    SeparableDecoder,
    SeparableEncoder,
    SumDecoder,
    softplus_link,
)
from musevae.vae.prior import PRIORS, Prior, StandardNormal

# --- weights of format 1 ------------------------------------------------------------------------------------------

FORMAT_1 = (  # new name, as it begins -> old name: what the model of format 1 called its weights
    ("decoder.path.closed.transform.", "linear."),
    ("encoder.closed.filter.", "analysis."), ("decoder.path.closed.filter.", "synthesis."),
    ("encoder.network.", "encoder."), ("decoder.path.network.", "decoder."), ("encoder.logvar_shift", "logvar_shift"),
    ("likelihood.log_scale", "log_scale"),
)


def old_weights(vae):
    "Weights by their names in format 1, filled in a way that any version can repeat."
    state = {}
    for name, tensor in vae.state_dict().items():
        new, old = next(pair for pair in FORMAT_1 if name.startswith(pair[0]))
        state[old + name.removeprefix(new)] = tensor.clone()
    for i, name in enumerate(sorted(state)):
        if state[name].is_floating_point() and not name.startswith("linear."):
            n = state[name].numel()
            state[name] = 0.1 * torch.sin(0.7 * torch.arange(n, dtype=torch.float64) + i).float().view(state[name].shape)
    state["linear.profile"] = torch.linspace(0.3, 0.7, 16).unsqueeze(1)
    state["linear.variance"] = torch.linspace(2.0, 1.0, 6)
    state["log_scale"] = torch.linspace(-3.0, -2.0, 16)
    return state


def write_format_1(folder, vae, state):
    fields = {k: v for k, v in vae.config.to_dict().items() if k != "prior"}
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    about = dict(format=1, vae=fields, mel=SPEC.to_dict(), mel_fingerprint=SPEC.fingerprint)
    (folder / "config.json").write_text(json.dumps(about))


RECORDED = {  # sums of mean, std, x̂ and noise scale, as the program of format 1 computed them
    "none": (-0.245973, 1.003435, 501.456517, 1.376260),
    "time": (-0.944581, 0.945948, 492.903600, 1.376260),
}


@pytest.mark.parametrize("network", list(RECORDED))
def test_a_model_of_format_1_says_what_it_said(network, tmp_path):
    vae = ConvVAE(VAEConfig(**MODEL, network=network), SPEC)  # not fitted to anything: its basis is the same everywhere
    write_format_1(tmp_path / "old", vae, old_weights(vae))
    again = ConvVAE.from_pretrained(tmp_path / "old")
    with torch.no_grad():
        x_hat, mean, std = again(torch.linspace(0, 1, 2 * 16 * 31).view(2, 1, 16, 31), torch.ones(2, 6))
    found = [t.double().sum().item() for t in (mean, std, x_hat, again.scale)]
    assert found == pytest.approx(RECORDED[network], rel=1e-5)
    again.save_pretrained(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["format"] == 2
    new = ConvVAE.from_pretrained(tmp_path / "new")
    assert all(torch.equal(a, b) for a, b in zip(new.state_dict().values(), again.state_dict().values(), strict=True))


def test_weights_of_format_1_without_a_linear_path_find_their_places(tmp_path):
    vae = model(network="time", linear=False, filter_blocks=0)
    state = old_weights(vae) | {"linear.variance": torch.ones(0)}
    write_format_1(tmp_path / "old", vae, state)
    again = ConvVAE.from_pretrained(tmp_path / "old")
    assert torch.equal(again.transform.profile, state["linear.profile"]) and torch.equal(again.log_scale, state["log_scale"])
    assert torch.equal(again.encoder.network.head.bias, state["encoder.head.bias"])


def test_a_name_that_no_format_knows_is_refused():
    vae = model()
    state = old_weights(vae)
    state["linear.strange"] = state.pop("linear.noise")
    with pytest.raises(RuntimeError, match="strange"):
        vae.load_state_dict(state)


# --- composition --------------------------------------------------------------------------------------------------


def test_the_transform_is_stored_once_and_shared_by_copies():
    vae = model()
    names = [n for n in vae.state_dict() if n.endswith("variance")]
    assert names == ["decoder.path.closed.transform.variance"]
    twin = copy.deepcopy(vae)
    twin.transform.profile.add_(0.1)
    x = pictures(3)
    assert not torch.equal(twin.encode(x).mean, vae.encode(x).mean)  # the copy's encoder sees its own transform ...
    twin.transform.profile.copy_(vae.transform.profile)
    assert torch.equal(twin.encode(x).mean, vae.encode(x).mean)  # ... and nobody else's
    doubled = copy.deepcopy(vae).double()
    assert doubled.encoder.closed._lent[0] is doubled.transform and doubled.transform.bands.dtype == torch.float64


def test_averaging_moves_the_noise_scale_and_every_weight_once():
    vae, average = model(), model()
    with torch.no_grad():
        for tensor in (*vae.parameters(), vae.log_scale):
            tensor.add_(1.0)
    before = copy.deepcopy(average.state_dict())
    average_weights(average, vae, 0.75)
    for name, tensor in average.state_dict().items():
        moved = 0.25 if name in dict(vae.named_parameters()) or name == "likelihood.log_scale" else 0.0
        assert torch.allclose(tensor - before[name], torch.full(tensor.shape, moved).to(tensor), atol=1e-6), name


def test_a_model_put_together_by_hand_is_a_model():
    made = model(filter_blocks=0, per_band=False)
    transform = copy.deepcopy(made.transform)
    by_hand = VAE(
        GaussianEncoder(6, SeparableEncoder(transform, Absent()), Absent(2)), StandardNormal(6),
        MagnitudeDecoder(SumDecoder(SeparableDecoder(transform, softplus_link, Absent()), Absent(), 1.0), SPEC),
        Gaussian(SPEC.shape), SPEC)
    x = pictures(4)
    assert torch.equal(by_hand.reconstruct(x), made.reconstruct(x))
    assert by_hand.latent_dim == 6 and by_hand.device == torch.device("cpu") and by_hand.config is None
    with pytest.raises(ValueError, match="expected a model that VAEConfig.build made"):
        by_hand.save_pretrained("nowhere")


def test_an_encoder_of_absent_parts_is_the_prior():
    mean, std = GaussianEncoder(3, Absent(2), Absent(2))(pictures(2))
    assert mean.shape == std.shape == (2, 3) and (mean == 0).all() and (std == 1).all()


def test_the_usual_prior_is_not_named_in_files_and_keys():
    assert "prior" not in VAEConfig().to_dict() and VAEConfig(**VAEConfig().to_dict()) == VAEConfig()


def test_build_is_the_constructor():
    torch.manual_seed(0)
    built = VAEConfig(**MODEL).build(SPEC)
    torch.manual_seed(0)
    made = ConvVAE(VAEConfig(**MODEL), SPEC)
    assert type(built) is ConvVAE and built.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), made.parameters(), strict=True))


# --- likelihoods --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, nll", [("gaussian", gaussian_nll), ("laplace", laplace_nll)])
@pytest.mark.parametrize("per_band", [False, True])
def test_a_likelihood_is_its_function_at_its_own_scale(name, nll, per_band):
    x, x_hat = pictures(5), pictures(5, seed=1)
    noise = LIKELIHOODS[name](SPEC.shape, per_band)
    noise.settle(torch.linspace(0.05, 0.2, 16) if per_band else 0.1)
    q = Normal(torch.zeros(5, 6), torch.ones(5, 6))
    assert torch.equal(noise.nll(x, x_hat), nll(x, x_hat, noise.scale))
    assert elbo(x, x_hat, q, likelihood=noise)[:2] == elbo(x, x_hat, q, likelihood=name, scale=noise.scale)[:2]
    noise.calibrate(x, x_hat)
    best = noise.nll(x, x_hat).mean()
    for other in (0.97, 1.03):
        assert nll(x, x_hat, noise.scale * other).mean() > best
    assert noise.scale.shape == ((16,) if per_band else ())


def test_calibration_moves_by_its_momentum_in_log():
    noise = Gaussian(SPEC.shape)
    noise.settle(1.0)
    noise.settle(math.e, momentum=0.25)
    assert noise.scale.item() == pytest.approx(math.exp(0.25))


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_what_is_drawn_has_the_scale(name):
    noise = LIKELIHOODS[name](SPEC.shape, per_band=True)
    if noise.scale.ndim == 1:  # one a band
        noise.settle(torch.linspace(0.05, 0.2, 16))
    else:  # one a place; its optimum is smoothed, so neighbours are near in scale
        noise.settle(torch.linspace(0.1, 0.11, 16).unsqueeze(1))
    x_hat = pictures(1).expand(400, -1, -1, -1)
    x = noise.draw(x_hat, torch.Generator().manual_seed(0))
    assert torch.allclose(noise.optimum(x, x_hat), noise.scale, rtol=0.03)
    assert torch.equal(x, noise.draw(x_hat, torch.Generator().manual_seed(0)))


def test_a_name_needs_a_scale():
    x, q = pictures(2), Normal(torch.zeros(2, 6), torch.ones(2, 6))
    with pytest.raises(ValueError, match="scale: expected one for the likelihood 'gaussian', got none"):
        elbo(x, x, q)


# --- priors -------------------------------------------------------------------------------------------------------


class Pointwise(StandardNormal):
    "The standard normal, as if its rate had no closed form."
    rate = Prior.rate


class Scaled(Prior):
    "z = (g, h): g is standard normal, and h ~ N(0, s(g)²) with s = exp(g₁ / 2)."

    def spread(self, z):
        return (z[:, :1] / 2).exp()

    def log_prob(self, z):
        return StandardNormal(2).log_prob(z[:, :2]) + Normal(0.0, self.spread(z)).log_prob(z[:, 2:]).sum(1)

    def rate(self, posterior, z=None):
        h = Normal(posterior.mean[:, 2:], posterior.stddev[:, 2:])
        given = kl_divergence(h, Normal(torch.zeros_like(h.mean), self.spread(z).expand_as(h.mean)))
        return torch.cat([kl_to_standard_normal(Normal(posterior.mean[:, :2], posterior.stddev[:, :2])), given], 1)


def posterior(n=1, d=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Normal(torch.randn(1, d, generator=g).expand(n, d), (torch.rand(1, d, generator=g) + 0.2).expand(n, d))


def test_rate_is_the_closed_form_without_a_prior_and_with_the_usual_one():
    q = posterior(3)
    assert torch.equal(rate(q), kl_to_standard_normal(q)) and torch.equal(rate(q, StandardNormal(5)), rate(q))


@pytest.mark.parametrize("closed, sampled", [(StandardNormal(5), Pointwise(5)), (Scaled(5), None)])
def test_a_rate_from_samples_is_the_rate(closed, sampled):
    "A prior that is known point by point, and one whose scale hangs on a part of the code: on average they agree."
    q = posterior(100_000)
    torch.manual_seed(0)
    z = q.sample()
    exact = closed.rate(q, z).sum(1)
    point = (sampled or closed).log_prob(z)
    draws = Prior.rate(sampled or closed, q, z).sum(1)
    assert torch.allclose(draws, q.log_prob(z).sum(1) - point, atol=1e-3)
    gap = draws - exact
    assert abs(gap.mean()) < 4.5 * gap.std() / len(gap) ** 0.5


def test_the_bound_hands_z_to_prior_and_likelihood():
    seen = {}

    class Noise(Gaussian):
        def nll(self, x, x_hat, z=None):
            seen["likelihood"] = z
            return super().nll(x, x_hat)

    class Known(Pointwise):
        def log_prob(self, z):
            seen["prior"] = z
            return super().log_prob(z)

        log_prob_by_unit = Prior.log_prob_by_unit

    x, q = pictures(3), posterior(3)
    z = q.rsample()
    with pytest.raises(ValueError, match="z: expected the sample that was decoded"):
        elbo(x, x, q, scale=0.1, prior=Pointwise(5))
    bound = elbo(x, x, q, likelihood=Noise(SPEC.shape), prior=StandardNormal(5), z=z)
    assert seen["likelihood"] is z and torch.equal(bound.kl_per_unit, kl_to_standard_normal(q).mean(0))


def test_importance_weights_use_the_model_s_prior():
    vae, x = model(), pictures(3)
    usual = log_weights(x, vae, 4, generator=torch.Generator().manual_seed(0))

    class Wide(StandardNormal):
        def log_prob(self, z):
            return Normal(0.0, 2.0).log_prob(z).sum(1)

    vae.prior = Wide(6)
    wide = log_weights(x, vae, 4, generator=torch.Generator().manual_seed(0))
    g, mean, std = torch.Generator().manual_seed(0), vae.encode(x).mean, vae.encode(x).stddev
    for a, b in zip(usual, wide, strict=True):
        z = mean + std * torch.randn(mean.shape, generator=g)
        assert torch.allclose(b - a, (Normal(0.0, 2.0).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1), atol=2e-2)


def test_samples_of_the_prior_are_functions_of_the_generator():
    a, b = (StandardNormal(6).sample(4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b) and a.shape == (4, 6) and a.dtype == torch.float32


# --- parts from outside -------------------------------------------------------------------------------------------


class Uniformish(Likelihood):
    "A likelihood that the package does not know."
    name = "own"
    nll_at = staticmethod(lambda x, x_hat, scale: gaussian_nll(x, x_hat, 2 * torch.as_tensor(scale)))
    fitted = staticmethod(Gaussian.fitted)
    noise = staticmethod(Gaussian.noise)


class Learnt(Prior):
    name = "own"

    def __init__(self, latent_dim):
        super().__init__(latent_dim)
        self.log_width = torch.nn.Parameter(torch.zeros(latent_dim))

    def log_prob(self, z):
        return Normal(0.0, self.log_width.exp()).log_prob(z).sum(1)


class Up(torch.nn.Module):
    def __init__(self, shape, latent_dim):
        super().__init__()
        self.shape, self.head = shape, torch.nn.Linear(latent_dim, math.prod(shape))

    def forward(self, z):
        return self.head(z).view(-1, 1, *self.shape)


class Down(torch.nn.Module):
    def __init__(self, shape, latent_dim):
        super().__init__()
        self.head = torch.nn.Linear(math.prod(shape), 2 * latent_dim)

    def forward(self, x):
        return self.head(x.flatten(1)).chunk(2, 1)


@pytest.mark.parametrize("table, part, field", [
    (LIKELIHOODS, Uniformish, "likelihood"), (PRIORS, Learnt, "prior"), (NETWORKS, (Down, Up), "network"),
])
def test_a_part_from_outside_trains_is_saved_and_is_missed(table, part, field, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=rf"VAEConfig.{field}: expected one of .*, got 'own'"):
        VAEConfig(**{field: "own"})
    monkeypatch.setitem(table, "own", part)
    vae, x = model(**{field: "own"}), pictures(40)
    before = copy.deepcopy(vae.state_dict())
    bounds = [step.bound.nats.item() for step in steps(vae, x, TrainConfig(epochs=2, batch_size=20, warmup_steps=1))]
    assert all(map(math.isfinite, bounds)) and any(not torch.equal(v, before[k]) for k, v in vae.state_dict().items())
    if field == "prior":
        assert (vae.prior.log_width != 0).all()
    vae.eval().save_pretrained(tmp_path / "m")
    assert torch.equal(ConvVAE.from_pretrained(tmp_path / "m").reconstruct(x), vae.reconstruct(x))
    monkeypatch.delitem(table, "own")
    with pytest.raises(ValueError, match=rf"config.json: VAEConfig.{field}: .*got 'own'; register a part of your own"):
        ConvVAE.from_pretrained(tmp_path / "m")


def test_a_network_without_a_last_layer_to_silence_is_refused_beside_a_linear_path():
    with pytest.raises(ValueError, match="whose last layer is called head.*got 'paper'"):
        ConvVAE(VAEConfig(latent_dim=4, network="paper"), SPEC)


# --- old addresses ------------------------------------------------------------------------------------------------


def test_old_addresses_answer():
    from musevae.vae.networks import TimeBlock

    with pytest.warns(DeprecationWarning, match="networks.TimeBlock has moved: from musevae.vae.networks import TimeBlock"):
        from musevae.networks import TimeBlock as old
    assert old is TimeBlock
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from musevae.elbo import PRIORS, calibrated_scale  # noqa: F401
        from musevae.vae import SeparableTransform, cosine_basis, export_onnx, softplus_link  # noqa: F401
