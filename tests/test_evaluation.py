"One evaluation: the same figures under the same names for training, reports and the command, whatever the batch size."
import json

import numpy as np
import pandas as pd
import pytest
import torch
from made import TINY, made_windows, power_cut

from musevae.elbo import elbo
from musevae.evaluation import FIGURES, errors, evaluate_windows, judge, passes
from musevae.report import judge_run
from musevae.runs import RunError, load_run, train
from musevae.vae import ConvVAE, VAEConfig


@pytest.fixture
def windows():
    return made_windows()


@pytest.fixture(params=[dict(), dict(linear=False, network="time", filter_blocks=0, likelihood="laplace", per_band=False),
                        dict(latent_dim=12, global_dim=4, likelihood="coloured", contiguous=True)],
                ids=["gaussian", "laplace", "two codes"])
def vae(windows, request):
    torch.manual_seed(0)
    config = VAEConfig(**dict(latent_dim=6, filter_blocks=1, filter_width=8) | request.param)
    return ConvVAE(config, windows.spec).initialise(windows.tensor()).eval()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_no_figure_depends_on_the_batch_size(batch_size, vae, windows):
    whole, parts = judge(vae, windows, batch_size=len(windows)), judge(vae, windows, batch_size=batch_size)
    for name, column in whole.by_window.items():
        assert np.allclose(parts.by_window[name], column, rtol=1e-4, atol=1e-4), name
    assert parts.figures() == pytest.approx(whole.figures(), rel=1e-5)
    assert np.allclose(parts.kl_per_unit, whole.kl_per_unit, rtol=1e-4) and np.allclose(parts.mean, whole.mean, atol=1e-4)


def test_means_are_those_of_elbo_and_errors_over_everything(vae, windows):
    found, part = judge(vae, windows), next(passes(vae, windows, batch_size=len(windows)))
    bound = elbo(part.x, part.x_drawn, part.posterior, likelihood=vae.likelihood, z=part.z)
    assert found.elbo_nats == pytest.approx(bound.nats.item(), rel=1e-5)
    assert (found.distortion_nats, found.rate_nats) == pytest.approx((bound.distortion.item(), bound.rate.item()), rel=1e-5)
    assert np.allclose(found.kl_per_unit, bound.kl_per_unit.detach(), rtol=1e-4)
    assert found.kl_per_unit.sum() == pytest.approx(found.rate_nats)
    off, drawn = (errors(part.x, x_hat, top_db=windows.spec.top_db) for x_hat in (part.x_mean, part.x_drawn))
    assert (found.rmse_db, found.l1_db, found.rmse_db_sampled) == pytest.approx((off.rmse_db, off.l1_db, drawn.rmse_db), rel=1e-5)
    assert np.allclose(part.x_mean, vae.reconstruct(windows.tensor()), atol=1e-6)


def test_a_tensor_and_a_window_set_are_judged_alike_and_no_mode_changes(vae, windows):
    vae.train()
    a, b = judge(vae, windows), judge(vae, windows.tensor())
    assert a.figures() == b.figures() and vae.training
    assert judge(vae, windows.tensor().half()).figures() == a.figures()  # as training keeps them
    assert judge(vae, windows, seed=1).distortion_nats != a.distortion_nats
    assert judge(vae, windows, seed=1).rmse_db == a.rmse_db  # no draw in it


def test_each_window_is_encoded_once_for_each_code_and_decoded_twice(vae, windows, monkeypatch):
    seen = dict(encode=0, picture=0)
    for name in seen:
        whole = getattr(ConvVAE, name)
        monkeypatch.setattr(ConvVAE, name, lambda self, given, *noise, whole=whole, name=name: (
            seen.update({name: seen[name] + len(given)}), whole(self, given, *noise))[1])
    judge(vae, windows, batch_size=7, residuals=40)
    assert seen == dict(encode=80 if vae.hierarchical else 40, picture=80)


@pytest.mark.parametrize("asked, rows", [(0, []), (4, range(0, 40, 10)), (13, range(0, 40, 4)), (100, range(40))])
def test_residuals_are_those_of_windows_spread_evenly(asked, rows, vae, windows):
    left, whole = judge(vae, windows, batch_size=7, residuals=asked).residuals, next(passes(vae, windows))
    assert len(left) == len(rows) and left.dtype == torch.float16
    in_units = vae.likelihood.standardised(whole.x, whole.x_drawn, whole.z)[list(rows)]
    assert torch.allclose(left.float(), in_units, rtol=2e-3, atol=2e-3)


