"A run's identity, plans that grow, one training a folder, settings by name, and what the command prints while it trains."
import contextlib
import io
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from made import MAKE, TINY, TWO_CODES, at, ctrl_c, made_windows, power_cut, same, state

import musevae
from musevae import presets, runs, synth
from musevae.cli import main
from musevae.corpus import load_corpus, split_clips
from musevae.demo import demo_key
from musevae.device import find_device
from musevae.evaluation import judge
from musevae.fitting import Stopped, fit, steps_done
from musevae.mel import MelSpec
from musevae.presets import PRESETS, Preset, configure, preset, read_settings
from musevae.runfolder import about
from musevae.runs import FORMAT, RunError, differences, load_run, read_config, split_key, train
from musevae.store import InUseError
from musevae.training import TrainConfig, learning_rate
from musevae.vae import ConvVAE, VAEConfig
from musevae.windows import WindowSet

CLOCK = "windows_per_second"


@pytest.fixture
def windows():
    return made_windows()


def divided(windows, split):
    "The same windows, divided in another way."
    return WindowSet(windows.x, windows.ref_db, windows.table.assign(split=split), windows.spec, windows.key)


def contents(folder):
    "Every file of a folder, byte for byte, but for the lock."
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


# Identity ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", [
    ["valid"] * 10 + ["train"] * 30,  # as many of each, but others
    ["train"] * 28 + ["test"] * 2 + ["valid"] * 10,
    ["train"] * 30 + ["valid"] * 9 + [pd.NA],
])
def test_another_division_is_another_run_and_nothing_is_written(split, windows, tmp_path):
    out = train(windows, tmp_path / "run", **TINY).path
    before = contents(out)
    with pytest.raises(RunError, match="cannot resume: split: expected [0-9a-f]{16}, got .*another split needs another folder"
                       ) as refused:
        train(divided(windows, split), out, resume=True, **TINY)
    assert "split" in refused.value.fields and contents(out) == before
    assert load_run(out).corpus["split"].tolist() == windows.table.drop_duplicates("track")["split"].tolist()


def test_a_refusal_names_fields_and_no_dictionary(windows, tmp_path):
    out = train(windows, tmp_path / "run", **TINY).path
    with pytest.raises(RunError) as refused:
        train(windows, out, resume=True, seed=5, **TINY | dict(batch_size=16, latent_dim=7))
    assert str(refused.value) == (f"{out}: cannot resume: seed: expected 0, got 5; vae.latent_dim: expected 6, got 7; "
                                  "train.batch_size: expected 8, got 16")
    assert refused.value.fields == ("seed", "vae.latent_dim", "train.batch_size")
    with pytest.raises(RunError, match="preset: expected transform, got linear"):
        train(windows, out, resume=True, **TINY | dict(preset="linear"))
    other = replace(windows, key="other music")
    with pytest.raises(RunError, match="data: expected made up, got other music .other music, or clips that have changed.$"):
        train(other, out, resume=True, **TINY)


def test_a_run_of_another_recipe_is_not_resumed(windows, tmp_path, monkeypatch):
    out = train(windows, tmp_path / "run", **TINY).path
    monkeypatch.setattr(runs, "RECIPE", runs.RECIPE + 1)
    with pytest.raises(RunError, match=f"recipe: expected {runs.RECIPE - 1}, got {runs.RECIPE}"):
        train(windows, out, resume=True, **TINY)


def test_a_run_may_move_and_its_music_too(windows, tmp_path):
    out = train(windows, tmp_path / "run", **TINY).path
    moved = shutil.move(out, tmp_path / "elsewhere")
    there = WindowSet(windows.x, windows.ref_db, windows.table.assign(path="there"), windows.spec, windows.key)
    assert train(there, moved, resume=True, **TINY).corpus["path"].tolist() == ["there"] * 20  # kept up to date


