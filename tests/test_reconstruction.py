"""Errors, evaluations and what they rest on: hand calculations, limit cases, and a run small enough to be exact."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musevae import generation, reconstruction, report
from musevae.latent import encode_corpus
from musevae.mel import MelSpec, mel_filterbank
from musevae.reconstruction import errors, held_out
from musevae.report import evaluate
from musevae.vae import ConvVAE, VAEConfig
from musevae.widgets import media
from musevae.windows import WindowSet

SPEC = MelSpec(seconds=0.5, n_mels=24)
KEYS = """windows clips latent_dim rmse_db l1_db rmse_db_sampled pca_rmse_db separable_rmse_db elbo_nats distortion_nats
rate_nats bits_per_second active_units""".split()


def music(genre, number, seconds=2.6):
    """A tone and noise, by genre; another pitch for each clip."""
    rng = np.random.default_rng([len(genre), number])
    t = np.arange(int(seconds * 22050)) / 22050
    tone = np.sin(2 * np.pi * 220 * 2 ** (number / 12) * t) * (np.sin(2 * np.pi * (2 + number % 3) * t) > 0)
    return (0.3 * tone + (0.1 if genre == "noisy" else 0.003) * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    x, ref, rows = [], [], []
    for genre in ("noisy", "pure"):
        for i in range(10):
            path = folder / f"{genre}.{i}.wav"
            sf.write(path, music(genre, i), 22050, subtype="FLOAT")
            pictures, levels = SPEC.forward(SPEC.windows(torch.from_numpy(music(genre, i))))
            split = "test" if i == 9 else "valid" if i == 8 else "train"
            for w, (picture, level) in enumerate(zip(pictures, levels, strict=True)):
                x.append(picture[0].half().numpy())
                ref.append(float(level))
                rows.append(dict(track=path.stem, window=w, genre=genre, split=split, artist=None, path=str(path)))
                rows[-1]["start_s"] = w * SPEC.seconds
    windows = WindowSet(np.stack(x), np.array(ref, np.float32), pd.DataFrame(rows), SPEC)
    vae = ConvVAE(VAEConfig(latent_dim=8, filter_blocks=1, filter_width=4), SPEC)
    vae.initialise(windows.select("train").tensor()).eval()
    return SimpleNamespace(path=folder / "run", vae=vae, spec=SPEC, windows=lambda: windows)


def without(windows, **changes):
    return WindowSet(windows.x, windows.ref_db, windows.table.assign(**changes), windows.spec)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_errors_by_hand():
    x, x_hat = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    x_hat[0, 0, 1] = 0.1  # 8 dB in one band of one window
    assert errors(x, x_hat).rmse_db == pytest.approx(math.sqrt(64 / 4))
    assert errors(x, x_hat).l1_db == pytest.approx(8 / 4)
    assert errors(x, x_hat, over="windows").rmse_db.tolist() == pytest.approx([math.sqrt(32), 0])
    assert errors(x, x_hat, over="bands").l1_db.tolist() == pytest.approx([0, 4])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), over=st.sampled_from(["windows", "bands"]))
def test_errors_add_up(seed, over):
    g = torch.Generator().manual_seed(seed)
    x, x_hat = torch.rand(3, 1, 4, 5, generator=g), 3 * torch.rand(3, 1, 4, 5, generator=g) - 1
    whole, parts = errors(x, x_hat), errors(x, x_hat, over=over)
    assert whole.rmse_db**2 == pytest.approx(parts.rmse_db.square().mean().item(), rel=1e-5)
    assert whole.l1_db == pytest.approx(parts.l1_db.mean().item(), rel=1e-5)
    assert whole == pytest.approx(errors(x, x_hat.clamp(0, 1)))  # what lies beyond the scale does not count
    assert whole.l1_db <= whole.rmse_db + 1e-9


def test_errors_refuse_other_shapes():
    with pytest.raises(ValueError, match=r"x_hat: expected the shape of x, \(2, 1, 3, 3\), got \(1, 1, 3, 3\)"):
        errors(torch.zeros(2, 1, 3, 3), torch.zeros(1, 1, 3, 3))
    with pytest.raises(ValueError, match="over: expected"):
        errors(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3), over="frames")


def test_speckle_floor_against_averaged_exponentials():
    from scipy.special import polygamma

    spec = MelSpec()
    floor = reconstruction.speckle_floor(spec)
    bank = mel_filterbank(spec.sample_rate, spec.n_fft, spec.n_mels)
    alike = bank**2  # Hann: powers one bin apart correlate by (2/3)², two apart by (1/6)²
    for step, correlation in ((1, 4 / 9), (2, 1 / 36)):
        alike[:, step:] += 2 * correlation * bank[:, step:] * bank[:, :-step]
    averaged = bank.sum(1) ** 2 / alike.sum(1)
    promised = 10 / math.log(10) * np.sqrt(polygamma(1, averaged))  # exact for whole numbers of independent bins
    assert floor.shape == (128,) and np.allclose(floor, promised, rtol=0.17)
    assert np.allclose(floor[-20:], promised[-20:], rtol=0.05)  # where many are averaged


# --- what may judge a run ---------------------------------------------------------------------------------------------


def test_held_out_takes_test_then_valid_never_train(run):
    own = run.windows()
    judged, split = held_out(run)
    assert split == "test" and set(judged.table.track) == {"noisy.9", "pure.9"}
    rest = own.select((own.table.split != "test").to_numpy())
    fewer = SimpleNamespace(path=run.path, spec=SPEC, windows=lambda: rest)
    assert held_out(fewer)[1] == "valid"
    only = SimpleNamespace(path=run.path, spec=SPEC, windows=lambda: own.select("train"))
    with pytest.raises(ValueError, match="expected clips of split 'test' or 'valid', got only"):
        held_out(only)


def test_held_out_knows_windows_by_content_not_by_name_or_claim(run):
    own = run.windows()
    renamed = without(own, track=[f"other.{i}" for i in range(len(own))], split="test")
    judged, split = held_out(run, renamed)
    assert split == "test" and len(judged) == len(own.select("test"))
    with pytest.raises(ValueError, match="expected some that .* was not trained on, got 80"):
        held_out(run, without(own.select("train"), split="test"))
    x = own.x[:3] + np.float16(0.01)
    other = WindowSet(x, own.ref_db[:3], own.table.iloc[:3], SPEC)  # same names, other music
    assert held_out(run, other)[1] == "other" and len(held_out(run, other)[0]) == 3


def test_held_out_refuses_another_spec(run):
    other = WindowSet(np.zeros((1, 24, 22), np.float16), np.zeros(1), run.windows().table[:1], MelSpec(n_mels=24))
    with pytest.raises(ValueError, match="expected mel fingerprint"):
        held_out(run, other)


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate_has_every_key_and_is_json(run):
    result = evaluate(run)
    assert set(KEYS) <= set(result) and json.loads(json.dumps(result)) == result
    assert (result["split"], result["windows"], result["clips"], result["latent_dim"]) == ("test", 10, 2, 8)
    assert result["elbo_nats"] == pytest.approx(-result["distortion_nats"] - result["rate_nats"])
    assert result["bits_per_second"] == pytest.approx(result["rate_nats"] / math.log(2) / 0.5)
    assert result["rmse_db"] <= result["rmse_db_sampled"] + 0.2 and result["l1_db"] <= result["rmse_db"]
    assert 0 < result["active_units"] <= 8
    assert result["probe_groups"] == 2 and 0 <= result["probe_low"] <= result["probe_accuracy"] <= 1
    assert set(result["rmse_db_by_genre"]) == {"noisy", "pure"}
    mean_square = np.mean([v**2 for v in result["rmse_db_by_genre"].values()])
    assert math.sqrt(mean_square) == pytest.approx(result["rmse_db"], rel=1e-6)


def test_evaluate_agrees_with_the_plain_calculation(run):
    x = run.windows().select("test").tensor()
    plain = errors(x, run.vae.reconstruct(x))
    result = evaluate(run, batch_size=3)
    assert (result["rmse_db"], result["l1_db"]) == pytest.approx(plain, rel=1e-5)
    again = evaluate(run, batch_size=64)
    assert {k: v for k, v in again.items() if k in KEYS} == pytest.approx({k: result[k] for k in KEYS}, rel=1e-4)
    other = evaluate(run, seed=1, baselines=False)
    assert other["rmse_db"] == pytest.approx(result["rmse_db"])
    assert other["rmse_db_sampled"] != result["rmse_db_sampled"]


def test_a_linear_model_is_as_good_as_its_baseline_and_pca_is_fitted_to_training_windows(run):
    result = evaluate(run)
    assert result["rmse_db"] == pytest.approx(result["separable_rmse_db"], rel=0.05)
    x, train = run.windows().select("test").tensor().flatten(1), run.windows().select("train").tensor().flatten(1)
    basis = torch.linalg.svd((train - train.mean(0)).double(), full_matrices=False)[2][:8].float()
    back = (x - train.mean(0)) @ basis.T @ basis + train.mean(0)
    assert result["pca_rmse_db"] == pytest.approx(80 * (back.clamp(0, 1) - x).square().mean().sqrt().item(), rel=1e-4)


def test_evaluate_on_other_music(run):
    pictures, levels = SPEC.forward(SPEC.windows(torch.from_numpy(music("noisy", 40))))
    table = pd.DataFrame(dict(track="new", window=range(len(levels)), genre="noisy", split=None, artist=None))
    result = evaluate(run, WindowSet(pictures[:, 0].half().numpy(), levels.numpy(), table, SPEC))
    assert result["split"] == "other" and result["clips"] == 1 and "probe_accuracy" not in result


def test_an_artist_on_both_sides_makes_the_clip_the_unit(run):
    own = run.windows()
    shared = SimpleNamespace(**{**vars(run), "windows": lambda: without(own, artist="one and the same")})
    result = evaluate(shared, baselines=False)
    assert result["probe_groups"] == 2 and "artists stand on both sides" in result["probe_unit"]
    assert "artist where known" in evaluate(run, baselines=False)["probe_unit"]


def test_save_evaluation_writes_what_it_says(run):
    result = evaluate(run)
    paths = report.save_evaluation(run, result, pairs=2)
    assert all(p.exists() and p.stat().st_size for p in paths)
    assert json.loads((run.path / "evaluation.json").read_text()) == result
    table = pd.read_csv(run.path / "evaluation.csv")
    assert len(table) == 10 and math.sqrt((table.rmse_db**2).mean()) == pytest.approx(result["rmse_db"], rel=1e-3)
    assert {p.name for p in paths if p.suffix == ".png"} == {
        "reconstructions.png", "residuals.png", "latent.png", "code.png"}
    kinds = ("original", "mel-and-back", "reconstruction")
    sounds = sorted(p.name for p in paths if p.suffix == ".wav")
    assert sounds == sorted(f"{g}.9-2-{k}.wav" for g in ("noisy", "pure") for k in kinds)
    y, rate = sf.read(run.path / "audio" / "pure.9-2-original.wav")
    assert rate == 22050 and len(y) == SPEC.samples
    assert y == pytest.approx(music("pure", 9)[2 * SPEC.samples : 3 * SPEC.samples], abs=1e-4)


# --- between and beyond -----------------------------------------------------------------------------------------------


def test_interpolation_begins_and_ends_at_the_reconstructions(run):
    x = run.windows().select("test").tensor()
    way = generation.interpolate(run.vae, x[0], x[7, 0], steps=5)
    ends = run.vae.reconstruct(x[[0, 7]]).clamp_min(0)
    assert way.shape == (5, 1, *SPEC.shape)
    assert torch.allclose(way[[0, -1]], ends, atol=1e-5)
    with pytest.raises(ValueError, match="at least 2, the two ends"):
        generation.interpolate(run.vae, x[0], x[1], steps=1)


def test_samples_are_seeded_pictures(run):
    a, b = (generation.sample(run.vae, 4, seed=s) for s in (0, 1))
    assert a.shape == (4, 1, *SPEC.shape) and a.isfinite().all() and a.min() >= 0
    assert torch.equal(a, generation.sample(run.vae, 4)) and not torch.equal(a, b)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        generation.sample(run.vae, 0)


def test_aggregate_samples_have_the_moments_of_the_codes(run):
    latents, seen = encode_corpus(run.vae, run.windows().select("train")), []
    listening = SimpleNamespace(
        device=run.vae.device, spec=SPEC, picture=lambda z: seen.append(z) or torch.ones(len(z), 1, *SPEC.shape)
    )
    generation.sample(listening, 20000, aggregate=latents)
    z = seen[0].numpy()
    total = np.cov(latents.mean.T) + np.diag((latents.std**2).mean(0))
    assert z.mean(0) == pytest.approx(latents.mean.mean(0), abs=0.05)
    assert np.cov(z.T) == pytest.approx(total, abs=0.06)


def test_residuals_of_an_honest_model_have_size_one():
    g = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.02, 0.2, 24)
    x_hat = torch.rand(40, 1, 24, 22, generator=g)
    x = x_hat + scale[:, None] * torch.randn(x_hat.shape, generator=g)
    with pytest.warns(DeprecationWarning, match="vae.likelihood.standardised"):
        left = reconstruction.residual_z(x, x_hat, scale)
    assert left.square().mean((0, 1, 3)).numpy() == pytest.approx(np.ones(24), abs=0.15)
    figure = reconstruction.plot_calibration(left, SPEC)
    assert "beyond 3 scales" in figure.axes[0].get_title()


def test_pairs_share_one_scale(run):
    x = run.windows().select("test").tensor()
    figure = reconstruction.figure_pairs(x, run.vae.reconstruct(x), spec=SPEC, n=3)
    images = [i for ax in figure.axes for i in ax.images]
    assert len(images) == 6 and {i.get_clim() for i in images} == {(-80.0, 0.0)}
    assert "dB below" in figure.axes[-1].get_ylabel()


def test_pick_spreads_over_genres_then_clips():
    table = pd.DataFrame([dict(genre=g, track=f"{g}{t}") for g in "abc" for t in range(2) for _ in range(6)])
    first = table.iloc[reconstruction.pick(table, 3)]
    assert list(first.genre) == ["a", "b", "c"] and list(reconstruction.pick(table, 3)) == [2, 14, 26]
    assert table.iloc[reconstruction.pick(table, 6)].track.nunique() == 6
    assert len(set(reconstruction.pick(table, 10))) == 10


# --- rooms above ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, home", [(n, generation) for n in ("interpolate", "sample", "with_noise")] + [
    (n, report) for n in ("Judged", "evaluate", "evaluation_folder", "judge_run", "one_pass", "save_evaluation")] + [
    (n, media) for n in ("png_bytes", "wav_bytes")])
def test_what_moved_to_a_room_above_is_found_by_its_old_address(name, home):
    with pytest.warns(DeprecationWarning, match=f"from {home.__name__} import {name}"):
        assert getattr(reconstruction, name) is getattr(home, name)
