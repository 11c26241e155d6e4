"Probes, neighbours and clusters, feature spaces and the pulse of a picture: oracles and limit cases."

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted

from musevae import features, probes
from musevae.features import feature_spaces
from musevae.mel import MelSpec
from musevae.probes import Probe, probe, probe_gap
from musevae.pulse import onset_envelope, pulse

SPEC = MelSpec()
FRAME = SPEC.hop / SPEC.sample_rate


def test_probe_finds_what_is_planted_and_nothing_else():
    rng = np.random.default_rng(0)
    z, genre, unit = planted(rng, centers=6 * np.eye(4, 12), units=8, windows=3)
    found = probe(z, genre, unit)
    assert found.accuracy > 0.95 and found.chance == 0.25 and found.groups == 32
    assert found.interval[0] <= found.accuracy <= found.interval[1]
    assert "chance 0.25" in str(found)


def test_probe_is_at_chance_on_random_labels_although_windows_of_a_clip_are_alike():
    rng = np.random.default_rng(1)
    scores, covered, leaky = [], 0, []
    for seed in range(12):
        z, _, unit = planted(rng, centers=np.zeros((1, 10)), units=30, windows=5, wobble=0.1)
        label = np.repeat(rng.permuted(np.arange(30) % 3), 5).astype(str)
        found = probe(z, label, unit, seed=seed, bootstrap=200)
        scores.append(found.accuracy)
        covered += found.interval[0] <= 1 / 3 <= found.interval[1]
        leaky.append(probe(z, label, np.arange(150), seed=seed, bootstrap=2).accuracy)
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.1)
    assert covered >= 8
    assert np.mean(leaky) > 0.6  # the naive split by windows reports the leak as knowledge


def test_probe_fits_on_one_side_and_scores_the_other():
    z, genre, unit = planted(np.random.default_rng(0), centers=6 * np.eye(3), units=6)
    test = np.isin(unit, ["u0", "u6", "u12"])
    found = probe(z, genre, unit, test=test)
    assert found.groups == 3 and [p is not None for p in found.predicted] == list(test)
    with pytest.raises(ValueError, match="groups on one side only"):
        probe(z, genre, unit, test=np.arange(len(z)) % 2 == 0)


def test_probe_says_what_is_wrong():
    z = np.eye(6)
    with pytest.raises(ValueError, match="two classes or more, got"):
        probe(z, ["a"] * 6, range(6))
    with pytest.raises(ValueError, match="at least 5, one a fold, got 2"):
        probe(z, list("aabbab"), list("xxxyyy"))
    with pytest.raises(ValueError, match="finite numbers, got 36"):
        probe(z * np.nan, list("aabbab"), range(6))


def test_probe_with_one_factor_for_all_prefers_large_features():
    rng = np.random.default_rng(0)
    z, genre, unit = planted(rng, centers=4 * np.eye(2, 300), units=10, windows=2)
    z[:, 2:] *= 0.05  # what tells the genres apart is large, the rest is small
    even = [probe(z * f, genre, unit, standardise=False) for f in (1, 7)]
    assert even[0].predicted.tolist() == even[1].predicted.tolist()  # the factor itself does not matter
    assert even[0].accuracy >= probe(z, genre, unit).accuracy


def test_regress_reads_a_quantity_and_refuses_noise():
    rng = np.random.default_rng(0)
    z, _, unit = planted(rng, centers=np.zeros((1, 6)), units=40, windows=4, wobble=0.1)
    tempo = 120 + 20 * z[:, 0] + 5 * z[:, 3]
    assert probes.regress(z, tempo, unit).score > 0.95
    noise = np.repeat(rng.standard_normal(40), 4)
    found = probes.regress(z, noise, unit)
    assert found.score < 0.1 and found.interval[0] < 0.05


def test_knn_purity_leaves_out_a_windows_own_clip():
    rng = np.random.default_rng(0)
    z, genre, unit = planted(rng, centers=np.zeros((2, 4)), units=20, windows=5, wobble=0.01)
    assert probes.knn_purity(z, genre, np.arange(len(z)), k=4) > 0.95  # own clip counted: a leak
    assert probes.knn_purity(z, genre, unit, k=4) == pytest.approx(0.5, abs=0.12)
    with pytest.raises(ValueError, match="other groups around each"):
        probes.knn_purity(z, genre, genre, k=101)


