"The latent chapter's codes, principal components and interventions against oracles: Jacobians, other libraries."

import importlib
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted
from torch.distributions import Normal

from musevae import latent
from musevae.latent import LatentPCA, encode_corpus
from musevae.mel import MelSpec
from musevae.windows import WindowSet

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
    ours, plain = LatentPCA.fit(z, components=5, unit_weights=scale), LatentPCA.fit(z * scale, components=5)
    assert np.allclose(ours.transform(z), plain.transform(z * scale))
    back = ours.inverse(ours.transform(z))
    assert np.allclose(back[:, scale > 0], z[:, scale > 0]) and np.allclose(back[:, 4], z[:, 4].mean())
    with pytest.raises(ValueError, match="unit_weights: expected 6 numbers"):
        LatentPCA.fit(z, unit_weights=np.ones(3))


def test_unit_effects_against_the_full_jacobian():
    """A decoder whose picture is linear in z before the log map has a Jacobian that can be written down."""
    spec = MelSpec(seconds=0.5, n_mels=16)
    basis = torch.randn(4, *spec.shape, generator=torch.Generator().manual_seed(0))
    basis *= torch.tensor([0.02, 0.01, 0.005, 0.0])[:, None, None]

    class Linear(torch.nn.Module):
        device = torch.device("cpu")

        def picture(self, z):
            return spec.log(spec.magnitude_of(0.5 + torch.einsum("nd,dft->nft", z, basis).unsqueeze(1)), leak=0.1)

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


# --- encodings, interventions -----------------------------------------------------------------------------------------


class Fake(torch.nn.Module):
    """z = 3 band means of x, with standard deviation 0.5."""

    device = torch.device("cpu")

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
    return WindowSet(x, np.zeros(n, np.float32), table, MelSpec())


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


# --- old addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", latent._all_)
def test_what_latent_offers_again_is_the_workshop_s_own(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        offered = getattr(latent, name)
    assert name in latent.__all__ and offered is getattr(importlib.import_module(offered.__module__), name)
    assert offered.__module__ in ("musevae.geometry", "musevae.features", "musevae.probes", "musevae.pulse")


@pytest.mark.parametrize("name", ["latent_map", "map_html"])
def test_the_map_has_moved_and_the_old_address_says_so(name):
    with pytest.warns(DeprecationWarning, match=f"musevae.latent.{name} has moved: from musevae.map import {name}"):
        assert getattr(latent, name) is getattr(importlib.import_module("musevae.map"), name)