def test_runs_of_an_older_format_load_and_are_not_resumed(windows, tmp_path):
    out = train(windows, tmp_path / "run", **TINY).path
    config = json.loads((out / "config.json").read_text())
    old = {k: v for k, v in config.items() if k not in ("format", "split", "recipe", "plans", "device")}
    (out / "config.json").write_text(json.dumps(old))  # as 0.1.0 wrote it
    assert load_run(out).config["seed"] == 0
    before = contents(out)
    with pytest.raises(RunError, match="expected format 2 or later, got 1, which does not say how the clips were divided"):
        train(windows, out, resume=True, **TINY)
    assert contents(out) == before
    (out / "config.json").write_text(json.dumps(config | dict(format=FORMAT + 1)))
    with pytest.raises(RunError, match="written by a newer musevae"):
        load_run(out)


def as_format_2(out, preset):
    "Make the run in `out` one that was written when presets had other names."
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | dict(format=2, preset=preset)))


@pytest.mark.parametrize("former", ["demo", "gtzan"])
def test_a_run_of_yesterdays_demo_is_judged_and_goes_on_as_a_transform(former, windows, tmp_path):
    out = train(windows, tmp_path / "run", **TINY | dict(epochs=2)).path
    as_format_2(out, former)
    run = load_run(out)
    assert run.config["preset"] == "transform" == about(out)["preset"] and run.vae.config.likelihood == "gaussian"
    assert math.isfinite(judge(run.vae, windows.select("valid")).elbo_nats)
    before = contents(out)
    with pytest.raises(RunError) as refused:
        train(windows, out, resume=True, **TINY | dict(preset="demo"))
    assert {"preset", "vae.likelihood", "vae.per_band", "vae.global_dim"} <= set(refused.value.fields)
    assert "preset: expected transform, got demo" in str(refused.value) and contents(out) == before
    longer = train(windows, out, resume=True, **TINY)
    assert len(longer.metrics) == 4 and read_config(out)["format"] == FORMAT and longer.config["plans"][0]["epochs"] == 2


def test_demo_is_the_model_of_two_codes_and_transform_the_defaults():
    assert PRESETS["transform"] == Preset() and "global" not in PRESETS
    for name in ("demo", "gtzan"):
        model = PRESETS[name].vae
        assert (model.global_dim, model.likelihood, model.contiguous, model.latent_dim) == (32, "coloured", True, 512)
        assert model.filter_blocks >= 2


def test_a_run_of_the_former_preset_global_goes_on_as_demo(windows, tmp_path):
    out = train(windows, tmp_path / "run", **TWO_CODES).path
    before = state(load_run(out))
    as_format_2(out, "global")
    assert load_run(out).config["preset"] == "demo"
    assert same(before, state(train(windows, out, resume=True, **TWO_CODES)))
    longer = train(windows, out, resume=True, **TWO_CODES | dict(epochs=4))  # writes the configuration anew
    assert longer.config["preset"] == "demo" == read_config(out)["preset"] and len(longer.metrics) == 5
    with pytest.warns(DeprecationWarning, match="preset global has become demo"):
        assert preset("global") == PRESETS["demo"]


def test_differences_are_those_of_nested_dictionaries():
    assert differences(dict(a=1, b=dict(c=2, d=3)), dict(a=1, b=dict(c=4, e=None, d=3))) == {"b.c": (2, 4)}
    assert differences(dict(b=dict(c=2)), dict(b={})) == {"b.c": (2, None)}


# Numbers instead of source text --------------------------------------------------------------------------------------
def test_keys_are_recorded(windows):
    "A regression test of formats: folders on disks are named by them, whatever Python reads them."
    assert split_key(windows.table) == SPLIT
    assert split_key(windows.table.assign(split=None)) == split_key(windows.table.assign(split=pd.NA))


SPLIT = "afade41faae1526a"


