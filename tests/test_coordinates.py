"What a map is drawn from, what its axes are called, and what stands at a place: of models with a global code and without."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from musevae.coordinates import MEASURES, MapAxes, axis_names, global_units, map_axes, measured, plane_agreement
from musevae.latent import LatentPCA, encode_corpus, unit_effects
from musevae.map import _sound_decoder, latent_map, middle_windows
from musevae.mel import MelSpec
from musevae.vae import ConvVAE, VAEConfig
from musevae.widgets.media import matched, mp3
from musevae.widgets.scatter import decoded_grid
from musevae.windows import WindowSet

G, D = 4, 20


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    "Eight clips of two genres, three windows each: ever louder and busier noise, darker in genre b."
    import soundfile as sf

    folder, spec, rng = tmp_path_factory.mktemp("coordinates"), MelSpec(seconds=0.5, n_mels=24), np.random.default_rng(0)
    x, ref, rows = [], [], []
    for i in range(8):
        y = rng.standard_normal(3 * spec.samples) * (0.02 + 0.1 * (np.arange(3 * spec.samples) % (2000 + 500 * i) < 900))
        y = (np.cumsum(y) / 30 if i % 2 else y).astype(np.float32)
        path = folder / f"clip{i}.wav"
        sf.write(path, np.clip(y, -1, 1), 22050)
        pictures, levels = spec.forward(spec.windows(torch.from_numpy(y)))
        x.append(pictures[:, 0].half().numpy())
        ref.append(levels.numpy())
        rows += [dict(track=f"clip{i}", window=w, genre="ab"[i % 2], split="train", path=str(path), start_s=w * spec.seconds)
                 for w in range(3)]
    return WindowSet(np.concatenate(x), np.concatenate(ref), pd.DataFrame(rows), spec)


def run_of(music, **config):
    torch.manual_seed(0)
    vae = ConvVAE(VAEConfig(filter_blocks=0, **config), music.spec).initialise(music.tensor()).eval()
    if global_units(vae):
        code = vae.decoder.path.closed.code
        torch.nn.init.normal_(code.decoder[-1].weight, std=0.3)  # a global code that moves its fields
        torch.nn.init.normal_(code.encoder[-1].weight, std=0.3)
    return SimpleNamespace(vae=vae, spec=music.spec, windows=lambda: music, path=None)


@pytest.fixture(scope="module")
def plain(music):
    return run_of(music, latent_dim=D)


@pytest.fixture(scope="module")
def colour(music):
    return run_of(music, latent_dim=G + D, global_dim=G, likelihood="coloured", contiguous=True, per_band=False)


def test_the_model_says_whether_it_has_a_global_code(plain, colour, music):
    assert (global_units(plain.vae), global_units(colour.vae)) == (0, G)
    latents = encode_corpus(colour.vae, music)
    auto, every = (map_axes(colour.vae, latents, how) for how in ("auto", "all"))
    assert (auto.units, auto.letter, every.units, every.letter) == (G, "g", G + D, "z")
    moved = latents.mean.copy()
    moved[:, G:] += 7  # what is not drawn does not move a point
    assert np.array_equal(auto.points(moved), auto.points(latents.mean))
    assert not np.allclose(every.points(moved), every.points(latents.mean))


def test_a_model_without_a_global_code_draws_as_before_bit_for_bit(plain, music):
    shown = latent_map(plain, decoded=(2, 3), seconds=0.3)
    latents = encode_corpus(plain.vae, music)
    effects = unit_effects(plain.vae, latents.mean)
    pca = LatentPCA.fit(latents.clips().mean, components=6, unit_weights=effects)
    rows = middle_windows(music.table)
    points = pca.transform(latents.mean[rows])
    assert np.array_equal(shown.coordinates, points.astype(np.float32))
    to_sound = _sound_decoder(lambda z: plain.vae.picture(z).clamp(0, 1), music.spec, seconds=0.3,
                              ref_db=float(np.median(music.ref_db)))
    before = decoded_grid(points, lambda at: [a[:2] for a in to_sound(pca.inverse(at))], shape=(2, 3), size=(24, 13))
    assert shown.grid_sounds == b"".join(before["sounds"]) and shown.grid_images == b"".join(before["images"])
    assert shown.grid == {key: before[key] for key in ("axes", "x", "y")} and shown.explained == list(
        pca.explained_variance_ratio)
    assert shown.axis_names[0] == "PC1 of clip means of E[z|x], dB" and "E[z|x]" in shown.title


def test_the_place_of_a_clip_is_its_reconstruction(colour, music):
    shown = latent_map(colour, seconds=0.5, decoded=None)
    rows = middle_windows(music.table)
    with torch.no_grad():
        x_hat = colour.vae.reconstruct(music.tensor()[rows]).clamp(0, 1)[:, 0].numpy()
    at = np.zeros((len(rows), shown.components))
    at[:, [0, 1]] = shown.coordinates[:, [0, 1]]  # of the plane alone: what is not shown is not known
    for i, found in enumerate(shown.decode(at)):
        assert found.carried == f"clip{i}"
        assert np.allclose(found.picture, x_hat[i], atol=1e-4)
    between = at[:1] + 0.3 * (at[1:2] - at[:1])
    [found] = shown.decode(between)
    assert found.carried != "" and np.abs(found.picture - x_hat[0]).mean() > 1e-3


