"The global code: its start, its closed-form local code, its gradients, its folder, its resume, and what it refuses."
import copy
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Normal

from musevae.elbo import elbo
from musevae.evaluation import judge
from musevae.mel import MelSpec
from musevae.presets import preset
from musevae.report import Judged, evaluate
from musevae.training import steps, train
from musevae.vae import ConvVAE, SeparableTransform, VAEConfig, export_onnx
from musevae.vae.globalcode import time_rotation, wiener
from musevae.vae.linear import ColouredGaussian
from musevae.vae.slots import Slots
from musevae.windows import WindowSet

SPEC = MelSpec(n_mels=20, seconds=1.0)
G, D = 4, 30


def music(n=120, seed=0):
    "Windows of two kinds, one quiet in the treble and slow, one loud and busy; all above the floor."
    rng = torch.Generator().manual_seed(seed)
    transform = SeparableTransform(SPEC.shape, math.prod(SPEC.shape))
    transform.bands.copy_(torch.linalg.qr(torch.randn(SPEC.n_mels, SPEC.n_mels, generator=torch.Generator().manual_seed(9)))[0])
    transform.variance.copy_(torch.logspace(-2.5, -4.5, math.prod(SPEC.shape)))
    x = transform.inverse(transform.variance.sqrt() * torch.randn(n, math.prod(SPEC.shape), generator=rng)) - 0.5
    kind = (torch.arange(n) % 2).view(-1, 1, 1, 1)
    tilt = torch.linspace(0.4, 1.6, SPEC.n_mels).view(1, 1, -1, 1)
    return (0.5 + 0.1 * kind + x * torch.where(kind == 1, tilt, 2 - tilt)).clamp(0.001, 0.999)


def config(**changes):
    about = dict(latent_dim=G + D, global_dim=G, likelihood="coloured", contiguous=True, filter_blocks=0, per_band=False)
    return VAEConfig(**(about | changes))


def built(seed=0, **changes):
    torch.manual_seed(seed)
    return config(**changes).build(SPEC).initialise(music()).eval()


def disturbed(vae, std=0.3):
    "The model with a global code that moves its fields."
    torch.manual_seed(3)
    torch.nn.init.normal_(vae.decoder.path.closed.code.decoder[-1].weight, std=std)
    return vae


def bound(vae, x, seed=0):
    eps = torch.randn(len(x), vae.latent_dim, generator=torch.Generator().manual_seed(seed))
    x_hat, mean, std = vae(x, eps)
    return elbo(x, x_hat, Normal(mean, std), likelihood=vae.likelihood, prior=vae.prior, z=mean + std * eps)


@torch.no_grad()
def test_it_starts_exactly_at_the_coloured_gaussian_with_local_units_and_without():
    x = music(60, 1)
    evidence = ColouredGaussian.fit(music()).log_evidence(x).mean().item()
    alone = bound(built(latent_dim=G), x)
    assert alone.nats.item() + alone.kl_per_unit.sum().item() == pytest.approx(evidence, abs=0.05)
    many = torch.stack([bound(built(), x, s).nats + bound(built(), x, s).kl_per_unit[:G].sum() for s in range(20)])
    assert many.mean().item() == pytest.approx(evidence, abs=0.3) and bound(built(), x).rate > D / 4


@torch.no_grad()
def test_the_local_code_moves_no_nat_of_the_bound_whatever_the_global_code_says():
    x, seeds = music(60, 1), range(40)
    alone, whole = disturbed(built(latent_dim=G)), disturbed(built())
    whole.decoder.path.closed.code.load_state_dict(alone.decoder.path.closed.code.state_dict())
    differences = []
    for seed in seeds:  # the same g in both: the first columns of the noise
        eps = torch.randn(len(x), G + D, generator=torch.Generator().manual_seed(seed))
        nats = []
        for vae, e in ((alone, eps[:, :G]), (whole, eps)):
            x_hat, mean, std = vae(x, e)
            nats.append(elbo(x, x_hat, Normal(mean, std), likelihood=vae.likelihood, z=mean + std * e).nats)
        differences.append((nats[1] - nats[0]).item())
    assert torch.tensor(differences).mean().abs() < 0.5
    assert (bound(alone, x).nats - bound(built(latent_dim=G), x).nats).abs() > 5  # the fields did move


