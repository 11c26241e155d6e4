"""The latent chapter's statistics against oracles: planted distances, hand calculations, other libraries."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from musevae import latent
from musevae.latent import LatentPCA, encode_corpus, genre_distances, holm, probe


def planted(rng, *, centers, units=6, windows=4, spread=1.0, wobble=0.5):
    """Genres at `centers (g, d)`; units around each with `spread`, windows around each unit with `wobble`."""
    g, d = centers.shape
    means = centers[:, None] + spread * rng.standard_normal((g, units, d))
    z = means[:, :, None] + wobble * rng.standard_normal((g, units, windows, d))
    genre = np.repeat([f"g{i}" for i in range(g)], units * windows)
    unit = np.repeat([f"u{i}" for i in range(g * units)], windows)
    return z.reshape(-1, d), genre, unit


# --- principal components ---------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(2, 30), seed=st.integers(0, 2**31), k=st.integers(1, 8))
def test_pca_equals_scikit_learn(n, d, seed, k):
    from sklearn.decomposition import PCA

    z = np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(1, 3, d)
    k = min(k, n - 1, d)
    ours, theirs = LatentPCA.fit(z, components=k), PCA(k, svd_solver="full").fit(z)
    assert np.allclose(ours.explained_variance_ratio, theirs.explained_variance_ratio_)
    assert np.allclose(ours.explained_variance, theirs.explained_variance_)
    assert np.allclose(ours.components, theirs.components_, atol=1e-6)  # signs included
    assert np.allclose(ours.transform(z), theirs.transform(z), atol=1e-6)


def test_pca_sign_and_inverse():
    z = np.random.default_rng(0).standard_normal((50, 7))
    pca = LatentPCA.fit(z, components=7)
    largest = np.abs(pca.components).argmax(1)
    assert (pca.components[np.arange(7), largest] > 0).all()
    assert np.allclose(LatentPCA.fit(z[::-1], components=7).components, pca.components)  # no dependence on order
    assert np.allclose(pca.inverse(pca.transform(z)), z)
    assert pca.inverse(np.zeros((1, 2))) == pytest.approx(z.mean(0)[None])
    assert pca.label(0).startswith("PC1 of E[z|x]")


def test_pca_of_weighted_codes_is_pca_of_their_product_and_inverts():
    rng = np.random.default_rng(0)
    z, scale = rng.standard_normal((40, 6)), np.array([3.0, 1, 1, 0.5, 0, 2])
    ours, plain = LatentPCA.fit(z, components=5, scale=scale), LatentPCA.fit(z * scale, components=5)
    assert np.allclose(ours.transform(z), plain.transform(z * scale))
    back = ours.inverse(ours.transform(z))
    assert np.allclose(back[:, scale > 0], z[:, scale > 0]) and np.allclose(back[:, 4], z[:, 4].mean())
    with pytest.raises(ValueError, match="scale: expected 6 numbers"):
        LatentPCA.fit(z, scale=np.ones(3))


def test_unit_effects_against_the_full_jacobian():
    """A decoder whose picture is linear in z before the log map has a Jacobian that can be written down."""
    from musevae.mel import MelSpec

    spec = MelSpec(seconds=0.5, n_mels=16)
    basis = torch.randn(4, *spec.shape, generator=torch.Generator().manual_seed(0))
    basis *= torch.tensor([0.02, 0.01, 0.005, 0.0])[:, None, None]

    class Linear(torch.nn.Module):
        def decode(self, z):
            return spec.magnitude_of(0.5 + torch.einsum("nd,dft->nft", z, basis).unsqueeze(1))

    vae = Linear()
    vae.spec = spec
    exact = 80 * basis.square().mean((1, 2)).sqrt().numpy()
    got = latent.unit_effects(vae, np.random.default_rng(0).standard_normal((30, 4)), probes=400)
    assert got == pytest.approx(exact, rel=0.12) and got[3] == 0
    few = [latent.unit_effects(vae, np.zeros((1, 4)), probes=16, seed=s)[0] ** 2 for s in range(200)]
    assert np.mean(few) == pytest.approx(exact[0] ** 2, abs=4 * np.std(few) / np.sqrt(200))  # unbiased


def test_pca_plot_names_the_share_it_shows():
    import matplotlib

    matplotlib.use("Agg")
    z, genre, unit = planted(np.random.default_rng(0), centers=3 * np.eye(3, 5))
    pca = LatentPCA.fit(z)
    ax = latent.plot_pca(pca, z, genre, unit, axes=(0, 2))
    assert f"{pca.explained_variance_ratio[0]:.0%}" in ax.get_xlabel() and "PC3" in ax.get_ylabel()
    assert len(ax.lines) == 3  # an ellipse for each genre


def test_the_ellipse_holds_the_mean_as_often_as_it_says():
    from matplotlib.path import Path

    rng, inside = np.random.default_rng(1), 0
    for _ in range(400):
        points = rng.standard_normal((8, 2)) @ np.array([[2.0, 0.5], [0.0, 0.3]])
        inside += Path(latent._ellipse(points).T).contains_point((0, 0))
    assert inside / 400 == pytest.approx(0.95, abs=0.035)


# --- distances between genres -----------------------------------------------------------------------------------------


def test_squared_distance_is_unbiased_and_the_naive_one_is_not():
    rng = np.random.default_rng(0)
    centers = np.zeros((3, 40))
    centers[1, 0], centers[2, :4] = 2.0, 1.5
    truth = {("g0", "g1"): 4.0, ("g0", "g2"): 9.0, ("g1", "g2"): 0.25 + 3 * 2.25}
    got = {pair: [] for pair in truth}
    naive = []
    for _ in range(150):
        z, genre, unit = planted(rng, centers=centers)
        table = genre_distances(z, genre, unit, bootstrap=2, permutations=1)
        for row in table.itertuples():
            got[row.a, row.b].append(row.distance2)
        naive.append(((z[genre == "g0"].mean(0) - z[genre == "g1"].mean(0)) ** 2).sum())
    for pair, values in got.items():
        error = np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(truth[pair], abs=4 * error), pair
    assert np.mean(naive) > 4.0 + 10  # 40 dimensions of noise: 2 * 40 * (1 + 0.25 / 4) / 6 = 14 too much


def test_interval_covers_the_true_distance():
    rng = np.random.default_rng(3)
    centers = np.zeros((2, 5))
    centers[1, 0] = 3.0
    covered = 0
    for _ in range(120):
        z, genre, unit = planted(rng, centers=centers, units=12, windows=2)
        row = genre_distances(z, genre, unit, bootstrap=200, permutations=1, seed=1).iloc[0]
        covered += row.low <= 9 <= row.high
    assert 0.85 <= covered / 120 <= 1.0


def test_ranks_find_the_planted_order():
    centers = np.zeros((4, 6))
    centers[:, 0] = [0, 4, 12, 28]  # six different gaps
    z, genre, unit = planted(np.random.default_rng(5), centers=centers, units=10)
    table = genre_distances(z, genre, unit)
    assert list(table["rank"]) == [1, 2, 3, 4, 5, 6]
    assert list(zip(table.a, table.b, strict=True))[:2] == [("g0", "g1"), ("g1", "g2")]
    assert ((table.rank_low <= table["rank"]) & (table["rank"] <= table.rank_high)).all()
    assert (table.low < table.distance2).all() and (table.distance2 < table.high).all()
    assert (table.p_holm < 0.01).all()


def test_ranks_of_nothing_are_wide_and_p_is_uniform():
    rng = np.random.default_rng(6)
    p, width = [], []
    for seed in range(30):
        z, genre, unit = planted(rng, centers=np.zeros((3, 10)))
        table = genre_distances(z, genre, unit, bootstrap=100, permutations=200, seed=seed)
        p += list(table.p)
        width += list(table.rank_high - table.rank_low)
    assert np.mean(p) == pytest.approx(0.5, abs=0.13)
    assert np.mean(width) > 1.5  # of at most 2


def test_permutation_p_equals_the_exact_test():
    rng = np.random.default_rng(2)
    z = rng.standard_normal((7, 3)) + np.r_[np.zeros(4), np.ones(3)][:, None]
    sides = [list(side) for side in itertools.combinations(range(7), 4)]
    distance = [((z[side].mean(0) - np.delete(z, side, 0).mean(0)) ** 2).sum() for side in sides]
    exact = np.mean(np.array(distance) >= distance[0] * (1 - 1e-9))
    z = z - z.mean(0)
    assert latent._permutation_p(z @ z.T, 4, 35, rng) == pytest.approx(exact)  # 35 divisions exist
    drawn = np.mean([latent._permutation_p(z @ z.T, 4, 34, rng) for _ in range(2000)])
    assert drawn == pytest.approx((1 + 34 * exact) / 35, abs=0.01)  # drawn at random, ours counted once


def test_windows_do_not_count_as_units():
    z, genre, unit = planted(np.random.default_rng(0), centers=np.zeros((2, 3)), units=5)
    once = genre_distances(z, genre, unit, bootstrap=50, permutations=50)
    again = genre_distances(np.tile(z, (3, 1)), np.tile(genre, 3), np.tile(unit, 3), bootstrap=50, permutations=50)
    pd.testing.assert_frame_equal(once, again)
    assert (once[["units_a", "units_b"]] == 5).all(axis=None)


def test_order_of_rows_and_a_rotation_change_nothing():
    rng = np.random.default_rng(8)
    z, genre, unit = planted(rng, centers=np.eye(3, 4))
    q, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    order = rng.permutation(len(z))
    a = genre_distances(z, genre, unit, bootstrap=20, permutations=20)
    b = genre_distances(z[order] @ q + 5, genre[order], unit[order], bootstrap=20, permutations=20)
    columns = ["distance2", "low", "high", "relative", "rank"]
    assert np.allclose(a[columns].astype(float), b[columns].astype(float))


def test_ten_genres_make_45_pairs_in_the_right_orientation():
    z, genre, unit = planted(np.random.default_rng(0), centers=np.diag(np.arange(10.0)), units=3)
    table = genre_distances(z, genre, unit, bootstrap=20, permutations=20)
    assert len(table) == 45 and sorted(table["rank"]) == list(range(1, 46)) and (table.a < table.b).all()
    ranks = latent.rank_table({"one": table, "two": table})
    assert (ranks["one"] == ranks["two"]).all() and (ranks["lowest"] <= ranks["one"]).all()


@pytest.mark.parametrize("units", [["a", "b", "c"], ["a", "a", "b"]])
def test_a_genre_of_one_unit_is_refused_by_name(units):
    with pytest.raises(ValueError, match="two units or more, got blues"):
        genre_distances(np.eye(3), ["blues", "blues", "rock"], units)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=45))
def test_holm_is_between_p_and_bonferroni(p):
    got, p = holm(p), np.array(p)
    assert (got >= p).all() and (got <= np.minimum(1, p * len(p)) + 1e-12).all()
    assert (np.diff(got[np.argsort(p, kind="stable")]) >= -1e-15).all()


def test_units_are_artists_where_known():
    table = pd.DataFrame({"track": ["t1", "t2", "t3"], "artist": ["Bach", None, pd.NA]})
    assert list(latent.units_of(table)) == ["artist Bach", "t2", "t3"]
    assert list(latent.units_of(table[["track"]])) == ["t1", "t2", "t3"]


# --- probes -----------------------------------------------------------------------------------------------------------


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
    assert latent.regress(z, tempo, unit).score > 0.95
    noise = np.repeat(rng.standard_normal(40), 4)
    found = latent.regress(z, noise, unit)
    assert found.score < 0.1 and found.interval[0] < 0.05


def test_knn_purity_leaves_out_a_windows_own_clip():
    rng = np.random.default_rng(0)
    z, genre, unit = planted(rng, centers=np.zeros((2, 4)), units=20, windows=5, wobble=0.01)
    assert latent.knn_purity(z, genre, np.arange(len(z)), k=4) > 0.95  # own clip counted: a leak
    assert latent.knn_purity(z, genre, unit, k=4) == pytest.approx(0.5, abs=0.12)
    with pytest.raises(ValueError, match="other groups around each"):
        latent.knn_purity(z, genre, genre, k=101)


def test_silhouette_can_be_high_where_ari_is_nothing():
    rng = np.random.default_rng(0)
    loud = rng.integers(0, 2, 400)
    z = np.c_[8 * loud, rng.standard_normal((400, 2))]
    genre = rng.integers(0, 2, 400).astype(str)
    found = latent.clustering(z, genre)
    assert found["silhouette"] > 0.6 and abs(found["ari"]) < 0.03 and found["nmi"] < 0.03


# --- features, encodings, interventions -------------------------------------------------------------------------------


def test_mfcc_statistics_against_librosa():
    librosa = pytest.importorskip("librosa")
    x = np.random.default_rng(0).random((3, 128, 40)).astype(np.float32)
    theirs = librosa.feature.mfcc(S=x, n_mfcc=13)
    ours = latent.mfcc_statistics(x, coefficients=13)
    assert np.allclose(ours, np.concatenate([theirs.mean(-1), theirs.std(-1)], 1), atol=1e-5)


class Fake(torch.nn.Module):
    """z = 3 band means of x, with standard deviation 0.5."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def encode(self, x):
        mean = self.gain * x[:, 0, :3].mean(-1)
        return Normal(mean, torch.full_like(mean, 0.5))


