"""Sound of any length: windows that overlap, joined levels, sound that goes on in phase; songs through a model, codes."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from scipy.stats import ks_2samp

from musevae.codes import Song, load_songs, save_songs
from musevae.corpus import read_audio
from musevae.corpus.audio import stream_audio
from musevae.corpus.files import AudioError
from musevae.mel import MelError, MelSpec
from musevae.songs import decode_song, encode_song, reconstruct_song, write_sound
from musevae.store import StoreError
from musevae.vae import VAEConfig
from musevae.vae.pretrained import weights_key
from musevae.vocoder import INVERTERS, Inverter, get_inverter
from musevae.vocoder.joins import CONTEXT, OVERLAP, Overview, edge_of, join_levels, overlapping, sound_of

SPEC = MelSpec()
QUICK = get_inverter("fast-griffinlim", SPEC, iterations=4, nnls_iterations=10)
MINI = Path(__file__).parents[2] / "shared" / "data" / "gtzan_mini"


def noise(seconds, seed=0):
    return 0.1 * torch.randn(round(seconds * SPEC.sample_rate), generator=torch.Generator().manual_seed(seed))


def levels_of(y, overlap=32):
    x, ref_db = SPEC.forward(torch.stack(list(overlapping([y], SPEC, overlap=overlap))))
    return torch.cat(list(join_levels(zip(x[:, 0], ref_db, strict=True), SPEC, overlap=overlap)), 1)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    made = VAEConfig(latent_dim=32, filter_blocks=1, filter_width=8).build(SPEC)
    return made.initialise(SPEC.forward(noise(30).view(6, -1))[0]).eval()


# windows ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [0.01, 3, 5, 5.01, 9.3, 23])
@pytest.mark.parametrize("overlap", [6, 32, 108])
def test_every_sample_is_in_a_window_whatever_the_blocks(seconds, overlap):
    y = noise(seconds)
    windows = list(overlapping([y], SPEC, overlap=overlap))
    blocks = [p for p in np.array_split(y.numpy(), 13)]
    assert all(torch.equal(a, b) for a, b in zip(windows, overlapping(blocks, SPEC, overlap=overlap), strict=True))
    step, covered = (SPEC.frames - overlap) * SPEC.hop, torch.zeros(len(y), dtype=torch.bool)
    for k, window in enumerate(windows):
        part = y[k * step : k * step + SPEC.samples]
        assert len(part) and torch.equal(window[: len(part)], part) and not window[len(part) :].any()
        covered[k * step : k * step + SPEC.samples] = True
    assert covered.all()
    assert len(windows) == max(1, -(-(len(y) - SPEC.samples) // step) + 1)  # and none in vain


@pytest.mark.parametrize("overlap", [8, 32, 100])
def test_joined_levels_are_the_levels_of_the_whole(overlap):
    y = noise(17.3) * torch.linspace(0.3, 1, round(17.3 * SPEC.sample_rate))  # other references in every window
    joined, whole = levels_of(y, overlap), SPEC.levels(y)
    n = whole.shape[1] - edge_of(SPEC)
    heard = whole[:, :n] > whole.max() - 60
    assert heard.float().mean() > 0.9 and (joined[:, :n] - whole[:, :n]).abs()[heard].max() < 1e-3


def test_where_two_pictures_disagree_one_fades_into_the_other():
    quiet, loud = torch.full(SPEC.shape, 0.5), torch.full(SPEC.shape, 0.75)
    joined = torch.cat(list(join_levels([(quiet, 0.0), (loud, 0.0)], SPEC)), 1)
    steps = joined[0].diff()
    assert joined[0, 0] == -40 and joined[0, -1] == -20 and (steps >= 0).all() and steps.max() < 1  # 20 dB over 28 frames
    assert (joined == joined[:1]).all()


@pytest.mark.parametrize(("pictures", "says"), [
    ([], "expected at least one, got none"),
    ([(torch.zeros(3, 4), 0.0)], "expected shape (128, 216), got (3, 4) in window 0"),
    ([(torch.zeros(SPEC.shape), 0.0), (torch.full(SPEC.shape, torch.nan), 0.0)], "NaN or infinity in window 1"),
    ([(torch.zeros(SPEC.shape), float("inf"))], "NaN or infinity in window 0"),
])
def test_pictures_that_cannot_be_joined_are_refused(pictures, says):
    with pytest.raises(MelError, match=says.replace("(", r"\(").replace(")", r"\)")):
        list(join_levels(pictures, SPEC))


@pytest.mark.parametrize("overlap", [0, 5, 109, -3])
def test_an_overlap_that_cannot_be_is_refused(overlap):
    for wants in (lambda: overlapping([noise(6)], SPEC, overlap=overlap), lambda: join_levels([], SPEC, overlap=overlap)):
        with pytest.raises(MelError, match=f"overlap: expected 6 to 108 frames, got {overlap}"):
            list(wants())
    with pytest.raises(MelError, match="expected at least one sample, got none"):
        list(overlapping([np.zeros(0)], SPEC))


# sound -----------------------------------------------------------------------------------------------------------------
def test_the_sound_begins_with_what_has_been_heard():
    y = noise(5).view(1, -1)
    x, ref_db = SPEC.forward(y)
    past = y[:, : CONTEXT * SPEC.hop]
    made, alone = QUICK.follow(x, ref_db, past), QUICK(x, ref_db)
    m = past.shape[1] - SPEC.hop // 4
    assert torch.equal(made[:, :m], past[:, :m]) and not torch.allclose(alone[:, :m], past[:, :m], atol=1e-2)
    assert torch.equal(QUICK.follow(x, ref_db, None), alone)


def test_told_the_past_griffin_lim_finds_phases_that_agree_with_it():
    "Of a steady chord, what follows the join goes on with the sines of the past; untold it does not."
    t = torch.arange(SPEC.samples) / SPEC.sample_rate
    y = sum(torch.sin(2 * torch.pi * hz * t + k) for k, hz in enumerate((220.0, 277.2, 329.6)))[None] * 0.2
    x, ref_db = SPEC.forward(y)
    inverter, m = get_inverter("fast-griffinlim", SPEC), CONTEXT * SPEC.hop
    after = slice(m, m + 4096)  # 186 ms behind the join
    told, untold = inverter.follow(x, ref_db, y[:, :m]), Inverter.go_on(inverter, x, ref_db, y[:, :m])
    error = [(made[:, after] - y[:, after]).square().mean() / y[:, after].square().mean() for made in (told, untold)]
    assert error[0] < 0.6 * error[1], error


@pytest.mark.parametrize("seconds", [1.0, 5.0, 12.7, 31.0])
def test_a_sound_is_as_long_as_it_is_asked_to_be_in_any_pieces(seconds):
    y = noise(seconds)
    level = levels_of(y)
    whole = torch.cat(list(sound_of([level], QUICK, samples=len(y))))
    assert len(whole) == len(y) and whole.isfinite().all()
    assert torch.equal(whole, torch.cat(list(sound_of(level.split(19, 1), QUICK, samples=len(y)))))
    assert abs(10 * torch.log10(whole.square().mean() / y.square().mean())) < 3


def test_any_inverter_can_be_joined():
    class Hum(Inverter):
        name = "hum"

        def invert(self, x, ref_db):
            return x.new_ones(len(x), self.samples(x.shape[-1]))

    try:
        y = torch.cat(list(sound_of([levels_of(noise(13))], get_inverter("hum", SPEC))))
        assert torch.equal(y, torch.ones_like(y))
    finally:
        del INVERTERS["hum"]


def test_nothing_and_too_little_are_refused():
    with pytest.raises(MelError, match="expected at least 2 frames, got 0"):
        list(sound_of([], QUICK))
    with pytest.raises(MelError, match="got 10 more"):
        list(sound_of([torch.zeros(128, 20)], QUICK, samples=19 * SPEC.hop + 10))


@pytest.mark.skipif(not MINI.is_dir(), reason="real music for development is not here")
def test_joins_cannot_be_told_from_the_rest_of_real_music():
    "Jumps of sample and steps of level at more than fifty joins and elsewhere: one distribution. Windows side by side: two."
    def marks(y, at):
        def power(a, b):
            return np.square(y[a:b]).mean() + 1e-12

        return (np.array([abs(y[i] - y[i - 1]) / np.sqrt(power(i - 256, i + 256)) for i in at]),
                np.array([abs(10 * np.log10(power(i, i + 512) / power(i - 512, i))) for i in at]))

    found = {"in phase": [], "side by side": []}
    inverter = get_inverter(spec=SPEC)  # the voice: what the commands join
    for path in sorted(MINI.rglob("*.flac"))[::8][:12]:
        y = read_audio(path, seconds=25)
        ways = {"in phase": list(sound_of([levels_of(y)], inverter, samples=len(y))),
                "side by side": list(inverter(*SPEC.forward(SPEC.windows(y))))}
        for way, pieces in ways.items():
            sound, joins = torch.cat(pieces).numpy(), np.cumsum([len(p) for p in pieces])[:-1]
            joins = joins[joins < len(sound) - 600]
            found[way].append((marks(sound, joins), marks(sound, np.arange(3000, len(sound) - 3000, 2111))))
    p = {}
    for way, sounds in found.items():
        for what in (0, 1):
            at, elsewhere = (np.concatenate([s[where][what] for s in sounds]) for where in (0, 1))
            p[way, what] = ks_2samp(at, elsewhere).pvalue
            assert way != "in phase" or len(at) > 50
    assert p["in phase", 0] > 0.01 and p["in phase", 1] > 0.01, p
    assert p["side by side", 0] < 1e-4, p


@pytest.mark.parametrize("columns", [10, 100])
def test_an_overview_is_the_loudest_of_neighbours_whatever_the_pieces(columns):
    level = torch.rand(3, 1237, generator=torch.Generator().manual_seed(0))
    for size in (1, 7, 500, 1237):
        seen = Overview(columns)
        for piece in level.split(size, 1):
            assert seen.add(piece) is piece
        assert seen.level.shape[1] <= 2 * columns + 1
        assert torch.equal(seen.level, torch.stack([p.amax(1) for p in level.split(seen.every, 1)], 1))


# files -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("rate", "channels"), [(22050, 1), (44100, 2), (48000, 1), (8000, 2)])
def test_a_stream_is_what_is_read_at_once(tmp_path, rate, channels):
    y = 0.3 * np.random.default_rng(0).standard_normal((int(rate * 7.31), channels)).astype(np.float32)
    sf.write(tmp_path / "a.wav", y, rate, subtype="FLOAT")
    whole, stream = read_audio(tmp_path / "a.wav"), np.concatenate(list(stream_audio(tmp_path / "a.wav")))
    assert abs(len(whole) - len(stream)) <= 1 and stream.dtype == np.float32
    n = min(len(whole), len(stream))
    assert np.abs(whole[:n] - stream[:n]).max() < 1e-4
    assert abs(sum(map(len, stream_audio(tmp_path / "a.wav", seconds=2))) - 2 * 22050) <= 1


def test_a_stream_refuses_what_is_not_finite_or_nothing(tmp_path):
    y = np.zeros(50_000, np.float32)
    y[40_000] = np.nan
    sf.write(tmp_path / "nan.wav", y, 22050, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinity"):
        list(stream_audio(tmp_path / "nan.wav"))
    sf.write(tmp_path / "none.wav", y[:0], 22050)
    with pytest.raises(AudioError, match="without samples"):
        list(stream_audio(tmp_path / "none.wav"))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_decoded_codes_are_the_reconstruction(tmp_path, vae, ending):
    y = noise(11.4).numpy()
    sf.write(tmp_path / "song.wav", np.stack([y, y], 1), SPEC.sample_rate, subtype="FLOAT")
    passed = reconstruct_song(vae, tmp_path / "song.wav", tmp_path / f"out.{ending}", QUICK)
    song = encode_song(vae, tmp_path / "song.wav")
    assert song.samples == len(y) and passed.windows == len(song.mean)
    assert passed.seconds == pytest.approx(len(y) / SPEC.sample_rate)
    [read] = load_songs(save_songs(tmp_path / "codes.npz", [song], SPEC))
    decoded = write_sound(tmp_path / f"again.{ending}", decode_song(vae, read, QUICK), SPEC.sample_rate)
    assert decoded == len(y) == sf.info(tmp_path / f"again.{ending}").frames
    one, other = (sf.read(tmp_path / f"{name}.{ending}")[0] for name in ("out", "again"))
    assert np.array_equal(one, other)
    assert passed.errors.l1_db < passed.errors.rmse_db
    assert passed.original.shape == passed.reconstruction.shape == (SPEC.n_mels, 1 + len(y) // SPEC.hop)  # no filling


@pytest.mark.parametrize("seconds", [2.0, 5.0, 6.0])
def test_the_error_of_a_song_is_that_of_its_own_frames(tmp_path, vae, seconds):
    y = noise(seconds)
    sf.write(tmp_path / "song.wav", y.numpy(), SPEC.sample_rate, subtype="FLOAT")
    passed = reconstruct_song(vae, tmp_path / "song.wav", tmp_path / "out.wav", QUICK)
    step, squares, sizes, cells = (SPEC.frames - OVERLAP) * SPEC.hop, 0.0, 0.0, 0
    for k in range(passed.windows):
        cut = y[k * step : k * step + SPEC.samples]
        x, _ = SPEC.forward(torch.nn.functional.pad(cut, (0, SPEC.samples - len(cut)))[None])
        with torch.inference_mode():
            x_hat = vae.reconstruct(x)
        own = min(SPEC.frames, 1 + len(cut) // SPEC.hop)
        off = SPEC.top_db * (x.clamp(0, 1) - x_hat.clamp(0, 1))[..., :own]
        squares, sizes, cells = squares + float(off.square().sum()), sizes + float(off.abs().sum()), cells + off.numel()
    assert passed.errors.rmse_db == pytest.approx((squares / cells) ** 0.5, rel=1e-4)
    assert passed.errors.l1_db == pytest.approx(sizes / cells, rel=1e-4)


def test_memory_does_not_grow_with_length(vae, monkeypatch):
    "Whatever the length, no more windows are asked for than a few ahead of the sound that has come out."
    from musevae import songs

    given = 0

    def endless():
        nonlocal given
        for k in range(10_000):
            given += 1
            yield noise(1, seed=k % 3)

    windows = songs.through(vae, overlapping(endless(), SPEC))
    made = sound_of(join_levels(((w.x_hat, w.ref_db) for w in windows), SPEC), QUICK)
    out = sum(len(next(made)) for _ in range(5)) / SPEC.sample_rate
    assert given < out + 8 * 5 + 12  # s: a batch of windows, and what the joins look ahead


def test_codes_of_another_model_or_picture_are_refused(tmp_path, vae):
    sf.write(tmp_path / "song.wav", noise(6).numpy(), SPEC.sample_rate)
    song = encode_song(vae, tmp_path / "song.wav")
    torch.manual_seed(1)
    other = VAEConfig(latent_dim=32, filter_blocks=1, filter_width=8).build(SPEC)
    with pytest.raises(ValueError, match=f"expected codes of model {weights_key(other)}, got those of {weights_key(vae)}"):
        next(decode_song(other, song, QUICK))
    with pytest.raises(ValueError, match="expected codes of 8 units, got 32"):
        song.check(VAEConfig(latent_dim=8).build(SPEC))
    htk = MelSpec(scale="htk")
    with pytest.raises(MelError, match="mel fingerprint"):
        song.check(VAEConfig(latent_dim=32).build(htk))
    with pytest.raises(MelError, match="mel fingerprint"):
        decode_song(vae, song, get_inverter(spec=htk))


def test_a_file_of_codes_says_what_is_wrong_with_it(tmp_path, vae):
    song = Song("a", torch.randn(3, 4), torch.rand(3, 4), torch.zeros(3), 300_000, 32, SPEC.fingerprint, "0" * 16)
    path = save_songs(tmp_path / "codes.npz", [song, song], SPEC)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert json.loads(str(arrays["about"]))["songs"][1] == dict(name="a", samples=300_000)
    assert np.allclose(arrays["start_s"][:3], np.arange(3) * 184 * 512 / 22050)
    for says, change in {"got: .*mean": dict(mean=None), "expected finite codes": dict(mean=np.full((6, 4), np.nan, np.float32)),
                         "got 6 and 2": dict(ref_db=np.zeros(2, np.float32)),
                         "format 1, got 9": dict(about=np.array(json.dumps(dict(format=9))))}.items():
        np.savez(tmp_path / "bad.npz", **{k: v for k, v in (arrays | change).items() if v is not None})
        with pytest.raises(ValueError, match=f"bad.npz: .*{says}"):
            load_songs(tmp_path / "bad.npz")
    (tmp_path / "words.npz").write_text("words")
    for name in ("words.npz", "missing.npz"):
        with pytest.raises(ValueError, match=name):
            load_songs(tmp_path / name)
    with pytest.raises(ValueError, match="expected songs of one model"):
        save_songs(path, [], SPEC)


def test_half_a_sound_is_no_sound(tmp_path):
    def breaks():
        yield np.zeros(1000, np.float32)
        raise RuntimeError("the inverter broke")

    with pytest.raises(RuntimeError):
        write_sound(tmp_path / "a.wav", breaks(), 22050)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="expected a name that ends in .wav, .flac, .ogg, got .mp3"):
        write_sound(tmp_path / "a.mp3", [], 22050)
    with pytest.raises(StoreError):
        write_sound(tmp_path / "none" / "a.wav", [np.zeros(10)], 22050)