def test_a_place_keeps_the_local_code_of_the_nearest_clip_and_moves_g_in_the_plane(colour, music):
    latents = encode_corpus(colour.vae, music)
    axes, z = map_axes(colour.vae, latents), latents.mean
    rng = np.random.default_rng(1)
    for plane in ((0, 1), (2, 0)):
        at = np.zeros((5, axes.pca.components.shape[0]))
        at[:, plane] = rng.normal(size=(5, 2)) * axes.points(z)[:, plane].std(0) + axes.points(z)[:, plane].mean(0)
        codes, carried = axes.places(at, plane, z)
        far = np.linalg.norm(axes.points(z)[None][:, :, plane] - at[:, None, plane], axis=2)
        assert (carried == far.argmin(1)).all()
        assert np.array_equal(codes[:, G:], z[carried][:, G:].astype(np.float64))
        reached, from_ = axes.points(codes), axes.points(z[carried])
        assert np.allclose(reached[:, plane], at[:, plane], atol=1e-5)
        hidden = [j for j in range(reached.shape[1]) if j not in plane]
        assert np.allclose(reached[:, hidden], from_[:, hidden], atol=1e-5)


def test_the_grid_says_whom_it_carries_and_at_whose_level(colour, music):
    shown = latent_map(colour, decoded=(2, 3), seconds=0.3)
    at = np.zeros((6, shown.components), np.float32)
    at[:, 0], at[:, 1] = np.tile(shown.grid["x"], 2), np.repeat(shown.grid["y"], 3)
    answers = shown.decode(at)
    assert shown.grid["carried"] == [a.carried for a in answers] and set(shown.grid["carried"]) <= set(music.table["track"])
    rate = music.spec.sample_rate
    assert shown.grid_sounds == b"".join(mp3(y, rate) for y in matched([a.sound for a in answers]))
    quiet = shown.decode(at[:1])[0]
    ref = dict(zip(music.table["track"].iloc[middle_windows(music.table)], music.ref_db[middle_windows(music.table)], strict=True))
    power = music.spec.power(torch.from_numpy(quiet.picture)[None, None], float(ref[quiet.carried]))[0]
    heard = music.spec.forward(torch.from_numpy(np.pad(quiet.sound, (0, music.spec.samples - len(quiet.sound))))[None])[1]
    assert abs(float(heard) - 10 * np.log10(power.max().item())) < 3  # dB: as loud as the clip was


def test_the_live_map_answers_in_the_plane_that_is_shown(colour):
    shown = latent_map(colour, seconds=0.3, decoded=None)
    at = np.zeros((1, shown.components))
    at[0, [2, 1]] = shown.coordinates[3, [2, 1]]
    shown.axes = [2, 1]
    assert shown.decode(at)[0].carried == "clip3"
    shown.place = [2, 1, float(at[0, 2]), float(at[0, 1])]
    assert shown.answer == 1 and shown.answer_carried == "clip3"


# --- words -----------------------------------------------------------------------------------------------------------


def test_words_turn_round_with_the_axis(music):
    measures = measured(music)
    rng = np.random.default_rng(0)
    points = measures[["centroid", "onsets"]].to_numpy() + 0.05 * rng.normal(size=(len(measures), 2))
    tracks = music.table["track"]
    here, there = axis_names(points, measures, tracks), axis_names(points * [-1, 1], measures, tracks)
    assert (here[0].low, here[0].high) == (there[0].high, there[0].low) and here[0].low
    assert here[0].correlation == pytest.approx(-there[0].correlation)
    assert here[1] == there[1] and (here[1].measure != here[0].measure or not here[1].low)


def test_an_axis_that_nothing_explains_has_no_words(music):
    measures = measured(music)
    tracks = music.table["track"].to_numpy()
    columns = measures.groupby(tracks).mean()
    basis = np.linalg.qr(np.column_stack([np.ones(8), columns / columns.std().replace(0, 1)]))[0]
    rest = np.linalg.qr(np.column_stack([basis[:, np.abs(basis).sum(0) > 0], np.eye(8)]))[0]
    axis = rest[:, -1]  # as far from the measures as eight clips allow
    r = [abs(np.corrcoef(axis, columns[c])[0, 1]) for c in columns if columns[c].std() > 0]
    [name] = axis_names(pd.Series(axis, columns.index).loc[tracks].to_numpy()[:, None], measures, tracks,
                        least=max(r) + 0.01)
    assert (name.low, name.high, str(name)) == ("", "", "")
    assert abs(name.correlation) == pytest.approx(max(r), abs=1e-6)


