"The map that plays: which windows it shows, what its places say, and one file that stands alone."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from musevae.latent import LatentPCA, encode_corpus, unit_effects
from musevae.map import latent_map, map_html, middle_windows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six clips of two genres under an untrained model."""
    import soundfile as sf

    from musevae.mel import MelSpec
    from musevae.vae import ConvVAE, VAEConfig
    from musevae.windows import WindowSet

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
    shown = latent_map(run, components=3, decoded=(2, 3), seconds=0.3)
    assert shown.names == [f"clip{i} · window 2 · {'test' if i > 3 else 'train'}" for i in (0, 1, 2, 3, 4, 5)]
    assert shown.components == 3 and len(shown.sounds_end) == len(shown.images_end) == 6
    assert len(shown.grid_sounds_end) == 6 and "E[z|x]" in shown.title and shown.axis_names[0].startswith("PC1 of")
    latents = encode_corpus(run.vae, run.windows())
    effects = unit_effects(run.vae, latents.mean)
    pca = LatentPCA.fit(latents.clips().mean, components=3, unit_weights=effects)
    assert np.allclose(shown.coordinates, pca.transform(latents.mean[2::4]), atol=1e-5)
    [(y, x)] = shown.decode(np.zeros((1, 3)))
    assert x.shape == (24, 13) and 0.25 < len(y) / 22050 <= 0.3 + 512 / 22050


def test_latent_map_of_few_clips_in_turn_of_genres(run):
    shown = latent_map(run, n_clips=2, decoded=None, seconds=0.2)
    assert [n.split(" ")[0] for n in shown.names] == ["clip0", "clip1"] and not shown.grid
    arrow = (np.zeros(5), np.ones(5), "brighter")
    assert latent_map(run, n_clips=2, decoded=None, arrows=[arrow]).arrows[0]["label"] == "brighter"


def test_latent_map_refuses_too_little_and_other_spectrograms(run):
    from musevae.mel import MelSpec

    with pytest.raises(ValueError, match="at least 3 for a map, got 2"):
        latent_map(run, run.windows().select([0, 1]))
    other = SimpleNamespace(spec=MelSpec(), table=run.windows().table)
    with pytest.raises(ValueError, match="expected mel fingerprint"):
        latent_map(run, other)


def test_map_html_stands_alone(run, tmp_path):
    out = map_html(run, run.windows(), tmp_path / "new" / "map.html", decoded=None, seconds=0.2)
    page = out.read_text(encoding="utf-8")
    assert out == tmp_path / "new" / "map.html" and "clip3" in page and "widget-view+json" in page
    assert "https://cdn" not in page and 'src="http' not in page


def test_the_middle_window_of_each_clip_genre_after_genre():
    tracks = ["a0", "a1", "a2", "b0"]
    table = pd.DataFrame([dict(genre=track[0], track=track, window=w) for track in tracks for w in range(5)])
    assert (table.window[middle_windows(table)] == 2).all() and len(middle_windows(table)) == 4
    assert list(table.track[middle_windows(table, 2)]) == ["a0", "b0"]  # not the first two of genre a