def test_the_demo_runs_key_follows_split_preset_and_recipe(windows, monkeypatch):
    key = demo_key(windows)
    assert demo_key(windows, "transform") != key
    assert demo_key(divided(windows, ["valid"] * 10 + ["train"] * 30)) != key
    with monkeypatch.context() as patch:
        patch.setattr(runs, "RECIPE", runs.RECIPE + 1)
        assert demo_key(windows) != key
    monkeypatch.setitem(PRESETS, "demo", preset("demo", epochs=PRESETS["demo"].train.epochs + 1))
    assert demo_key(windows) != key


def test_no_key_follows_source_text(windows, tmp_path):
    "A copy of the package with other docstrings, comments and blank lines names everything as this one does."
    copy = shutil.copytree(Path(musevae.__file__).parent, tmp_path / "musevae", ignore=shutil.ignore_patterns("__pycache__"))
    for file in copy.rglob("*.py"):
        text = file.read_text()
        file.write_text(text.replace('"The ', '"In other words: the ').replace("\n\n\n", "\n\n\n\n") + "\n# a comment\n")
    assert sum(file.read_text().count("In other words") for file in copy.rglob("*.py")) > 50
    script = MAKE + """
from musevae import demo, synth, training
print(training.__file__, demo.demo_key(windows), synth.generator_key(*synth.STYLES.values()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | dict(PYTHONPATH=str(tmp_path)),
                          capture_output=True, text=True, check=True)
    file, *keys = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert keys == [demo_key(windows), synth.generator_key(*synth.STYLES.values())]


RECORDED = {  # recipe -> ELBO, rate and RMSE in dB on the held-out windows, epochs 0 to 3, of three runs of other settings each
    # 2 draws the evaluation's noise for all windows at once; these figures, of ten windows and seed 0, stayed as they were in 1
    2: [
        [642.0236, 14.3090, 4.9376],
        [641.7853, 14.2987, 4.9364],
        [641.8914, 14.3009, 4.9321],
        [641.9816, 14.3043, 4.9303],
        [-87.1126, 0.0567, 20.1769],
        [113.8457, 21.8004, 12.4602],
        [212.0208, 7.8013, 9.6622],
        [285.9024, 4.5611, 7.9833],
        [1280.2051, 15.8659, 5.1222],  # recipe 3: the places of a code in order of time
        [1282.9100, 15.6525, 5.1242],
        [1284.9692, 15.5965, 5.1327],
        [1286.6484, 15.5813, 5.1348],
    ],
}


def test_figures_move_only_with_the_recipes_number(windows, tmp_path):
    """A regression test: whoever changes what a training comes to raises `runs.RECIPE` and records figures here.

    Settings are explicit, so that a changed default is no changed recipe (defaults are content: the keys hold them).
    """
    model = dict(preset="transform", linear=True, filter_blocks=1, filter_width=8, network="none", likelihood="gaussian",
                 per_band=True, output="magnitude", profile=True, latent_dim=6, prior="normal", global_dim=0, contiguous=False)
    loop = dict(epochs=3, batch_size=8, learning_rate=1.5e-3, warmup_steps=3, weight_decay=1e-3, clip_norm=0.5, average=0.9,
                anneal="constant", beta=1.0, free_bits=0.0)
    first = train(windows, tmp_path / "a", progress=False, **model, **loop)
    other = dict(linear=False, filter_blocks=0, network="time", likelihood="laplace", per_band=False, anneal="linear",
                 anneal_epochs=2.0, free_bits=0.1, clamp=True)
    second = train(windows, tmp_path / "b", progress=False, **{**model, **loop, **other})
    two_codes = dict(likelihood="coloured", per_band=False, latent_dim=12, global_dim=4, contiguous=True, weight_decay=0.03)
    third = train(windows, tmp_path / "c", progress=False, **{**model, **loop, **two_codes})
    got = [run.metrics[["valid_elbo_nats", "valid_rate_nats", "valid_rmse_db"]].to_numpy() for run in (first, second, third)]
    figures = np.concatenate(got)
    assert [run.config["recipe"] for run in (first, second, third)] == [runs.RECIPE, runs.RECIPE, runs.RECIPE + 1]
    assert np.allclose(figures, RECORDED[runs.RECIPE], rtol=1e-4, atol=1e-3), figures.round(4).tolist()


# Plans ---------------------------------------------------------------------------------------------------------------
def test_a_longer_plan_keeps_what_was_trained_and_is_resumed_exactly(windows, tmp_path):
    short = train(windows, tmp_path / "run", **TINY)
    twin = shutil.copytree(short.path, tmp_path / "twin")
    longer = train(windows, short.path, resume=True, **TINY | dict(epochs=5))
    drop = dict(columns=CLOCK)
    assert longer.metrics["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(longer.metrics.drop(**drop).iloc[:4], short.metrics.drop(**drop), check_exact=True)
    assert longer.config["train"]["epochs"] == 5 and longer.config["plans"] == [dict(epochs=3, until_step=12)]
    with pytest.raises(MemoryError):
        train(windows, twin, resume=True, on_step=at(18, power_cut), **TINY | dict(epochs=5))
    unasked = {k: v for k, v in TINY.items() if k != "epochs"}
    again = train(windows, twin, resume=True, **unasked)  # the plan of the run, not the preset's 30
    assert same(state(longer), state(again)) and again.config["plans"] == longer.config["plans"]


def test_the_rate_is_that_of_the_longer_plan(windows, tmp_path):
    train(windows, tmp_path / "run", **TINY)
    seen = []
    longer = train(windows, tmp_path / "run", resume=True, on_step=seen.append, **TINY | dict(epochs=4))
    config = TrainConfig(**longer.config["train"])
    assert [(step.number, step.of) for step in seen] == [(n, 16) for n in range(13, 17)]
    assert [step.rate for step in seen] == [learning_rate(n, 16, config) for n in range(12, 16)]


def test_a_stopped_run_takes_a_shorter_plan_but_not_one_it_has_passed(windows, tmp_path):
    with pytest.raises(Stopped) as stopped:
        train(windows, tmp_path / "run", on_step=at(6, ctrl_c), **TINY | dict(epochs=9))
    assert (stopped.value.step, stopped.value.steps) == (6, 36)
    assert str(stopped.value) == "stopped at step 6 of 36 and saved"
    with pytest.raises(RunError, match="train.epochs: expected at least 2, which are trained, got 1"):
        train(windows, tmp_path / "run", resume=True, **TINY | dict(epochs=1))
    rest = {k: v for k, v in TINY.items() if k not in ("preset", "epochs")}
    run = train(windows, tmp_path / "run", resume=True, preset=preset("transform", epochs=2), **rest)
    assert run.metrics["epoch"].tolist() == [0, 1, 2] and run.config["plans"] == [dict(epochs=9, until_step=6)]


# One training a folder -----------------------------------------------------------------------------------------------
def test_a_second_training_in_the_folder_is_refused_until_the_first_dies(windows, tmp_path):
    options = {**TINY, "epochs": 100_000}
    script = MAKE + f"import sys\nfrom musevae.runs import train\ntrain(windows, sys.argv[1], **{options!r})\n"
    out = tmp_path / "run"
    first = subprocess.Popen([sys.executable, "-c", script, str(out)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        end = time.time() + 120
        while not (out / "checkpoint.safetensors").exists() and first.poll() is None and time.time() < end:
            time.sleep(0.05)
        with pytest.raises(InUseError, match=f"{out}: expected to be alone there"):
            train(windows, out, resume=True, **options | dict(epochs=1))
        with pytest.raises(RunError, match="expected no run there"):
            train(windows, out, **options)
        vae = ConvVAE(VAEConfig(latent_dim=4, filter_blocks=0), windows.spec)
        with pytest.raises(InUseError):
            fit(vae, windows.tensor(), windows.tensor(), TrainConfig(epochs=1), out, progress=False)
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    steps = steps_done(out / "checkpoint.safetensors")
    run = train(windows, out, resume=True, **options | dict(epochs=max(1, -(-steps // 4))))
    assert run.metrics["step"].iloc[-1] >= steps


def test_a_training_that_cannot_be_built_leaves_no_folder(windows, tmp_path):
    with pytest.raises(ValueError, match="latent_dim: expected 0 to 496"):
        train(windows, tmp_path / "run", **TINY | dict(latent_dim=100_000))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_others_may_read_what_the_umask_lets_them(windows, tmp_path):
    before = os.umask(0o022)
    try:
        out = train(windows, tmp_path / "run", **TINY).path
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in out.rglob("*") if p.is_file() and p.name != ".lock"} == {0o644}


# What train and fit take ---------------------------------------------------------------------------------------------
def write_music(root, clips=10):
    "Tones in noise, `clips` of each of two genres."
    for i in range(2 * clips):
        genre = ("blues", "jazz")[i % 2]
        rng, t = np.random.default_rng(i), np.arange(int(5.2 * 22050)) / 22050
        y = sum(np.sin(2 * np.pi * f * t) * np.exp(-2 * (t % 0.5)) for f in 110 * 2 ** rng.uniform(0, 3, 3)) / 6
        (root / genre).mkdir(parents=True, exist_ok=True)
        sf.write(root / genre / f"{genre}.{i:05d}.wav", y + 0.01 * rng.standard_normal(len(t)), 22050, subtype="PCM_16")
    return root


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    "A folder of twenty clips and a home for its caches."
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSEVAE_HOME", str(root / "home"))
        yield write_music(root / "music")


def test_a_path_and_a_preset_object_train(music, tmp_path):
    chosen = preset("linear", latent_dim=4)
    assert chosen.name == "linear"
    run = train(str(music), tmp_path / "run", preset=chosen, seconds=2.5, progress=False)
    assert run.config["preset"] == "linear" and run.config["vae"]["latent_dim"] == 4
    assert run.spec == MelSpec(seconds=2.5) and run.config["windows"] == {"train": 32, "valid": 4}
    assert train(music, tmp_path / "run", preset="linear", latent_dim=4, spec=MelSpec(seconds=2.5), resume=True,
                 progress=False).metrics.equals(run.metrics)
    own = Preset(VAEConfig(latent_dim=3, filter_blocks=0), TrainConfig(epochs=1))
    assert train(music, tmp_path / "own", preset=own, progress=False).config["preset"] == "own"


@pytest.mark.parametrize("data", [torch.zeros(4, 1, 16, 31), np.zeros(3), None, 7])
def test_data_of_another_kind_is_refused_in_a_line(data, tmp_path):
    with pytest.raises(ValueError, match=f"data: expected a folder of music, a table .*got {type(data).__name__}"):
        train(data, tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_fit_takes_tensors_of_windows_and_says_so(windows, tmp_path):
    vae, x = ConvVAE(VAEConfig(latent_dim=4, filter_blocks=0), windows.spec), windows.tensor()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x))
    config = TrainConfig(epochs=1)
    for given, named, got in (((loader, x), "x", "DataLoader"), ((x, None), "x_valid", "NoneType")):
        with pytest.raises(ValueError, match=rf"^{named}: expected a tensor of windows \(n, 1, n_mels, frames\), got {got}$"):
            fit(vae, *given, config, tmp_path / "out")
    with pytest.raises(ValueError, match=r"^x_valid: expected shape \(n, 1, 16, 31\), got \(40, 16, 31\)$"):
        fit(vae, x, x[:, 0], config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    fit(vae.initialise(x), x, x, config, tmp_path / "out", progress=False)
    with pytest.raises(RunError, match="found no config.json: `fit` alone writes none; its model loads by ConvVAE.from_p"):
        load_run(tmp_path / "out")
    assert ConvVAE.from_pretrained(tmp_path / "out").config == vae.config  # a folder that holds `model` will do


def test_windows_under_another_spectrogram_are_refused(windows, tmp_path):
    with pytest.raises(ValueError, match="data: expected mel fingerprint"):
        train(windows, tmp_path / "run", n_mels=128, **TINY)
    train(windows, tmp_path / "run", n_mels=16, **TINY)


def test_a_path_never_leads_to_the_network(windows, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    run = train(windows, tmp_path / "run", **TINY)
    for typo in ("m/y", "runs/first/model", "run/modle", "./m/y", "nowhere"):
        with pytest.raises(ValueError, match=f"^{typo}: expected a model folder .*found nothing"):
            ConvVAE.from_pretrained(typo)
    with pytest.raises(ValueError, match="asked for by hf://m/y$"):
        ConvVAE.from_pretrained("m/y")
    assert not asked
    for name in ("run", "run/model", "hf://owner/name"):  # a run's folder leads to its model
        assert same(ConvVAE.from_pretrained(name).state_dict(), run.vae.state_dict())
    assert asked == ["owner/name"]


# Devices -------------------------------------------------------------------------------------------------------------
def test_the_device_that_was_asked_for_is_the_one(windows, tmp_path, monkeypatch):
    import accelerate

    auto = train(windows, tmp_path / "auto", **TINY)
    nowhere = property(lambda self: torch.device("cuda:3"))  # where Accelerate would put everything
    monkeypatch.setattr(accelerate.Accelerator, "device", nowhere)
    asked = train(windows, tmp_path / "cpu", device="cpu", **TINY)
    if not torch.cuda.is_available():
        assert same(state(auto), state(asked))
    assert asked.config["device"] == "cpu"


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "", "cpu:1"])
def test_a_device_that_is_not_there_is_refused(name, windows, tmp_path):
    with pytest.raises(ValueError, match=f"device: expected auto, cpu.* on this machine, got '{name}'"):
        train(windows, tmp_path / "run", device=name, **TINY)
    assert not (tmp_path / "run").exists()


def test_several_gpus_are_told_apart(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = {name: str(find_device(name)) for name in ("auto", "cpu", "cuda", "cuda:1", torch.device("cuda", 0))}
    assert list(found.values()) == ["cuda", "cpu", "cuda", "cuda:1", "cuda:0"]
    with pytest.raises(ValueError, match="expected auto, cpu, cuda, cuda:0, cuda:1 on this machine, got 'cuda:2'"):
        find_device("cuda:2")


# Settings ------------------------------------------------------------------------------------------------------------
def everything():
    "Every field of the three configurations, as a shell would write its default."
    configs = dict(vae=VAEConfig(), train=TrainConfig(), mel=MelSpec())
    for part, config in configs.items():
        for name, value in asdict(config).items():
            yield f"{part}.{name}", value


@pytest.mark.parametrize(("name", "value"), list(everything()))
def test_every_field_can_be_set_by_a_word(name, value):
    word = "none" if value is None else str(value).lower()
    assert read_settings([f"{name}={word}"]) == {name: value}
    assert type(read_settings([f"{name}={word}"])[name]) is type(value)
    chosen, spec = configure("transform", **{name: value})
    part = dict(vae=chosen.vae, train=chosen.train, mel=spec)[name.split(".")[0]]
    assert getattr(part, name.split(".")[1]) == value


@pytest.mark.parametrize(("word", "message"), [
    ("colour=red", "colour: expected a field of vae: latent_dim, .*; train: .*learning_rate.*; mel: sample_rate, .*'colour'$"),
    ("vae.epochs=3", "vae.epochs: expected a field of vae"),
    ("epochs", "epochs: expected field=value, got no ="),
    ("epochs=many", "train.epochs: expected a whole number, got 'many'"),
    ("epochs=1.5", "train.epochs: expected a whole number, got '1.5'"),
    ("clamp=1", "train.clamp: expected true or false, got '1'"),
    ("noise_scale=loud", "train.noise_scale: expected a number or none, got 'loud'"),
    ("epochs=", "train.epochs: expected a whole number, got ''"),
])
def test_words_that_mean_nothing(word, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read_settings([word])
    with pytest.raises(ValueError, match="train.epochs: expected once, got 3 and 4"):
        read_settings(["epochs=3", "train.epochs=4"])


@pytest.mark.parametrize(("changes", "message"), [
    (dict(epochs="3"), "train.epochs: expected a whole number, got '3'"),
    (dict(linear="false"), "vae.linear: expected true or false, got 'false'"),
    (dict(latent_dim=True), "vae.latent_dim: expected a whole number, got True"),
    (dict(learning_rate="fast"), "train.learning_rate: expected a number, got 'fast'"),
    (dict(n_mels=2.5), "mel.n_mels: expected a whole number, got 2.5"),
    (dict(anneal="sometimes"), "TrainConfig.anneal: expected one of constant, linear, .*, got 'sometimes'"),
    (dict(network="gan"), "VAEConfig.network: expected one of none, .*got 'gan'"),
])
def test_changes_of_another_type_are_refused(changes, message, windows, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(windows, tmp_path / "run", **TINY | changes)
    assert not (tmp_path / "run").exists()


def test_a_name_that_two_parts_have_takes_its_part(monkeypatch):
    monkeypatch.setitem(presets._PARTS, "mel", TrainConfig)  # today no two have one
    with pytest.raises(ValueError, match="^beta: expected train.beta or mel.beta, got beta, which may be either"):
        read_settings(["beta=0.5"])
    assert read_settings(["mel.beta=0.5"]) == {"mel.beta": 0.5}


def test_none_asks_for_nothing_unless_it_is_a_value():
    assert preset("demo", epochs=None) == preset("demo")
    assert preset("code").train.noise_scale == 13.824 and preset("code", noise_scale=None).train.noise_scale is None
    changed = configure("code", **{"train.noise_scale": None, "beta": 2})[0].train
    assert changed == replace(PRESETS["code"].train, noise_scale=None, beta=2)


# The command ---------------------------------------------------------------------------------------------------------
QUICK = ["--latent-dim", 4, "--set", "filter_blocks=0", "--set", "batch_size=16"]


def said(capsys, *argv, code=0):
    capsys.readouterr()
    assert main([*argv]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out if code == 0 else err.strip().split("\n")[-1]


def epochs_in(path):
    "Rows of a table of metrics that may not be there yet."
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_behind_a_pipe_each_epoch_is_a_line_when_it_ends(music, tmp_path):
    "The log is read while the training is far from its end, and again after SIGTERM: no epoch is missing."
    log, metrics, end = tmp_path / "log", tmp_path / "run" / "metrics.csv", time.time() + 180
    words = [sys.executable, "-m", "musevae", "train", music, "--out", tmp_path / "run", *QUICK, "--epochs", 100_000]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with log.open("w") as out:
        process = subprocess.Popen([str(w) for w in words], stdout=out, stderr=subprocess.PIPE, text=True, env=buffered)
    try:
        while epochs_in(metrics) < 6 and process.poll() is None and time.time() < end:
            time.sleep(0.05)
        trained, told = epochs_in(metrics), log.read_text().splitlines()
        assert process.poll() is None and trained >= 6
    finally:
        process.terminate()
        err = process.communicate()[1]
    assert process.returncode == -signal.SIGTERM and "Traceback" not in err
    lines = [line.split() for line in told]
    assert [words[0] for words in lines[:6]] == ["corpus", "split", "preset", "device", "epoch", "0"]
    assert len(lines) - 5 >= trained
    table = pd.read_csv(metrics)
    for words, row in zip(lines[5:], table.itertuples(), strict=False):
        figures = [row.epoch, row.beta, row.train_elbo_nats, row.valid_elbo_nats, row.valid_rate_nats, row.valid_rmse_db]
        assert [float(word) for word in words[:6]] == pytest.approx(figures, abs=0.051)
    assert 0 <= len(log.read_text().splitlines()) - 5 - len(table) <= 1  # killed between a line and its checkpoint, or not


def test_the_command_resumes_makes_longer_and_names_what_differs(music, tmp_path, capsys):
    words = ["train", music, "--out", tmp_path / "run", *QUICK]
    first = said(capsys, *words, "--epochs", 1)
    assert "filter_blocks = 0" in first and "CPU" in first or torch.cuda.is_available()
    before = contents(tmp_path / "run")
    line = said(capsys, *words, "--epochs", 1, "--set", "beta=0.5", "--resume", code=1)
    assert "train.beta: expected 1.0, got 0.5" in line
    assert contents(tmp_path / "run") == before
    longer = said(capsys, *words, "--epochs", 3, "--resume", "--device", "cpu")
    rows = [line.split()[0] for line in longer.splitlines() if line.split()[0].isdigit()]
    assert rows == ["2", "3"]  # what was trained before is not told again
    assert load_run(tmp_path / "run").metrics["epoch"].tolist() == [0, 1, 2, 3]
    assert said(capsys, *words, code=1).endswith("resume it, or choose another folder")


def test_known_artists_are_spoken_of_before_a_run_and_never_when_it_goes_on(music, tmp_path, capsys, monkeypatch):
    "And what was advised is refused afterwards: a run keeps its split."
    from musevae import corpus

    real = corpus.load_corpus

    def with_artists(*args, **options):
        table = real(*args, **options)
        return table.assign(artist=pd.array([f"artist {i // 2}" for i in range(len(table))], "string"))

    monkeypatch.setattr(corpus, "load_corpus", with_artists)
    words = ["train", music, "--out", tmp_path / "run", *QUICK, "--epochs", 1]
    assert main(words) == 0
    assert "--split artist keeps each artist on one side. A run keeps its split" in capsys.readouterr().err
    before = contents(tmp_path / "run")
    line = said(capsys, *words, "--resume", "--split", "artist", code=1)
    assert "cannot resume: split: expected" in line and "another split needs another folder" in line
    assert contents(tmp_path / "run") == before
    assert main([*words, "--resume"]) == 0 and "artist" not in capsys.readouterr().err
    assert main(words) == 1 and "artists are known" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--set", "epochs=many"], ["--set", "colour=red"], ["--epochs", 2, "--set", "epochs=3"],
                                   ["--set", "latent_dim=0"]])
def test_settings_that_cannot_be_are_bad_usage(words, music, tmp_path, capsys):
    line = said(capsys, "train", music, "--out", tmp_path / "run", *words, code=2)
    assert line.startswith("musevae: --set: ") and "expected" in line and not (tmp_path / "run").exists()


class Reader(io.StringIO):
    "A screen; whoever sits before it presses Ctrl-C when the line of epoch 1 appears."

    def write(self, text):
        if text.split()[:1] == ["1"]:
            ctrl_c()
        return super().write(text)


def test_ctrl_c_tells_the_step_and_the_words_that_go_on(music, tmp_path, capsys):
    words = ["train", music, "--out", tmp_path / "run", *QUICK, "--epochs", 4]
    with contextlib.redirect_stdout(Reader()):
        line = said(capsys, *words, code=130)
    assert line == f"musevae: stopped at step 2 of 4 and saved. To go on: musevae {' '.join(map(str, words))} --resume"


def test_a_clip_that_could_not_be_read_is_none_of_the_run_s(music, tmp_path, monkeypatch):
    "A file that is away while a run is trained does not count as trained on when it is back."
    monkeypatch.setenv("MUSEVAE_HOME", str(tmp_path / "home"))  # no cache that has it from before
    corpus = split_clips(load_corpus(music, on_fault="ignore"), seed=0)
    lost = Path(corpus.query("split == 'train'").path.iloc[0])
    lost.rename(tmp_path / "away")
    try:
        with pytest.warns(UserWarning, match=lost.name):
            run = train(corpus, tmp_path / "run", **TINY | dict(epochs=1))
    finally:
        (tmp_path / "away").rename(lost)
    assert len(run.corpus) == len(corpus) - 1 and str(lost) not in set(run.corpus.path)
    assert set(run.windows("train").table.path) == set(run.corpus.query("split == 'train'").path)