@torch.no_grad()
def test_in_units_of_the_noise_an_error_costs_what_the_likelihood_says(vae, windows):
    "Between two pictures of one code everything cancels but the errors."
    part, noise = next(passes(vae, windows)), vae.likelihood

    def size(x_hat):
        e = noise.standardised(part.x, x_hat, part.z).double()
        return (e.abs() if noise.name == "laplace" else e.square() / 2).sum((1, 2, 3))

    a, b = part.x_drawn, part.x_drawn.flip(-1) + 0.1
    nats = noise.nll(part.x, b, part.z) - noise.nll(part.x, a, part.z)
    assert (nats.abs() > 1).all() and torch.allclose(nats.double(), size(b) - size(a), rtol=1e-3, atol=0.05)


def test_a_unit_that_says_nothing_is_not_active(windows):
    vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=0), windows.spec).initialise(windows.tensor())
    found = judge(vae, windows)
    assert 0 < found.active_units == int((found.mean.var(0) > 0.01).sum()) <= 6
    assert judge(vae, windows.tensor()[:1]).active_units == 0  # one window varies from no other


def test_nothing_and_other_shapes_are_refused(vae, windows):
    with pytest.raises(ValueError, match="windows: expected at least one, got none"):
        judge(vae, windows.tensor()[:0])
    with pytest.raises(ValueError, match="expected shape"):
        judge(vae, windows.tensor()[..., :-1])


# One set of names -----------------------------------------------------------------------------------------------------
def test_metrics_are_the_figures_of_judge(windows, tmp_path):
    run = train(windows, tmp_path / "run", **TINY)
    assert list(run.metrics)[4:] == [f"{part}_{name}" for part in ("train", "valid") for name in FIGURES]
    best = run.metrics.loc[run.metrics["valid_elbo_nats"].idxmax()]
    found = judge(run.vae, windows.select("valid"))
    assert {name: best[f"valid_{name}"] for name in FIGURES} == pytest.approx(found.figures(), rel=1e-5)
    assert json.loads((run.path / "metrics.json").read_text())["best"]["valid_l1_db"] == pytest.approx(found.l1_db, rel=1e-5)


def test_metrics_of_an_older_run_are_read_under_todays_names_and_it_is_not_resumed(windows, tmp_path):
    run = train(windows, tmp_path / "run", **TINY)
    old = ["elbo", "distortion", "rate", "rmse_db"]
    kept = run.metrics[["epoch", *(f"valid_{n}" if n == "rmse_db" else f"valid_{n}_nats" for n in old)]]
    as_recipe_1_wrote_it = kept.set_axis(["epoch", *(f"valid_{n}" for n in old)], axis=1)
    as_recipe_1_wrote_it.to_csv(run.path / "metrics.csv", index=False)
    pd.testing.assert_frame_equal(load_run(run.path).metrics, kept)
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | dict(recipe=1)))
    with pytest.raises(RunError, match="recipe: expected 1, got 2"):
        train(windows, run.path, resume=True, **TINY)


def test_names_that_became_others_say_so(vae, windows):
    from musevae import reconstruction, training

    with pytest.warns(DeprecationWarning, match="judge"):
        found = evaluate_windows(vae, windows.tensor())
    assert found == {name: judge(vae, windows).figures()[new] for name, new in (
        ("elbo", "elbo_nats"), ("distortion", "distortion_nats"), ("rate", "rate_nats"), ("rmse_db", "rmse_db"))}
    with pytest.warns(DeprecationWarning, match="musevae.evaluation"):
        assert training.evaluate_windows is evaluate_windows
    with pytest.warns(DeprecationWarning, match="musevae.report"):
        assert reconstruction.judge_run is judge_run


def test_the_mode_comes_back_when_a_judge_is_interrupted(vae, windows, monkeypatch):
    monkeypatch.setattr(ConvVAE, "picture", lambda self, z: power_cut())
    with pytest.raises(MemoryError):
        judge(vae.train(), windows)
    assert vae.training