def test_silhouette_can_be_high_where_ari_is_nothing():
    rng = np.random.default_rng(0)
    loud = rng.integers(0, 2, 400)
    z = np.c_[8 * loud, rng.standard_normal((400, 2))]
    genre = rng.integers(0, 2, 400).astype(str)
    found = probes.clustering(z, genre)
    assert found["silhouette"] > 0.6 and abs(found["ari"]) < 0.03 and found["nmi"] < 0.03


# --- feature spaces ---------------------------------------------------------------------------------------------------


def test_mfcc_statistics_against_librosa():
    librosa = pytest.importorskip("librosa")
    x = np.random.default_rng(0).random((3, 128, 40)).astype(np.float32)
    theirs = librosa.feature.mfcc(S=x, n_mfcc=13)
    ours = features.mfcc_statistics(x, coefficients=13)
    assert np.allclose(ours, np.concatenate([theirs.mean(-1), theirs.std(-1)], 1), atol=1e-5)


def test_picture_components_are_those_of_the_training_windows_in_decibels():
    "Against the latent chapter's own components, which are computed in another way."
    from musevae.latent import LatentPCA

    rng = np.random.default_rng(0)
    x = rng.random((30, 6, 18)).astype(np.float16)
    table = pd.DataFrame({"split": ["train"] * 20 + ["test"] * 10})
    windows = SimpleNamespace(x=x, table=table, spec=SimpleNamespace(top_db=80.0))
    latents = SimpleNamespace(z=rng.standard_normal((30, 4)))
    spaces = feature_spaces(latents, windows, np.arange(4.0), components=5)
    small = x.astype(np.float32)[..., :16].reshape(30, 6, 4, 4).mean(-1).reshape(30, -1)
    ours = LatentPCA.fit(small[:20], components=5).transform(small) * 80 / np.sqrt(24)
    assert spaces["picture PCA"] == pytest.approx(ours, abs=1e-8)
    assert (spaces["latent"] is latents.z) and (spaces["latent, in dB"] == latents.z * np.arange(4)).all()
    assert spaces["raw mel"][:20].std(0) == pytest.approx(np.ones(12), rel=1e-4)
    few = feature_spaces(latents, windows, components=64)
    assert few["picture PCA"].shape == (30, 19) and "latent, in dB" not in few  # at most n - 1 components


# --- the pulse of a picture -------------------------------------------------------------------------------------------


def ticking(every, first=5):
    "A picture of clicks, one every so many frames."
    y = torch.zeros(1, SPEC.samples)
    y[0, first * SPEC.hop :: every * SPEC.hop] = 1
    return SPEC.forward(y)[0]


@settings(max_examples=12, deadline=None)
@given(every=st.integers(13, 64), first=st.integers(2, 9))
def test_pulse_finds_the_period_of_clicks_and_its_strength(every, first):
    found = pulse(ticking(every, first), SPEC)
    assert found.period == pytest.approx(every * FRAME)  # not twice, not half of it
    assert found.strength == pytest.approx(1 - every * FRAME / SPEC.seconds, abs=0.1)


def test_noise_has_next_to_no_pulse_and_a_beat_in_it_has():
    g = torch.Generator().manual_seed(0)
    y = torch.randn(16, SPEC.samples, generator=g)
    noise = pulse(SPEC.forward(y)[0], SPEC)
    beat = 1 + 9 * (torch.arange(SPEC.samples) % (24 * SPEC.hop) < 2000)
    assert noise.strength.max() < 0.25
    found = pulse(SPEC.forward(y * beat)[0], SPEC)
    assert found.strength.min() > 0.7 and found.period == pytest.approx(np.full(16, 24 * FRAME))


def test_pulse_asks_what_rises_and_not_how_loud_it_is():
    x = ticking(20).numpy()
    assert pulse(x + 0.25, SPEC).strength == pytest.approx(pulse(x, SPEC).strength, abs=1e-4)
    assert pulse(0.5 * x, SPEC).strength == pytest.approx(pulse(x, SPEC).strength, abs=1e-4)
    assert pulse(x[:, 0], SPEC) == pulse(x, SPEC)  # with or without the channel
    assert (onset_envelope(np.linspace(1, 0, 50) * np.ones((1, 4, 50))) == 0).all()  # falling is no onset
    assert (pulse(np.full((2, 128, 216), 0.5), SPEC).strength == 0).all()  # nothing ever rises