@torch.no_grad()
def test_its_local_posterior_is_bayes_rule_of_the_model_written_out():
    vae, x = disturbed(built()), music(2, 1)
    path, eps = vae.decoder.path.closed, torch.randn(2, G + D)
    mean, std = vae.posterior(x, eps)
    g = (mean + std * eps)[:, :G]
    unit = torch.zeros(D + 1, G + D)
    unit[1:, G:] = torch.eye(D)
    for i in range(2):
        unit[:, :G] = g[i]
        pictures = path.mean_picture(unit).flatten(1).double()
        loadings = pictures[1:] - pictures[0]
        log_scale, log_gain = vae.likelihood.field(unit[:1])
        basis = torch.kron(path.code.bands, path.code.cosines).T * log_gain[0].exp().repeat_interleave(SPEC.frames).unsqueeze(1)
        precision = torch.linalg.inv((basis.double() * (2 * log_scale).exp().flatten().double()) @ basis.T.double())
        posterior = torch.linalg.inv(torch.eye(D) + loadings @ precision @ loadings.T)
        exact = posterior @ loadings @ precision @ (x[i].flatten().double() - pictures[0])
        assert torch.allclose(mean[i, G:].double(), exact, atol=1e-3)
        assert torch.allclose(std[i, G:].double().square(), posterior.diagonal(), rtol=1e-3)


@torch.no_grad()
def test_a_place_under_water_in_this_music_costs_nothing():
    vae = built()
    path = vae.decoder.path.closed
    moved = path.code.fields(torch.zeros(1, G))
    quiet = moved._replace(log_scale=moved.log_scale - 3)
    dry, wet = (wiener(path.code, path.transform, m) for m in (moved, quiet))
    assert (dry.noise == path.transform.noise).all() and (wet.noise < path.transform.noise).any()
    assert torch.allclose(wet.weight[wet.total < path.transform.noise], torch.tensor(1e-3) * path.transform.noise.sqrt())


def test_gradients_reach_every_weight_and_training_wins_nats_on_windows_it_has_not_seen():
    x, unseen = music(), music(60, 1)
    vae = built(latent_dim=G)
    start = bound(vae, unseen).nats.item()
    plan = preset("demo", epochs=30, learning_rate=3e-3).train
    for _ in steps(vae, x, plan):
        pass
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters() if p.numel())
    learnt = bound(vae.eval(), unseen)
    assert learnt.nats.item() > start + 50 and 0.1 < learnt.rate < 20


@torch.no_grad()
def test_noise_is_drawn_in_the_colour_of_the_code():
    vae = disturbed(built())
    z = torch.zeros(1, G + D)
    z[0, 0] = 2.0
    drawn = vae.likelihood.draw(torch.zeros(4000, 1, *SPEC.shape), torch.Generator().manual_seed(0), z.expand(4000, -1))
    cost = vae.likelihood.nll(drawn, torch.zeros_like(drawn), z.expand(4000, -1))
    log_scale, log_gain = vae.likelihood.field(z)
    entropy = (log_scale + math.log(2 * math.pi * math.e) / 2).sum() + SPEC.frames * log_gain.sum()
    assert cost.mean().item() == pytest.approx(entropy.item(), abs=2.0)


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same_model(tmp_path):
    vae, x = disturbed(built(filter_blocks=1, filter_width=8)), music(3, 1)
    again = ConvVAE.from_pretrained(vae.save_pretrained(tmp_path / "model"))
    assert again.config == vae.config and torch.equal(again.encode(x).mean, vae.encode(x).mean)
    assert torch.equal(bound(again, x).nats, bound(vae, x).nats)
    twin = copy.deepcopy(vae)
    twin.decoder.path.closed.code.decoder[-1].bias.add_(1.0)  # the encoder and the noise of a copy follow its own code
    assert not torch.equal(bound(twin, x).nats, bound(vae, x).nats) and torch.equal(bound(again, x).nats, bound(vae, x).nats)