def fake_windows(n=10, bands=8, frames=12, seed=0):
    x = np.random.default_rng(seed).random((n, bands, frames)).astype(np.float16)
    table = pd.DataFrame(dict(track=[f"t{i // 2}" for i in range(n)], window=np.arange(n) % 2, genre="blues"))
    table["split"] = np.where(np.arange(n) < n // 2, "train", "test")

    class Set(SimpleNamespace):
        def __len__(self):
            return len(self.x)

    return Set(x=x, table=table, ref_db=np.zeros(n))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_encode_corpus_keeps_mean_and_spread_whatever_the_batch(batch_size):
    windows, vae = fake_windows(), Fake().train()
    got = encode_corpus(vae, windows, batch_size=batch_size)
    assert np.allclose(got.mean, windows.x[:, :3].astype(np.float32).mean(-1), atol=1e-6)
    assert (got.std == 0.5).all() and got.z is got.mean and len(got) == 10
    assert vae.training  # as it was found
    held = got.select("test")
    assert len(held) == 5 and (held.table.split == "test").all() and np.allclose(held.mean, got.mean[5:])
    with pytest.raises(ValueError, match="at least one window"):
        got.select("valid")


def test_a_sample_is_named_and_spreads():
    windows = fake_windows(400)
    got = encode_corpus(Fake(), windows, statistic="sample", seed=3)
    assert got.statistic == "sample" and (got.z - got.mean).std() == pytest.approx(0.5, rel=0.1)
    assert (got.z == encode_corpus(Fake(), windows, statistic="sample", seed=3).z).all()
    with pytest.raises(ValueError, match="'mean' or 'sample', got 'median'"):
        encode_corpus(Fake(), windows, statistic="median")


def test_interventions_do_what_they_say():
    t = torch.arange(22050) / 22050
    tones = {hz: torch.sin(2 * torch.pi * hz * t) for hz in (500, 1000, 2000, 8000)}

    def level(y, hz):
        return float(20 * (2 * (y * tones[hz]).mean().abs()).log10())

    y = sum(tones.values())
    assert level(latent.intervene(y, gain_db=-6), 1000) == pytest.approx(-6, abs=0.01)
    tilted = latent.intervene(y, tilt_db=3)
    assert [level(tilted, hz) for hz in (500, 1000, 2000, 8000)] == pytest.approx([-3, 0, 3, 9], abs=0.01)
    dull = latent.intervene(y, lowpass_hz=2000)
    assert level(dull, 500) == pytest.approx(0, abs=0.1) and level(dull, 2000) == pytest.approx(-3, abs=0.1)
    assert level(dull, 8000) < -45
    assert torch.allclose(latent.intervene(y), y, atol=1e-5)


def test_clips_average_their_windows():
    got = encode_corpus(Fake(), fake_windows()).clips()
    x = fake_windows().x[:, :3].astype(np.float32).mean(-1)
    assert list(got.table.track) == [f"t{i}" for i in range(5)] and (got.std == 0.5).all()
    assert np.allclose(got.mean, x.reshape(5, 2, 3).mean(1), atol=1e-6)


# --- the map ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six clips of two genres under an untrained model."""
    import soundfile as sf

    from musevae.mel import MelSpec, WindowSet
    from musevae.vae import ConvVAE, VAEConfig

    folder, spec, rng = tmp_path_factory.mktemp("map"), MelSpec(seconds=0.5, n_mels=24), np.random.default_rng(0)
    x, rows = [], []
    for i in range(6):
        y = (0.1 * rng.standard_normal(4 * spec.samples) * np.linspace(0.1, 1 + i, 4 * spec.samples)).astype(np.float32)
        path = folder / f"clip{i}.wav"
        sf.write(path, y, 22050)
        x.append(spec.forward(spec.windows(torch.from_numpy(y)))[0][:, 0].half().numpy())
        for w in range(4):
            row = dict(track=f"clip{i}", window=w, genre="ab"[i % 2], split="test" if i > 3 else "train")
            rows.append(row | dict(path=str(path), start_s=w * spec.seconds))
    windows = WindowSet(np.concatenate(x), np.zeros(24, np.float32), pd.DataFrame(rows), spec)
    vae = ConvVAE(VAEConfig(latent_dim=5, filter_blocks=0), spec).initialise(windows.tensor())
    return SimpleNamespace(path=folder / "run", vae=vae, spec=spec, windows=lambda: windows)


def test_latent_map_shows_one_window_a_clip_and_says_which(run):
    shown = latent.latent_map(run, components=3, decoded=(2, 3), seconds=0.3)
    assert shown.names == [f"clip{i} · window 2 · {'test' if i > 3 else 'train'}" for i in (0, 1, 2, 3, 4, 5)]
    assert shown.components == 3 and len(shown.sounds_end) == len(shown.images_end) == 6
    assert len(shown.grid_sounds_end) == 6 and "E[z|x]" in shown.title and shown.axis_names[0].startswith("PC1 of")
    latents = encode_corpus(run.vae, run.windows())
    effects = latent.unit_effects(run.vae, latents.mean)
    pca = LatentPCA.fit(latents.clips().mean, components=3, scale=effects)
    assert np.allclose(shown.coordinates, pca.transform(latents.mean[2::4]), atol=1e-5)
    [(y, x)] = shown.decode(np.zeros((1, 3)))
    assert x.shape == run.spec.shape and 0.25 < len(y) / 22050 <= 0.3 + 512 / 22050


def test_latent_map_of_few_clips_in_turn_of_genres(run):
    shown = latent.latent_map(run, n_clips=2, decoded=None, seconds=0.2)
    assert [n.split(" ")[0] for n in shown.names] == ["clip0", "clip1"] and not shown.grid
    arrow = (np.zeros(5), np.ones(5), "brighter")
    assert latent.latent_map(run, n_clips=2, decoded=None, arrows=[arrow]).arrows[0]["label"] == "brighter"


def test_latent_map_refuses_too_little_and_other_spectrograms(run):
    from musevae.mel import MelSpec

    with pytest.raises(ValueError, match="at least 3 for a map, got 2"):
        latent.latent_map(run, run.windows().select([0, 1]))
    other = SimpleNamespace(spec=MelSpec(), table=run.windows().table)
    with pytest.raises(ValueError, match="expected mel fingerprint"):
        latent.latent_map(run, other)


def test_map_html_stands_alone(run, tmp_path):
    out = latent.map_html(run, run.windows(), tmp_path / "new" / "map.html", decoded=None, seconds=0.2)
    page = out.read_text(encoding="utf-8")
    assert out == tmp_path / "new" / "map.html" and "clip3" in page and "widget-view+json" in page
    assert "https://cdn" not in page and 'src="http' not in page
