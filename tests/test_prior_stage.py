"A prior that learns in a second stage: a part of the model, of its folder and of its run; resumed exactly; small corpora."
import copy
import dataclasses
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made import ctrl_c, same
from safetensors.torch import load_file

from musevae.cli.summary import trained_lines
from musevae.elbo import elbo, log_weights
from musevae.evaluation import judge
from musevae.fitting import Stopped
from musevae.mel import MelSpec
from musevae.prior_stage import fit_prior
from musevae.report import Judged, evaluate
from musevae.runs import RunError, load_run, train
from musevae.training import TrainConfig
from musevae.vae import ConvVAE, VAEConfig, export_onnx
from musevae.vae.prior_training import codes_of, train_sequence
from musevae.windows import WindowSet

SPEC = MelSpec(n_mels=16, seconds=95.5 * 512 / 22050)  # 24 slots
SMALL = dict(latent_dim=60, global_dim=4, likelihood="coloured", per_band=False, contiguous=True, filter_blocks=0,
             prior="sequence", prior_width=48, prior_layers=1)
PLAN = dict(preset="demo", **SMALL, batch_size=32, epochs=2, prior_steps=120, progress=False)


def pictures(n=96, seed=0, pale=True):
    "Smooth noise; with `pale`, every other picture has little contrast, which a prior can tell from the first slots."
    x = torch.rand(n, 1, 20, 106, generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.avg_pool2d(x, (5, 11), 1)
    contrast = torch.where(torch.arange(n) % 2 == 0, 0.3, 2.0).view(-1, 1, 1, 1)
    return 0.5 + (contrast if pale else 1) * (x - 0.5)


def made(n=400, pale=True):
    "Clips of two windows each as a `WindowSet`: four fifths to learn from, the rest to choose by."
    x = pictures(n, pale=pale)
    split = ["train"] * (4 * n // 5) + ["valid"] * (n - 4 * n // 5)
    table = pd.DataFrame(dict(track=[f"t{i // 2}" for i in range(n)], window=[i % 2 for i in range(n)], genre="a", split=split,
                              artist=pd.NA, start_s=0.0, path="none"))
    return WindowSet(x[:, 0].half().numpy(), np.zeros(n, np.float32), table, SPEC, "made up")


def built(**changes):
    torch.manual_seed(0)
    return VAEConfig(**(SMALL | changes)).build(SPEC).initialise(pictures()).eval()


def learnt(vae, steps=100):
    list(train_sequence(vae.prior, codes_of(vae, pictures(400)), steps=steps))
    return vae


@pytest.fixture(scope="module")
def model():
    return learnt(built())


def bound(vae, x):
    eps = torch.randn(len(x), vae.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x_hat, mean, std = vae(x, eps)
        q = torch.distributions.Normal(mean, std)
        return elbo(x, x_hat, q, likelihood=vae.likelihood, prior=vae.prior, z=mean + std * eps)


# --- a part of the model ------------------------------------------------------------------------------------------


def test_before_it_has_learnt_it_changes_nothing_in_a_model():
    ours, plain = built(), built(prior="normal")
    assert ours.state_dict().keys() == plain.state_dict().keys() and same(ours.state_dict(), plain.state_dict())
    x = pictures(8, 1)
    assert torch.equal(bound(ours, x).kl_per_unit, bound(plain, x).kl_per_unit)
    assert ours.config.to_dict() == plain.config.to_dict() | dict(prior="sequence", prior_width=48, prior_layers=1)


def test_what_it_saves_is_what_the_bound_gains(model):
    x = pictures(40, 1)
    plain = copy.deepcopy(model)
    plain.prior.reset()
    ours, before = bound(model, x), bound(plain, x)
    assert ours.distortion == before.distortion and ours.nats > before.nats + 3
    gained = (before.kl_per_unit.sum() - ours.kl_per_unit.sum()).item()  # unit by unit it is the whole
    assert gained == pytest.approx((ours.nats - before.nats).item(), abs=1e-2)
    found, as_before = judge(model, x), judge(plain, x)
    assert found.rate_nats < as_before.rate_nats - 3
    assert found.rate_normal_nats == pytest.approx(as_before.rate_nats) and as_before.rate_normal_nats == as_before.rate_nats
    assert (found.kl_per_unit[4:] > 0).all()  # what is saved is shared by those who pay
    with torch.no_grad():
        weights = [log_weights(x, vae, 20, generator=torch.Generator().manual_seed(0)).mean() for vae in (model, plain)]
    assert weights[0] - weights[1] == pytest.approx((ours.nats - before.nats).item(), abs=2.0)


def test_saved_and_loaded_it_is_the_same_prior(model, tmp_path):
    again = ConvVAE.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert again.prior.trained and same(again.state_dict(), model.state_dict())
    z = torch.randn(3, 60, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.prior.log_prob(z), model.prior.log_prob(z))
    draws = [vae.prior.sample(2, torch.Generator().manual_seed(0)) for vae in (model, again)]
    assert torch.equal(*draws)
    new = built()
    torch.manual_seed(0)
    new.load_state_dict(model.state_dict())  # of another state, in place
    assert same(new.state_dict(), model.state_dict())
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))  # loading has drawn nothing
    new.load_state_dict(built().state_dict())  # and back
    assert not new.prior.trained


def test_the_beat_is_found_in_the_pictures_of_a_copys_own_decoder(model):
    twin, z = copy.deepcopy(model), torch.randn(64, 60, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        twin.decoder.path.closed.code.log_spread.add_(torch.randn(SPEC.shape))
    assert not torch.equal(twin.prior.find_beat(z).cell, model.prior.find_beat(z).cell)


def test_exported_encoder_and_decoder_do_not_know_the_prior(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, x = export_onnx(model, tmp_path / "onnx"), pictures(3, 1)
    encoder, decoder = (onnxruntime.InferenceSession(str(folder / f"{part}.onnx")) for part in ("encoder", "decoder"))
    mean, _ = encoder.run(None, {"x": x.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(mean), model.encode(x).mean, atol=1e-4)
        magnitude = model.decode(torch.from_numpy(mean))
    assert torch.allclose(torch.from_numpy(decoder.run(None, {"z": mean})[0]), magnitude, rtol=1e-3, atol=1e-5)
    assert b"prior.network" not in (folder / "decoder.onnx").read_bytes()


@pytest.mark.parametrize(("changes", "message"), [
    (dict(contiguous=False), "VAEConfig.prior: expected for 'sequence' contiguous=True, a linear path and no network, got "
                             "contiguous=False"),
    (dict(prior_width=0), "VAEConfig.prior_width: expected a whole number ≥ 1, got 0"),
])
def test_codes_without_an_order_in_time_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        VAEConfig(**(SMALL | changes))
    assert message in str(error.value)


def test_steps_for_a_prior_that_has_nothing_to_learn_are_refused(tmp_path):
    with pytest.raises(ValueError, match="prior_steps: expected 0 for prior='normal', which has nothing to learn, got 5"):
        train(made(), tmp_path / "run", **PLAN | dict(prior="normal", prior_steps=5))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="TrainConfig.prior_steps: expected a whole number ≥ 0, got -1"):
        TrainConfig(prior_steps=-1)


# --- a stage of a run ---------------------------------------------------------------------------------------------


def everything(run):
    "All that a run with two stages ends with."
    return {**run.vae.state_dict(), **{f"prior {k}": v for k, v in load_file(run.path / "prior.safetensors").items()}}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return train(made(), tmp_path_factory.mktemp("stage") / "straight", **PLAN)


def test_a_run_keeps_the_best_prior_by_held_out_rate(straight):
    rows = pd.read_csv(straight.path / "prior.csv")
    assert rows["step"].tolist() == list(range(0, 121, 12))
    assert rows["valid_rate_nats"][0] == rows["valid_normal_nats"][0]
    assert straight.vae.prior.trained and rows["valid_rate_nats"].min() < rows["valid_normal_nats"][0] - 3
    held = made().select("valid").tensor()
    found = judge(straight.vae, held)
    assert found.rate_nats == pytest.approx(rows["valid_rate_nats"].min(), abs=3.0)  # other samples
    assert straight.metrics["valid_rate_nats"].iloc[-1] == pytest.approx(rows["valid_normal_nats"][0], rel=0.05)


def test_what_is_reported_of_a_run_says_both_rates(straight, tmp_path):
    rows = pd.read_csv(straight.path / "prior.csv")
    best = rows.loc[rows["valid_rate_nats"].idxmin()]
    said = "\n".join(trained_lines(straight, Path("music")))
    assert (f"prior    step {best['step']:.0f}: {best['valid_rate_nats']:.0f} nats a window on clips not trained on, "
            f"{best['valid_normal_nats']:.0f} under N(0, I)") in said
    (tmp_path / "prior.csv").write_text(rows[:1].to_csv(index=False))
    kept = dataclasses.replace(straight, path=tmp_path)
    assert "prior    N(0, I): nothing that was learnt is better" in "\n".join(trained_lines(kept, Path("music")))

    held = made().select("valid")
    result = evaluate(straight, Judged(straight, held, "valid", made(), judge(straight.vae, held)), baselines=False)
    assert result["rate_nats"] < result["rate_normal_nats"] - 3
    assert result["elbo_nats"] == pytest.approx(-result["distortion_nats"] - result["rate_nats"])
    assert result["rate_global_nats"] + result["rate_local_nats"] == pytest.approx(result["rate_nats"])


def test_the_first_stage_is_that_of_a_run_without_a_second(straight, tmp_path):
    plain = train(made(), tmp_path / "plain", **PLAN | dict(prior_steps=0))
    drop = dict(columns="windows_per_second")
    pd.testing.assert_frame_equal(plain.metrics.drop(**drop), straight.metrics.drop(**drop), check_exact=True)
    ours = {k: v for k, v in straight.vae.state_dict().items() if not k.startswith("prior.")}
    assert same(plain.vae.state_dict(), ours)
    assert "prior_steps" not in plain.config["train"] and straight.config["train"]["prior_steps"] == 120
    with pytest.raises(RunError, match="cannot resume: train.prior_steps: expected None, got 120"):
        train(made(), tmp_path / "plain", resume=True, **PLAN)


def test_a_finished_run_is_resumed_to_the_same(straight, tmp_path):
    before = everything(straight)
    again = train(made(), straight.path, resume=True, **PLAN)
    assert same(before, everything(again))


def test_ctrl_c_in_the_second_stage_costs_nothing(straight, tmp_path, monkeypatch):
    from musevae import runs

    def interrupted(*args, **options):
        return fit_prior(*args, **options, on_step=lambda step: ctrl_c() if step == 67 else None)

    monkeypatch.setattr(runs, "fit_prior", interrupted)
    with pytest.raises(Stopped, match="stopped at step 67 of 120 of the prior and saved"):
        train(made(), tmp_path / "cut", **PLAN)
    monkeypatch.undo()
    assert not load_run(tmp_path / "cut").vae.prior.trained
    cut = train(made(), tmp_path / "cut", resume=True, **PLAN)
    assert same(everything(cut), everything(straight))
    assert (cut.path / "prior.csv").read_text() == (straight.path / "prior.csv").read_text()


def test_killed_in_the_second_stage_and_resumed_it_is_the_same_run(straight, tmp_path):
    "kill -9 in a process of its own, at a moment nobody chose."
    script = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from test_prior_stage import PLAN, made
from musevae.runs import train
train(made(), sys.argv[1], **PLAN)
"""
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cut")], env=env)
    end = time.time() + 120
    while not (tmp_path / "cut" / "prior.safetensors").exists() and child.poll() is None and time.time() < end:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().uniform(0, 0.3)))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it was killed"
    cut = train(made(), tmp_path / "cut", resume=True, **PLAN)
    assert same(everything(cut), everything(straight))


def test_a_longer_first_stage_starts_the_second_anew(straight, tmp_path):
    train(made(), tmp_path / "run", **PLAN)
    longer = train(made(), tmp_path / "run", resume=True, **PLAN | dict(epochs=4))
    whole = train(made(), tmp_path / "whole", **PLAN | dict(epochs=2))
    assert same(everything(whole), everything(straight))
    kept = longer.metrics["valid_elbo_nats"].idxmax()
    changed = not same({k: v for k, v in longer.vae.state_dict().items() if not k.startswith("prior.")},
                       {k: v for k, v in straight.vae.state_dict().items() if not k.startswith("prior.")})
    assert changed == (kept > 2) and longer.vae.prior.trained
    rows = pd.read_csv(longer.path / "prior.csv")
    assert rows["step"].is_monotonic_increasing and len(rows) == 11
    assert (rows["valid_normal_nats"][0] == pd.read_csv(straight.path / "prior.csv")["valid_normal_nats"][0]) != changed


@pytest.mark.filterwarnings("ignore:prior. N")
def test_whole_clips_give_other_windows_to_learn_from_too(tmp_path):
    "One pass at a time, numbered as no step of the training is; what was learnt from them is another prior."
    asked, x = [], pictures()

    def crops(rows, number):
        asked.append(number)
        return pictures(len(rows), number % 97)

    found = []
    for given in (None, crops):
        vae = built()
        fit_prior(vae, x, pictures(20, 1), TrainConfig(prior_steps=30), tmp_path, crops=given, progress=False)
        found.append(load_file(tmp_path / "prior.safetensors")["network.head.weight"])
    assert len(set(asked)) == len(asked) == 5 and min(asked) > 1_000_000
    assert not torch.equal(*found)


def test_a_corpus_too_small_for_a_prior_keeps_the_normal_distribution_and_says_so(tmp_path):
    words = r"prior: N\(0, I\) is kept, for on held-out windows nothing that was learnt from 16 windows is better"
    with pytest.warns(UserWarning, match=words):
        run = train(made(20, pale=False), tmp_path / "run", **PLAN)
    assert not run.vae.prior.trained and not any(name.startswith("prior.") for name in run.vae.state_dict())
    rows = pd.read_csv(run.path / "prior.csv")
    assert rows["valid_rate_nats"].idxmin() == 0 and len(rows) == 11
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = train(made(20, pale=False), tmp_path / "run", resume=True, **PLAN)
    assert not again.vae.prior.trained


def test_a_code_of_means_alone_has_no_order_and_says_so(tmp_path):
    with pytest.warns(UserWarning, match=r"prior: N\(0, I\) is kept: no unit of this code has a place in time"):
        run = train(made(), tmp_path / "run", **PLAN | dict(latent_dim=6))
    assert not run.vae.prior.trained and not (run.path / "prior.csv").exists()