def test_a_run_that_was_cut_off_resumes_bit_for_bit(tmp_path):
    x = music(24)
    table = pd.DataFrame(dict(track=[f"clip {i // 2}" for i in range(24)], window=[i % 2 for i in range(24)],
                              split=["train"] * 16 + ["valid"] * 8))
    windows = WindowSet(x[:, 0].half().numpy(), np.zeros(24, np.float32), table, SPEC, "made up")
    changes = dict(preset="demo", prior="normal", prior_steps=0, latent_dim=24, global_dim=4, filter_blocks=1, filter_width=8,
                   batch_size=8, epochs=4, progress=False)

    def cut(row):
        if row["epoch"] == 3:
            raise RuntimeError("cut off")

    straight = train(windows, tmp_path / "straight", **changes)
    with pytest.raises(RuntimeError, match="cut off"):
        train(windows, tmp_path / "cut", on_epoch=cut, **changes)
    resumed = train(windows, tmp_path / "cut", resume=True, **changes)
    assert straight.config["vae"]["global_dim"] == 4 and len(resumed.metrics) == 5
    ours, theirs = straight.vae.state_dict(), resumed.vae.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_exported_it_gives_the_same_codes_and_pictures(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    vae, x = disturbed(built()), music(3, 1)
    folder = export_onnx(vae, tmp_path / "onnx")
    encoder, decoder = (onnxruntime.InferenceSession(str(folder / f"{part}.onnx")) for part in ("encoder", "decoder"))
    mean, std = encoder.run(None, {"x": x.numpy()})
    with torch.no_grad():
        q = vae.encode(x)
        assert torch.allclose(torch.from_numpy(mean), q.mean, atol=1e-4)
        assert torch.allclose(torch.from_numpy(std), q.stddev, atol=1e-5)
        assert torch.allclose(torch.from_numpy(decoder.run(None, {"z": mean})[0]), vae.decode(q.mean), rtol=1e-3, atol=1e-5)


def test_the_old_turn_to_time_keeps_lengths_and_needs_contiguous_places():
    transform = SeparableTransform.fit(music(), D, contiguous=True)
    with pytest.warns(DeprecationWarning, match="time_rotation has become musevae.vae.slots.Slots"):
        rotation, place = time_rotation(transform)
    assert torch.allclose(rotation @ rotation.T, torch.eye(D), atol=1e-5) and ((0 < place) & (place < 1)).all()
    slots, z = Slots(transform.index, SPEC.shape), torch.randn(4, D)
    means, timed = slots.split(z)
    turned = z @ rotation.T
    assert torch.allclose(turned[:, slots.overall], means)
    assert torch.allclose(timed.flatten(1)[:, slots.place], turned[:, slots.units], atol=1e-5)
    with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match="expected contiguous places, got holes in component"):
        time_rotation(SeparableTransform.fit(music(), D))


@pytest.mark.parametrize(("changes", "message"), [
    (dict(global_dim=8), "VAEConfig.global_dim: expected coloured noise, a linear path and no network, got likelihood='gaussian'"),
    (dict(floor_tail=0.01), "VAEConfig.floor_tail: expected 0 or, with coloured noise, a number below 1, got 0.01"),
    (dict(global_dim=-1, likelihood="coloured"), "VAEConfig.global_dim: expected a whole number ≥ 0, got -1"),
])
def test_refused(changes, message):
    with pytest.raises(ValueError) as error:
        VAEConfig(**changes)
    assert message in str(error.value)
    json.dumps(VAEConfig().to_dict())


def test_where_there_are_fewer_units_all_are_global():
    vae = built(latent_dim=3)
    assert vae.decoder.path.closed.code.units == 3 and len(vae.transform.index) == 0 and vae.latent_dim == 3


def test_older_models_keep_their_names():
    assert not {"global_dim", "contiguous", "floor_tail"} & set(VAEConfig().to_dict())


def test_a_report_says_what_each_of_the_two_codes_costs(tmp_path):
    x = music(24)
    table = pd.DataFrame(dict(track=[f"clip {i // 2}" for i in range(24)], window=[i % 2 for i in range(24)], genre="all",
                              split=["train"] * 12 + ["valid"] * 6 + ["test"] * 6))
    windows = WindowSet(x[:, 0].half().numpy(), np.zeros(24, np.float32), table, SPEC, "made up")
    run = train(windows, tmp_path / "run", preset="demo", prior="normal", prior_steps=0, latent_dim=24, global_dim=4,
                filter_blocks=0, batch_size=8, epochs=1, progress=False)
    held = windows.select("test")
    result = evaluate(run, Judged(run, held, "test", windows, judge(run.vae, held)), baselines=False)
    assert result["rate_global_nats"] + result["rate_local_nats"] == pytest.approx(result["rate_nats"])
    assert result["rate_local_nats"] > 10 * result["rate_global_nats"] >= 0  # one epoch: g has hardly begun