def test_measures_measure_what_they_say():
    spec = MelSpec(seconds=2.5)
    t = np.arange(spec.samples) / spec.sample_rate
    rng = np.random.default_rng(0)
    noise, clicks = rng.normal(size=len(t)), (t % 0.5 < 0.02)
    saw = (np.sin(2 * np.pi * np.arange(1, 16)[:, None] * 220 * t) / np.arange(1, 16)[:, None]).sum(0)
    sounds = dict(saw=saw, low=np.sin(2 * np.pi * 110 * t), high=np.sin(2 * np.pi * 4000 * t), noise=noise, beat=noise * clicks,
                  soft=0.01 * noise)
    y = torch.from_numpy(np.stack([0.1 * v for v in sounds.values()]).astype(np.float32))
    x, ref = spec.forward(y)
    row = pd.DataFrame(dict(track=list(sounds), window=0, genre="a"))
    seen = measured(WindowSet(x[:, 0].numpy(), ref.numpy(), row, spec)).set_axis(list(sounds))
    assert list(seen) == list(MEASURES)
    assert seen.centroid["low"] + 3 < seen.centroid["high"] and seen.bass["low"] > seen.bass["high"] + 10
    assert seen.flatness["noise"] > seen.flatness["low"] + 20 and seen.flatness["noise"] <= 0
    assert seen.pulse["beat"] > 0.5 > 0.3 > seen.pulse["noise"]
    assert seen.contrast["saw"] > 10 > 3 > seen.contrast["noise"] > 1
    assert seen.onsets["beat"] > 2 * seen.onsets["noise"]
    assert seen.level["noise"] - seen.level["soft"] == pytest.approx(40, abs=0.5)
    assert seen.fullness["noise"] > seen.fullness["beat"] + 10


def test_every_axis_carries_its_note(colour, plain):
    for run, letter in ((colour, "g"), (plain, "z")):
        shown = latent_map(run, seconds=0.3, decoded=None)
        assert len(shown.axis_ends) == len(shown.notes) == shown.components
        for (low, high), note in zip(shown.axis_ends, shown.notes, strict=True):
            assert f"E[{letter}|x]" in note and bool(low) == bool(high) == ("(r = " in note)
        assert any(low for low, _ in shown.axis_ends) and shown.axis_label(0).count("←") <= 1


# --- planes ----------------------------------------------------------------------------------------------------------


def test_planes_agree_however_they_are_turned():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 2))
    assert plane_agreement(a, a @ rng.normal(size=(2, 2)) + 3) == pytest.approx([1, 1])
    half = np.column_stack([a[:, 0], rng.normal(size=50)])
    first, second = plane_agreement(a, half)
    assert first == pytest.approx(1) and second < 0.5
    from sklearn.cross_decomposition import CCA

    b = 0.5 * a + rng.normal(size=(50, 2))
    u, v = CCA(2, scale=False, max_iter=5000, tol=1e-12).fit_transform(a, b)
    assert plane_agreement(a, b) == pytest.approx([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(2)], abs=1e-4)


def test_what_is_refused(plain, colour, music):
    latents = encode_corpus(plain.vae, music)
    with pytest.raises(ValueError, match="expected 'auto' or 'all' for a model without a global code, got 'global'"):
        map_axes(plain.vae, latents, "global")
    with pytest.raises(ValueError, match="expected one of auto, global, all, got 'pca'"):
        latent_map(colour, coordinates="pca")
    with pytest.raises(ValueError, match="the same clips, got 3 and 4 rows"):
        plane_agreement(np.eye(3), np.eye(4))
    assert isinstance(map_axes(colour.vae, encode_corpus(colour.vae, music), "global"), MapAxes)


# --- the book's own run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book_run():
    "The run that the book shows."
    from musevae.demo import demo_run

    run = demo_run(progress=False)
    if not global_units(run.vae):
        pytest.skip("the demo run has no global code")
    return run


def test_the_places_of_the_books_map_keep_the_beat_of_whom_they_carry(book_run):
    from musevae.pulse import pulse

    windows = book_run.windows()
    shown = middle_windows(windows.table)
    x, z = windows.tensor()[shown], encode_corpus(book_run.vae, windows).mean[shown]
    axes = map_axes(book_run.vae, encode_corpus(book_run.vae, windows))
    low, high = (getattr(axes.points(z)[:, :2], end)(0) for end in ("min", "max"))
    at = np.zeros((35, axes.pca.components.shape[0]))
    at[:, 0] = np.tile(low[0] + (high - low)[0] * (np.arange(7) + 0.5) / 7, 5)
    at[:, 1] = np.repeat(low[1] + (high - low)[1] * (np.arange(5) + 0.5) / 5, 7)
    codes, carried = axes.places(at, (0, 1), z)
    with torch.no_grad():
        pictures = [book_run.vae.picture(torch.from_numpy(np.float32(c))).clamp(0, 1) for c in (codes, z[carried])]
    place, own = (pulse(p, windows.spec).strength for p in pictures)
    clip = pulse(x, windows.spec).strength[carried]
    assert np.abs(place - own).max() < 0.05 and abs((place - clip).mean()) < 0.05
    assert clip.mean() > 0.35  # there was a beat to keep
    names = axis_names(axes.points(encode_corpus(book_run.vae, windows).mean)[:, :2], measured(windows), windows.table["track"])
    assert all(name.low and abs(name.correlation) > 0.5 for name in names)
