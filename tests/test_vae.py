"musevae.vae: closed forms against sampling and scikit-learn, the model against the linear optimum it starts from."
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import SPEC, model, pictures
from sklearn.decomposition import PCA

from musevae.elbo import elbo
from musevae.mel import MelSpec
from musevae.presets import PRESETS
from musevae.vae import (
    NETWORKS,
    ConvVAE,
    PCABaseline,
    SeparableTransform,
    VAEConfig,
    cosine_basis,
    export_onnx,
    softplus_link,
)


def stir(vae, amount=0.05):
    "Move every weight, so that no part is zero any more."
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in vae.parameters():
            p.add_(amount * torch.randn(p.shape, generator=g))
    return vae


@given(st.integers(1, 64))
@settings(deadline=None, max_examples=20)
def test_cosine_basis_is_orthonormal_and_scipys(n):
    from scipy.fft import dct

    basis = cosine_basis(n)
    assert torch.allclose(basis @ basis.T, torch.eye(n), atol=2e-5)
    x = torch.randn(n, generator=torch.Generator().manual_seed(n))
    assert torch.allclose(basis @ x, torch.tensor(dct(x.numpy(), norm="ortho")), atol=2e-5)


def test_separable_transform_keeps_energy_and_is_a_projection():
    x = pictures(30)
    full = SeparableTransform.fit(x, 16 * 31)
    assert torch.allclose(full.reconstruct(x), x, atol=1e-4)  # all coefficients: nothing lost
    energy = (x[:, 0] - full.profile).square().sum((1, 2))
    assert torch.allclose(full.coefficients(x).square().sum(1), energy, rtol=1e-4)  # Parseval
    half = SeparableTransform.fit(x, 50)
    once = half.reconstruct(x)
    assert torch.allclose(half.reconstruct(once), once, atol=1e-5)


def test_separable_error_on_its_training_windows_is_the_variance_left_out():
    x = pictures(30)
    for d in (0, 1, 7, 100):
        t = SeparableTransform.fit(x, d)
        error = (x - t.reconstruct(x)).square().sum((1, 2, 3)).mean()
        assert error == pytest.approx(t.noise.item() * (16 * 31 - d), rel=1e-3)


def test_separable_error_falls_with_dimension_and_no_subset_is_better():
    x = pictures(30)
    errors = [(x - SeparableTransform.fit(x, d).reconstruct(x)).square().mean().item() for d in (1, 5, 20, 80, 300)]
    assert errors == sorted(errors, reverse=True)
    t, other = SeparableTransform.fit(x, 20), SeparableTransform.fit(x, 20)
    g = torch.Generator().manual_seed(0)
    for _ in range(10):
        other.index.copy_(torch.randperm(16 * 31, generator=g)[:20])
        assert (x - other.reconstruct(x)).square().mean() >= (x - t.reconstruct(x)).square().mean()


def test_linear_posterior_is_bayes():
    "Against the textbook formula for a linear Gaussian model with an explicit 27-column basis."
    t = SeparableTransform.fit(pictures(30), 27)
    basis = t.inverse(torch.eye(27)) - t.profile
    W = (basis.flatten(1) * t.weight[:, None]).T.double()  # bins x units
    x = pictures(5, seed=9)
    r = (x[:, 0] - t.profile).flatten(1).double()
    precision = torch.eye(27, dtype=torch.float64) + W.T @ W / t.noise
    mean = torch.linalg.solve(precision, W.T @ r.T / t.noise).T
    got_mean, got_logvar = t.mean_logvar(x)
    assert torch.allclose(got_mean.double(), mean, atol=1e-3)
    assert torch.allclose(got_logvar[0].exp().double(), torch.linalg.inv(precision).diagonal(), rtol=1e-3)


def test_pca_baseline_is_scikit_learns():
    x = pictures(25)
    ours = PCABaseline.fit(x, 7).reconstruct(x).flatten(1)
    theirs = PCA(7, svd_solver="full").fit(x.flatten(1).numpy())
    assert torch.allclose(ours, torch.tensor(theirs.inverse_transform(theirs.transform(x.flatten(1).numpy()))), atol=1e-4)
    assert len(PCABaseline.fit(x, 512).basis) == 24  # n - 1 components exist


@given(st.floats(-7.5, 9))
@settings(deadline=None)
def test_link_inverts_softplus_and_log_map(x):
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    back = 1 + 0.25 * torch.nn.functional.softplus(softplus_link(x), threshold=40).log10()
    assert abs(back.item() - x.item()) < 1e-10
    (slope,) = torch.autograd.grad(back, x)
    assert abs(slope.item() - 1) < 1e-9


