"Distances between genres against oracles: planted places, hand calculations, exact tests."

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import planted

from musevae import geometry
from musevae.geometry import genre_distances, holm


def test_statistics_need_no_audio_and_no_model():
    "Geometry, features and probes are imported with numpy and pandas alone: no torch, no player, no figure."
    heavy = "{'torch', 'soundfile', 'librosa', 'numba', 'sklearn', 'matplotlib', 'ipywidgets', 'IPython'}"
    code = f"import sys, musevae.geometry, musevae.features, musevae.probes; print({heavy} & set(sys.modules) or 'none')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "none"


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
    assert geometry._permutation_p(z @ z.T, 4, 35, rng) == pytest.approx(exact)  # 35 divisions exist
    drawn = np.mean([geometry._permutation_p(z @ z.T, 4, 34, rng) for _ in range(2000)])
    assert drawn == pytest.approx((1 + 34 * exact) / 35, abs=0.01)  # drawn at random, ours counted once


def test_windows_do_not_count_as_units():
    z, genre, unit = planted(np.random.default_rng(0), centers=np.zeros((2, 3)), units=5)
    once = genre_distances(z, genre, unit, bootstrap=50, permutations=50)
    again = genre_distances(np.tile(z, (3, 1)), np.tile(genre, 3), np.tile(unit, 3), bootstrap=50, permutations=50)
    pd.testing.assert_frame_equal(once, again)
    assert (once[["groups_a", "groups_b"]] == 5).all(axis=None)


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
    ranks = geometry.rank_table({"one": table, "two": table})
    assert (ranks["one"] == ranks["two"]).all() and (ranks["lowest"] <= ranks["one"]).all()


@pytest.mark.parametrize("units", [["a", "b", "c"], ["a", "a", "b"]])
def test_a_genre_of_one_unit_is_refused_by_name(units):
    with pytest.raises(ValueError, match="two groups or more, got blues"):
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
    assert list(geometry.groups_of(table)) == ["artist Bach", "t2", "t3"]
    assert list(geometry.groups_of(table[["track"]])) == ["t1", "t2", "t3"]