@pytest.mark.parametrize("name", ["onset_envelope", "Pulse", "pulse"])
def test_the_pulse_answers_at_its_old_address(name):
    assert getattr(probes, name) is getattr(import_module("musevae.pulse"), name)


@pytest.mark.parametrize("name", ["mel_statistics", "mfcc_statistics", "feature_spaces", "WindowsLike"])
def test_features_have_moved_and_the_old_address_says_so(name):
    with pytest.warns(DeprecationWarning, match=f"from musevae.features import {name}"):
        assert getattr(probes, name) is getattr(features, name)


def test_statistics_of_bands_and_cepstra_do_not_know_the_order_of_frames_and_components_of_pictures_do():
    rng = np.random.default_rng(0)
    x = rng.random((12, 8, 24))
    order = rng.permutation(24)
    for statistics in (features.mel_statistics, features.mfcc_statistics):
        assert statistics(x[..., order]) == pytest.approx(statistics(x), abs=1e-5)
    both = SimpleNamespace(x=np.concatenate([x, x[..., order]]), table=pd.DataFrame(index=range(24)),
                           spec=SimpleNamespace(top_db=80.0))
    pictures = feature_spaces(SimpleNamespace(z=np.zeros((24, 1))), both)["picture PCA"]
    assert np.linalg.norm(pictures[:12] - pictures[12:], axis=1).min() > 1


def test_all_components_of_pictures_are_as_far_apart_as_the_pictures_in_decibels():
    x = np.random.default_rng(0).random((9, 6, 16))
    windows = SimpleNamespace(x=x, table=pd.DataFrame(index=range(9)), spec=SimpleNamespace(top_db=80.0))
    z = feature_spaces(SimpleNamespace(z=np.zeros((9, 1))), windows, pool=1)["picture PCA"]
    for i, j in ((0, 1), (3, 8)):
        apart = 80 * np.sqrt(np.square(x[i] - x[j]).mean())
        assert np.linalg.norm(z[i] - z[j]) == pytest.approx(apart, rel=1e-4)


def test_pulse_refuses_lags_that_no_window_holds():
    with pytest.raises(ValueError, match=r"lags: expected 0 < shortest ≤ longest < 4\.99 s, got 0\.3 and 5\.5"):
        pulse(ticking(20), SPEC, lags=(0.3, 5.5))
    with pytest.raises(ValueError, match="lags: expected"):
        pulse(ticking(20), SPEC, lags=(0, 1))
    with pytest.raises(ValueError, match=r"x: expected shape \(n, n_mels, frames ≥ 2\), got \(128, 216\)"):
        pulse(np.zeros((128, 216)), SPEC)


# --- paired differences -----------------------------------------------------------------------------------------------


def answers(right, labels):
    "A probe that is right where it is told to be."
    predicted = np.where(right, labels, "wrong").astype(object)
    return Probe(float(np.mean(right)), (0.0, 1.0), 0.5, 1, predicted)


def test_the_gap_of_two_probes_is_that_of_their_scores_and_pairs_shrink_its_interval():
    rng = np.random.default_rng(0)
    labels, groups = np.array(["a", "b"] * 60), np.repeat([f"clip {i}" for i in range(20)], 6)
    hard = np.repeat(rng.random(20) < 0.5, 6)  # clips that no space can read
    one, other = answers(~hard, labels), answers(~hard & (np.arange(120) % 6 > 0), labels)
    gap, (low, high) = probe_gap(one, other, labels, groups)
    assert gap == pytest.approx(one.score - other.score) and 0 < low < gap < high
    apart = probe_gap(answers(~hard, labels), answers(np.zeros(120, bool), labels), labels, groups)[1]
    assert high - low < 0.5 * (apart[1] - apart[0])  # of the score alone: clips differ, the difference does not
    assert probe_gap(one, one, labels, groups) == (0.0, (0.0, 0.0))
    back, (below, above) = probe_gap(other, one, labels, groups)
    assert (back, below, above) == pytest.approx((-gap, -high, -low))


def test_a_gap_needs_rows_that_both_probes_scored():
    labels = np.array(["a", "b", "a", "b"])
    one, other = (answers(np.ones(4, bool), labels) for _ in range(2))
    one.predicted[:2], other.predicted[2:] = None, None
    with pytest.raises(ValueError, match="expected probes that scored the same rows, got none in common"):
        probe_gap(one, other, labels, labels)