@pytest.mark.parametrize("network", [n for n in NETWORKS if n != "paper"])  # the paper's has no linear path
@pytest.mark.parametrize("filters", [0, 1])
def test_starts_at_the_linear_optimum(network, filters):
    x = pictures(8, seed=5)
    vae = model(network=network, filter_blocks=filters)
    q = vae.encode(x)
    mean, logvar = vae.transform.mean_logvar(x)
    assert torch.allclose(q.mean, mean, atol=1e-6) and torch.allclose(q.stddev, (logvar / 2).exp(), atol=1e-6)
    assert torch.allclose(vae.picture(q.mean), vae.transform.mean_picture(mean), atol=4e-4)


NO_LINEAR = {"linear": False, "filter_blocks": 0}
CONFIGS = [
    {}, {"network": "time"}, {"network": "image"}, NO_LINEAR | {"network": "time"}, NO_LINEAR | {"network": "image"},
    NO_LINEAR | {"network": "paper", "profile": False},
    NO_LINEAR | {"network": "paper", "profile": False, "output": "decibel", "likelihood": "laplace"},
    {"per_band": False, "likelihood": "laplace"}, {"likelihood": "laplace"}, {"filter_blocks": 0}, {"linear_filters": True},
]


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_contract(changes):
    "Shapes, positivity, finiteness; every weight gets a gradient; a window's code does not depend on its neighbours."
    vae, x = stir(model(**changes)), pictures(6, seed=2)
    x_hat, mean, std = vae(x)
    assert x_hat.shape == x.shape and mean.shape == std.shape == (6, 6)
    assert (vae.decode(mean) > 0).all() and x_hat.isfinite().all() and (std > 0).all()
    assert std.log().abs().max() < 4 + abs(vae.transform.noise.log())  # bounded
    q = torch.distributions.Normal(mean, std)
    elbo(x, x_hat, q, likelihood=vae.likelihood).loss().backward()
    missing = [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    for part in (slice(0, 1), slice(2, 5)):
        assert torch.allclose(vae.encode(x[part]).mean, mean[part], atol=2e-5)


def test_gradient_is_right():
    "Against finite differences, in double precision."
    vae = stir(model(latent_dim=2)).double()
    x, eps = pictures(1).double(), torch.ones(1, 2, dtype=torch.float64)
    synthesis = vae.decoder.path.closed.filter
    vae.float = vae.double  # the float32 guards below would round finite differences away

    def loss(gain):
        with torch.no_grad():
            synthesis.head.bias[3] = gain
        x_hat, mean, std = vae(x, eps)
        return (x_hat - x).square().sum()

    bias, h = synthesis.head.bias[3].item(), 1e-2
    slope = (loss(bias + h) - loss(bias - h)) / (2 * h)
    loss(bias)
    x_hat, _, _ = vae(x, eps)
    (grad,) = torch.autograd.grad((x_hat - x).square().sum(), synthesis.head.bias)
    assert grad[3].item() == pytest.approx(slope.item(), rel=2e-2)


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_save_and_load(changes, tmp_path):
    vae = stir(model(**changes))
    again = ConvVAE.from_pretrained(vae.save_pretrained(tmp_path))
    assert again.config == vae.config and not again.training
    assert torch.equal(again.reconstruct(pictures(2)), vae.reconstruct(pictures(2)))


def test_loading_refuses_strangers(tmp_path):
    vae = model()
    vae.save_pretrained(tmp_path / "m")
    other = replace(SPEC, scale="htk")
    with pytest.raises(ValueError, match=f"{other.fingerprint}.*{SPEC.fingerprint}"):
        ConvVAE.from_pretrained(tmp_path / "m", spec=other)
    with pytest.raises(ValueError, match="expected a model folder"):
        ConvVAE.from_pretrained(tmp_path)
    config = (tmp_path / "m" / "config.json").read_text()
    (tmp_path / "m" / "config.json").write_text(config.replace('"format": 2', '"format": 3'))
    with pytest.raises(ValueError, match="expected format 2 or less, got 3"):
        ConvVAE.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize("changes, message", [
    ({"latent_dim": 0}, "VAEConfig.latent_dim: expected a whole number ≥ 1, got 0"),
    ({"latent_dim": 2.5}, "got 2.5"),
    ({"network": "gan"}, "VAEConfig.network: expected one of none, time, image, paper, got 'gan'"),
    ({"linear": False}, "expected a linear path or a network"),
    ({"linear": False, "network": "time"}, "VAEConfig.filter_blocks: expected 0 without a linear path, got 2"),
])
def test_bad_configuration(changes, message):
    with pytest.raises(ValueError) as error:
        VAEConfig(**changes)
    assert message in str(error.value)


def test_bad_input():
    vae = model()
    with pytest.raises(ValueError, match=r"x: expected shape \(batch, 1, 16, 31\), got \(2, 1, 128, 216\)"):
        vae.encode(torch.zeros(2, 1, 128, 216))
    with pytest.raises(ValueError, match=r"z: expected shape \(batch, 6\), got \(2, 7\)"):
        vae.decode(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="latent_dim: expected 0 to 496"):
        SeparableTransform((16, 31), 497)


def test_autocast_keeps_the_linear_path_exact():
    vae, x = model(filter_blocks=0), pictures(4)
    plain = vae.reconstruct(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = vae.reconstruct(x)
    assert mixed.dtype == torch.float32 and torch.allclose(plain, mixed, atol=1e-5)


def test_exports():
    "torch.export of encoder and decoder, parity 1e-4."
    vae, x = stir(model()), pictures(3)

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def forward(self, x):
            return self.vae.posterior(x)

    class Decoder(Encoder):
        def forward(self, z):
            return self.vae.decode(z)

    mean, std = vae.posterior(x)
    for module, argument, wanted in ((Encoder(), x, mean), (Decoder(), mean.detach(), vae.decode(mean))):
        program = torch.export.export(module.eval(), (argument,))
        out = program.module()(argument)
        assert torch.allclose(out[0] if isinstance(out, tuple) else out, wanted, atol=1e-4)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_onnx_says_what_the_model_says(preset, tmp_path):
    "Pictures of full size; batches of a size that the export has not seen, one window among them; parity 1e-4."
    import onnxruntime

    spec = MelSpec()
    torch.manual_seed(1)
    chosen = PRESETS[preset].vae
    small = replace(chosen, latent_dim=24, global_dim=min(8, chosen.global_dim))
    vae = stir(ConvVAE(small, spec).initialise(pictures(30, spec)), 0.02)
    export_onnx(vae, tmp_path / "new")
    assert vae.training and {p.name for p in (tmp_path / "new").iterdir()} == {"encoder.onnx", "decoder.onnx"}
    encoder, decoder = (onnxruntime.InferenceSession(tmp_path / "new" / f"{n}.onnx") for n in ("encoder", "decoder"))
    for n in (1, 2, 5):
        x = pictures(n, spec, seed=n)
        with torch.no_grad():
            mean, std = vae.posterior(x)
            z = mean + std
            wanted = [mean, std, vae.decode(z)]
        got = encoder.run(["mean", "std"], {"x": x.numpy()}) + decoder.run(["magnitude"], {"z": z.numpy()})
        for a, b in zip(got, wanted, strict=True):
            assert a.shape == b.shape and np.abs(a - b.numpy()).max() <= 1e-4 * b.abs().max()
    for session in (encoder, decoder):
        about = session.get_modelmeta().custom_metadata_map
        assert about["mel_fingerprint"] == spec.fingerprint and MelSpec.from_dict(json.loads(about["mel"])) == spec
        assert VAEConfig(**json.loads(about["vae"])) == vae.config


def test_onnx_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("musevae.vae.export.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'expected onnx and onnxscript, got no onnx: pip install "musevae\[onnx\]"'):
        export_onnx(model(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def compiled_and_plain(vae, x, backend):
    "x̂, mean, std and every gradient of one training step, without a compiler and with one that may not break the graph."
    torch.compiler.reset()
    eps = torch.ones(len(x), vae.config.latent_dim)
    for run in (vae, torch.compile(vae, fullgraph=True, backend=backend)):
        vae.zero_grad()
        x_hat, mean, std = run(x, eps)
        q = torch.distributions.Normal(mean, std, validate_args=False)
        elbo(x, x_hat, q, likelihood=vae.likelihood).loss().backward()
        yield [t.detach().clone() for t in (x_hat, mean, std, *(p.grad for p in vae.parameters()))]


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_compiles_without_a_graph_break(changes):
    for a, b in zip(*compiled_and_plain(stir(model(**changes)), pictures(4), "aot_eager"), strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max().clamp_min(1e-6)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="inductor needs a C++ compiler on the path")
def test_compiles_to_machine_code(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # a pool of workers takes longer to start than this
    for a, b in zip(*compiled_and_plain(stir(model()), pictures(4), "inductor"), strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max().clamp_min(1e-6)


def test_paper_network_has_the_papers_weights():
    with torch.device("meta"):
        vae = ConvVAE(VAEConfig(1024, linear=False, filter_blocks=0, network="paper", profile=False))
    total = sum(p.numel() for p in vae.parameters())
    dense = sum(p.numel() for m in vae.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters())
    assert round(total / 1e6, 1) == 171.9 and round(100 * dense / total, 1) == 98.9
    assert math.prod((256, 8, 27)) == 55296


def test_half_precision_windows_fit_as_full_ones():
    x = pictures(40).half()
    a, b = SeparableTransform.fit(x, 20), SeparableTransform.fit(x.float(), 20)
    assert torch.equal(a.profile, b.profile) and torch.equal(a.variance, b.variance)
