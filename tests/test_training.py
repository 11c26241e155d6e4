"musevae.training: functions of the step, exact resume after a kill, selection, refusals."
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MAKE, SMALL, TINY, TWO_CODES, at, ctrl_c, made_windows, power_cut, same, state

from musevae import device
from musevae.corpus import load_corpus
from musevae.elbo import elbo
from musevae.evaluation import judge
from musevae.fitting import fit
from musevae.mel import MelSpec
from musevae.presets import PRESETS, preset
from musevae.runs import load_run, train
from musevae.training import TrainConfig, batch_of, learning_rate, noise_of, step_flops
from musevae.vae import ConvVAE, VAEConfig
from musevae.windows import WindowSet


@pytest.fixture
def windows():
    return made_windows()


def weights(run):
    return dict(run.vae.state_dict())


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_every_epoch_is_a_permutation(n, size, seed, epoch):
    per_epoch = -(-n // size)
    rows = torch.cat([batch_of(epoch * per_epoch + i, n, size, seed) for i in range(per_epoch)])
    assert rows.sort().values.tolist() == list(range(n))


@given(st.integers(1, 5000), st.integers(0, 200))
@settings(deadline=None)
def test_learning_rate_stays_within_its_bounds(steps, warmup):
    config = TrainConfig(warmup_steps=warmup)
    rates = [learning_rate(s, steps, config) for s in range(0, steps + 1, max(1, steps // 50))]
    assert all(0 < r <= config.learning_rate for r in rates)
    after = [r for s, r in zip(range(0, steps + 1, max(1, steps // 50)), rates, strict=True) if s >= warmup]
    assert after == sorted(after, reverse=True)


def test_noise_is_a_function_of_seed_and_step():
    draws = {(seed, step): noise_of(step, (1000,), seed) for seed in (0, 1) for step in (0, 1)}
    assert torch.equal(draws[0, 1], noise_of(1, (1000,), 0))
    values = list(draws.values())
    assert all(abs(np.corrcoef(values[0], v)[0, 1]) < 0.15 for v in values[1:])


@pytest.mark.parametrize("model", [TINY, TWO_CODES], ids=["transform", "demo"])
def test_same_seed_same_run_other_seed_other_run(model, windows, tmp_path):
    a, b, c = (train(windows, tmp_path / n, seed=s, **model) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert same(state(a), state(b)) and not same(state(a), state(c))


def test_run_folder_says_everything(windows, tmp_path):
    run = train(windows, tmp_path / "run", **TINY)
    assert {p.name for p in run.path.iterdir()} == {"config.json", "corpus.csv", "metrics.csv", "metrics.json", "model",
                                                    "checkpoint.safetensors", ".lock"}
    config = json.loads((run.path / "config.json").read_text())
    assert config["windows"] == {"train": 30, "valid": 10} and config["mel_fingerprint"] == windows.spec.fingerprint
    assert run.metrics["epoch"].tolist() == [0, 1, 2, 3] and run.metrics["step"].tolist() == [0, 4, 8, 12]
    best = json.loads((run.path / "metrics.json").read_text())["best"]
    assert best["valid_elbo_nats"] == pytest.approx(run.metrics["valid_elbo_nats"].max())
    assert np.allclose(-run.metrics["valid_elbo_nats"], run.metrics["valid_distortion_nats"] + run.metrics["valid_rate_nats"])


def test_the_model_kept_is_the_best_by_held_out_elbo_and_counts_step_0(windows, tmp_path):
    run = train(windows, tmp_path / "run", learning_rate=0.3, **TINY)  # a rate that ruins the model
    x = torch.from_numpy(windows.select("valid").x).unsqueeze(1)
    judged = judge(run.vae, x, seed=0).elbo_nats
    assert judged == pytest.approx(run.metrics["valid_elbo_nats"].max(), rel=1e-5)
    closed_form = ConvVAE(run.vae.config, run.spec).initialise(windows.select("train").tensor())
    assert judged >= judge(closed_form, x, seed=0).elbo_nats - 1e-2


def test_training_improves_on_the_closed_form(windows, tmp_path):
    run = train(windows, tmp_path / "run", **{**TINY, "epochs": 15})
    assert run.metrics["train_elbo_nats"].iloc[-1] > run.metrics["train_elbo_nats"].iloc[0]


@pytest.mark.parametrize("model", [TINY | dict(latent_dim=40), TWO_CODES], ids=["transform", "demo"])
def test_killed_at_a_random_step_and_resumed_is_the_uninterrupted_run(model, windows, tmp_path):
    "kill -9 in a process of its own, at a moment nobody chose; then resume; every bit equal."
    options = {**model, "epochs": 60}
    script = MAKE + f"""
import sys
from musevae.runs import train
train(windows, sys.argv[1], **{options!r})
"""
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cut")], env=env)
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    end = time.time() + 120
    while not checkpoint.exists() and child.poll() is None and time.time() < end:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().uniform(0, 0.4)))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it was killed"
    cut = train(windows, tmp_path / "cut", resume=True, **options)
    whole = train(windows, tmp_path / "whole", **options)
    assert same(state(whole), state(cut))
    drop = dict(columns="windows_per_second")
    pd.testing.assert_frame_equal(whole.metrics.drop(**drop), cut.metrics.drop(**drop), check_exact=True)


def test_ctrl_c_saves_between_two_steps_and_says_how_to_go_on(windows, tmp_path):
    inherited = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell
    with pytest.raises(KeyboardInterrupt, match="stopped at step 7 of 12 and saved"):
        train(windows, tmp_path / "cut", on_step=at(7, ctrl_c), **TINY)
    cut = train(windows, tmp_path / "cut", resume=True, **TINY)
    assert same(state(cut), state(train(windows, tmp_path / "whole", **TINY)))
    assert signal.getsignal(signal.SIGINT) is inherited


def test_a_loss_that_is_not_finite_names_the_batch(windows, tmp_path):
    windows.x[7] = np.nan
    with pytest.raises(FloatingPointError, match=r"loss at step \d+: expected a finite number.*t3#1"):
        fit_on = windows.select("train")
        x = fit_on.tensor()
        vae = ConvVAE(VAEConfig(latent_dim=4, filter_blocks=0), windows.spec).initialise(x[:4])
        fit(vae, x, x[:4], TrainConfig(epochs=1, batch_size=8), tmp_path, progress=False,
            names=lambda rows: [f"{fit_on.table.track[i]}#{fit_on.table.window[i]}" for i in rows.tolist()])


def test_loss_is_minus_elbo_per_bin(windows, tmp_path):
    "One step of plain gradient descent in the loop is the step one would write by hand."
    x = windows.select("train").tensor()[:8]
    config = TrainConfig(epochs=1, batch_size=8, weight_decay=0.0, clip_norm=1e9, warmup_steps=0)
    make = lambda: ConvVAE(VAEConfig(latent_dim=4, filter_blocks=1, filter_width=4), windows.spec).initialise(x)  # noqa: E731
    torch.manual_seed(0)
    looped = make()
    torch.manual_seed(0)
    by_hand = make()
    fit(looped, x, x, config, tmp_path, progress=False)
    order = batch_of(0, 8, 8, 0)
    x_hat, mean, std = by_hand.train()(x[order], noise_of(0, (8, 4), 0))
    loss = -elbo(x[order], x_hat, torch.distributions.Normal(mean, std), scale=by_hand.scale).nats / x[0].numel()
    optimizer = torch.optim.AdamW(by_hand.parameters(), learning_rate(0, 1, config), (0.9, 0.95), weight_decay=0.0)
    loss.backward()
    optimizer.step()
    for (name, a), b in zip(looped.named_parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_refusals(windows, tmp_path):
    with pytest.raises(ValueError, match="preset: expected one of demo, .*, got 'huge'"):
        preset("huge")
    with pytest.raises(ValueError, match="colour: expected a field of vae: latent_dim, .*; train: epochs, .*; got 'colour'"):
        preset("demo", colour=1)
    with pytest.raises(ValueError, match="TrainConfig.epochs: expected a whole number ≥ 1, got 0"):
        TrainConfig(epochs=0)
    with pytest.raises(ValueError, match="expected a run folder, found nothing"):
        load_run(tmp_path / "none")
    with pytest.raises(ValueError, match="found no config.json"):
        load_run(tmp_path)
    train(windows, tmp_path / "run", **TINY)
    with pytest.raises(ValueError, match="expected no run there"):
        train(windows, tmp_path / "run", **TINY)
    with pytest.raises(ValueError, match="cannot resume: seed: expected 0, got 1$"):
        train(windows, tmp_path / "run", resume=True, seed=1, **TINY)


def test_resuming_a_finished_run_changes_nothing(windows, tmp_path):
    run = train(windows, tmp_path / "run", **TINY)
    again = train(windows, tmp_path / "run", resume=True, **TINY)
    assert same(state(run), state(again)) and run.metrics.equals(again.metrics)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_takes_a_step(name, windows, tmp_path):
    base = PRESETS[name]
    model = replace(base.vae, latent_dim=8, filter_width=8, global_dim=min(4, base.vae.global_dim))
    small = replace(base, vae=model, train=replace(base.train, epochs=1))
    spec = MelSpec(**SMALL)
    x = windows.select("train").tensor()
    vae = ConvVAE(small.vae, spec).initialise(x)
    if small.train.noise_scale is not None:
        vae.calibrate(torch.tensor(small.train.noise_scale))
    rows = fit(vae, x, x[:8], small.train, tmp_path, progress=False)
    assert np.isfinite(rows[["train_elbo_nats", "valid_elbo_nats", "valid_rmse_db"]]).all().all()
    assert (vae.scale.tolist() == pytest.approx(13.824)) == (name == "code")


def events(folder):
    "All that TensorBoard's own reader finds: tag -> [(step, value), ...]."
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def agree(folder, metrics):
    "Every number of the table stands in the log once, and nothing else does."
    logged = events(folder)
    assert set(logged) == {c.replace("train_", "train/").replace("valid_", "valid/") for c in metrics}
    for column in metrics:
        told = logged[column.replace("train_", "train/").replace("valid_", "valid/")]
        assert [step for step, _ in told] == metrics["step"].tolist()
        assert np.allclose([value for _, value in told], metrics[column], rtol=1e-6)


def test_tensorboard_holds_the_metrics_and_changes_no_bit(windows, tmp_path):
    run = train(windows, tmp_path / "logged", tensorboard=True, **TINY)
    agree(run.path / "tensorboard", run.metrics)
    assert same(state(run), state(train(windows, tmp_path / "plain", **TINY)))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("checkpoint_epochs", [1, 3])
def test_a_resumed_run_goes_on_in_its_log(before, checkpoint_epochs, windows, tmp_path):
    "Stopped by force after epoch 2; evaluations that no checkpoint holds are made again, and logged once."
    options = {**TINY, "epochs": 4, "checkpoint_epochs": checkpoint_epochs}
    with pytest.raises(MemoryError):
        train(windows, tmp_path / "run", tensorboard=before, on_step=at(9, power_cut), **options)
    run = train(windows, tmp_path / "run", resume=True, tensorboard=True, **options)
    assert run.metrics["epoch"].tolist() == [0, 1, 2, 3, 4]
    agree(run.path / "tensorboard", run.metrics)


def test_tensorboard_says_what_to_install(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'tensorboard: expected the package.*pip install "musevae\[tensorboard\]"'):
        train(windows, tmp_path / "run", tensorboard=True, **TINY)
    assert not (tmp_path / "run").exists()
    train(windows, tmp_path / "run", **TINY)


def test_imitated_bfloat16_is_refused(windows, tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("a question to CPUs")
    monkeypatch.setattr(device, "_bfloat16_cost", lambda: 31.0)
    with pytest.raises(ValueError, match="TrainConfig.mixed_precision: expected no on this CPU, got bf16.*31 times as slow"):
        train(windows, tmp_path / "run", mixed_precision="bf16", **TINY)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="TrainConfig.mixed_precision: expected no or bf16, got 'fp16'"):
        TrainConfig(mixed_precision="fp16")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN can be held back on x86 only")
def test_imitated_bfloat16_is_noticed():
    "On a processor that is told to know no AVX-512."
    code = "from musevae.device import _bfloat16_cost; print(_bfloat16_cost())"
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert float(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout) > 2


def test_bfloat16_trains_beside_float32_in_one_process(windows, tmp_path, monkeypatch):
    "The weights stay in float32; the result is close to that in full precision."
    monkeypatch.setattr(device, "_bfloat16_cost", lambda: 1.0)  # imitated or not
    plain = train(windows, tmp_path / "plain", **TINY)
    mixed = train(windows, tmp_path / "mixed", mixed_precision="bf16", **TINY)
    assert all(t.dtype != torch.bfloat16 for t in state(mixed).values()) and not same(state(plain), state(mixed))
    assert mixed.metrics["valid_rmse_db"].iloc[-1] == pytest.approx(plain.metrics["valid_rmse_db"].iloc[-1], rel=0.02)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_windows_that_are_not_finite_are_named(value, windows, tmp_path):
    windows.x[7, 3, 5] = value
    with pytest.raises(ValueError, match=r"data: expected finite numbers, got others in 1 of 30 train windows: t3#1$"):
        train(windows, tmp_path / "run", **TINY)
    windows.x[:] = value
    with pytest.raises(ValueError, match=r"in 30 of 30 train windows: t0#0, t0#1, t1#0 …$"):
        train(windows, tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_an_empty_split_is_refused(windows, tmp_path):
    with pytest.raises(ValueError, match="data: expected windows of the splits train and valid, got none of valid"):
        train(windows.select("train"), tmp_path / "run", **TINY)
    bare = WindowSet(windows.x, windows.ref_db, windows.table.drop(columns="split"), windows.spec)
    with pytest.raises(ValueError, match="got none of train and valid"):
        train(bare, tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()
    x = windows.tensor()
    vae = ConvVAE(VAEConfig(latent_dim=4, filter_blocks=0), windows.spec).initialise(x)
    with pytest.raises(ValueError, match="x, x_valid: expected at least one window in each, got 40 and 0"):
        fit(vae, x, x[:0], TrainConfig(epochs=1), tmp_path, progress=False)


def test_a_batch_larger_than_the_data_is_all_of_them(windows, tmp_path):
    run = train(windows, tmp_path / "run", **{**TINY, "batch_size": 1000})
    assert run.metrics["step"].tolist() == [0, 1, 2, 3]
    assert same(state(run), state(train(windows, tmp_path / "fits", **{**TINY, "batch_size": 30})))


def test_window_set_and_run_agree(windows, tmp_path):
    assert isinstance(windows, WindowSet)
    run = train(windows, tmp_path / "run", **TINY)
    assert set(run.corpus["track"]) == set(windows.table["track"])


@pytest.mark.parametrize(("field", "value", "message"), [
    ("anneal_epochs", 0, "a number > 0, got 0"),
    ("noise_scale", -1.0, "a number > 0, got -1.0"),
    ("clip_norm", 0.0, "a number > 0, got 0.0"),
    ("average", 1.0, "average < 1, got 1.0"),
    ("free_bits", -0.1, "a number ≥ 0, got -0.1"),
    ("beta", -1, "a number ≥ 0, got -1"),
    ("epochs", True, "whole number ≥ 1, got True"),
])
def test_settings_that_cannot_be_meant(field, value, message):
    with pytest.raises(ValueError, match=f"TrainConfig.{field}: expected .*{message}"):
        TrainConfig(**{field: value})


def test_beta_is_the_end_of_every_schedule(windows, tmp_path):
    for name in ("constant", "linear"):
        run = train(windows, tmp_path / name, seed=1, **TINY, anneal=name, anneal_epochs=2.0, beta=0.5)
        assert run.metrics["beta"].iloc[-1] == 0.5
    assert run.metrics["beta"].iloc[0] == 0


@pytest.fixture
def clips(tmp_path):
    "A corpus of sound files on which crops differ from windows."
    for genre in ("jazz", "rock"):
        (tmp_path / "music" / genre).mkdir(parents=True)
        for i in range(4):
            rng = np.random.default_rng([i, len(genre)])
            t = np.arange(round(22050 * 1.3)) / 22050
            y = 0.3 * np.sin(2 * np.pi * (200 + 300 * i) * t * (1 + 0.2 * t)) + 0.01 * rng.normal(size=len(t))
            sf.write(tmp_path / "music" / genre / f"{genre}.{i:05d}.wav", y, 22050)
    table = load_corpus(tmp_path / "music", min_seconds=0.5, on_fault="ignore")
    return table.assign(split=["train", "train", "valid", "test"] * 2)


def test_crops_are_other_windows_and_resume_exactly(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEVAE_HOME", str(tmp_path / "home"))
    spec, wanted = MelSpec(seconds=0.5), dict(TINY, batch_size=3)
    whole = train(clips, tmp_path / "whole", spec=spec, crops=True, **wanted)
    fixed = train(clips, tmp_path / "fixed", spec=spec, **wanted)
    assert not whole.metrics["valid_elbo_nats"].iloc[1:].equals(fixed.metrics["valid_elbo_nats"].iloc[1:])
    with pytest.raises(MemoryError):
        train(clips, tmp_path / "cut", spec=spec, crops=True, on_step=at(4, power_cut), **wanted)
    again = train(clips, tmp_path / "cut", spec=spec, crops=True, resume=True, **wanted)
    clock = "windows_per_second"
    assert again.metrics.drop(columns=clock).equals(whole.metrics.drop(columns=clock))
    with pytest.raises(ValueError, match="TrainConfig.crops: expected a table of clips"):
        train(whole.windows(), tmp_path / "none", crops=True, **wanted)
    with pytest.raises(ValueError, match="data: expected mel fingerprint"):
        train(whole.windows(), tmp_path / "none", spec=MelSpec(), **wanted)


@pytest.mark.parametrize("model", [TINY, TWO_CODES, TWO_CODES | dict(latent_dim=4)], ids=["transform", "demo", "global alone"])
def test_two_processes_make_one_run(model, clips, tmp_path):
    "As `accelerate launch --num_processes 2` starts them; the last batch of an epoch is smaller than their number."
    script = f"""
        import pandas as pd, sys
        from musevae.mel import MelSpec
        from musevae.runs import train
        clips = pd.read_csv(sys.argv[1])
        run = train(clips, sys.argv[2], spec=MelSpec(seconds=0.5), **{model | dict(batch_size=7, epochs=2)!r})
        assert len(run.metrics) == 3 and run.metrics.notna().all().all()
    """
    clips.to_csv(tmp_path / "clips.csv", index=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = dict(os.environ, MUSEVAE_HOME=str(tmp_path / "home"), ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1",
                  WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "clips.csv"), str(tmp_path / "run")]
    both = [subprocess.Popen(command, env=shared | dict(RANK=r, LOCAL_RANK=r), stderr=subprocess.PIPE, text=True) for r in "01"]
    ends = [process.communicate(timeout=180)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(ends)
    run = load_run(tmp_path / "run")
    assert run.metrics["step"].tolist() == [0, 2, 4] and len(run.windows("train")) == 8


def test_operations_are_counted_as_by_hand():
    spec, config = MelSpec(seconds=1), VAEConfig(latent_dim=32, filter_width=24)
    vae, x = ConvVAE(config, spec), torch.rand(3, 1, *spec.shape)
    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    got = step_flops(vae, x) - step_flops(ConvVAE(replace(config, filter_blocks=0), spec), x)  # the linear path aside
    wanted = 0
    analysis = vae.encoder.closed.filter
    for part in (analysis, vae.decoder.path.closed.filter):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv1d):
                passes = 2 if layer is analysis.stem else 3  # forward, to the weights and, but for x, to the input
                wanted += 2 * passes * spec.frames * layer.weight.numel()
    assert got == pytest.approx(wanted + 2 * linear_products_towards_the_analysis(spec))
    assert all(torch.equal(before[name], weight) for name, weight in vae.state_dict().items())
    assert all(weight.grad is None for weight in vae.parameters())


def linear_products_towards_the_analysis(spec):
    "Multiply-adds of the backward pass through the transform, needed only if a filter stands before it."
    bands, frames = spec.shape
    return bands * bands * frames + bands * frames * frames
