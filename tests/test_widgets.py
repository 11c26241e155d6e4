"musevae.widgets without a browser: bytes, pictures, levels, messages, what a page is given."

import io
import json
import re
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musevae import widgets as w
from musevae.widgets import media, page

RATE = 22050


def tone(hz=440.0, seconds=0.5, level=0.3):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def pixels(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 100, 1152, 11025, 110250])
def test_mp3_keeps_length(samples):
    y, rate = soundfile.read(io.BytesIO(w.mp3(np.resize(tone(), samples))))
    assert (rate, len(y)) == (RATE, samples)


def test_mp3_sounds_like_it():
    y = tone(seconds=2)
    back, _ = soundfile.read(io.BytesIO(w.mp3(y)))
    assert np.corrcoef(y[2000:-2000], back[2000:-2000])[0, 1] > 0.999


def test_mp3_is_small():
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    assert len(w.mp3(noise)) < 40_000  # bytes for 5 s of the worst there is; music takes 20 to 28 kB


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros((2, 100)), "y: expected floating-point numbers in 1 dimension, got float64 of shape (2, 100)"),
        (np.zeros(100, np.int16), "int16"),
        (np.zeros(0), "(0,)"),
        ([0.0, np.nan, np.inf], "y: expected finite numbers, got 2 that are not"),
    ],
)
def test_mp3_refuses(y, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        w.mp3(y)


def test_mp3_refuses_rates_it_cannot_hold():
    with pytest.raises(ValueError, match="sample_rate: expected one of 8000.*48000 Hz, got 96000"):
        w.mp3(tone(), 96000)


def test_torch_and_batch_of_one_are_taken():
    torch = pytest.importorskip("torch")
    y = torch.tensor(tone(), requires_grad=True)[None]
    assert w.mp3(y) == w.mp3(tone())


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20))))
def test_pack_keeps_every_part(parts):
    packed, ends = page.pack(parts)
    assert [packed[a:b] for a, b in zip([0, *ends], ends, strict=False)] == [part or b"" for part in parts]


# --- levels ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(1e-4, 3), min_size=1, max_size=5), st.floats(-40, 0), st.integers(0, 99))
def test_matched_levels_are_equal_and_nothing_clips(gains, level_db, seed):
    rng = np.random.default_rng(seed)
    sounds = [g * rng.standard_normal(500).astype(np.float32) for g in gains]
    out = w.matched(sounds, level_db=level_db)
    rms = [np.sqrt(np.mean(y.astype(float) ** 2)) for y in out]
    assert np.allclose(rms, rms[0], rtol=1e-4)
    assert rms[0] <= 10 ** (level_db / 20) * 1.0001
    assert max(np.abs(y).max() for y in out) <= 0.981
    loudest = max(np.abs(y).max() for y in out)
    assert np.isclose(rms[0], 10 ** (level_db / 20), rtol=1e-4) or np.isclose(loudest, 0.98, rtol=1e-3)
    for y, z in zip(sounds, out, strict=True):
        assert np.corrcoef(y, z)[0, 1] > 0.99999


def test_silence_stays_silent():
    silent, loud = w.matched([np.zeros(100, np.float32), tone()])
    assert not silent.any() and loud.any()


# --- pictures --------------------------------------------------------------------------------------------------------


def test_png_is_magma_with_low_frequencies_below():
    from matplotlib import colormaps

    x = np.linspace(0, 1, 128)[:, None] * np.ones((1, 9))
    seen = pixels(w.spectrogram_png(x, levels=256))
    wanted = 255 * colormaps["magma"](x[::-1])[..., :3]
    assert seen.shape == (128, 9, 3)
    assert np.abs(seen - wanted).max() < 5


def test_png_averages_neighbours():
    x = np.random.default_rng(0).random((12, 10))
    assert w.spectrogram_png(x, size=(3, 5)) == w.spectrogram_png(x.reshape(3, 4, 5, 2).mean((1, 3)))
    assert pixels(w.spectrogram_png(x, size=(5, 3))).shape == (5, 3, 3)


def test_png_clips_and_refuses():
    assert w.spectrogram_png([[-1.0, 2.0]]) == w.spectrogram_png([[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"size: expected 1 … 2 pixels along axis 0, got 3"):
        w.spectrogram_png(np.zeros((2, 2)), size=(3, 2))
    with pytest.raises(ValueError, match=r"levels: expected 2 … 256, got 1"):
        w.spectrogram_png(np.zeros((2, 2)), levels=1)
    with pytest.raises(ValueError, match=r"x: expected floating-point numbers in 2 dimensions"):
        w.spectrogram_png(np.zeros(7))


def test_own_picture_agrees_with_librosa():
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    y = tone(1000, 2) + tone(4000, 2) * np.linspace(0, 1, 2 * RATE) + rng.normal(0, 1e-3, 2 * RATE)
    wanted = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE), ref=np.max)
    ours = media.mel_picture(y.astype(np.float32), RATE)
    assert ours.shape == (128, 87)
    assert np.corrcoef(ours.ravel(), np.clip(1 + wanted / 80, 0, 1)[:, :87].ravel())[0, 1] > 0.95
    assert (np.abs(ours.argmax(0) - wanted.argmax(0)) <= 1).all()


# --- widgets ---------------------------------------------------------------------------------------------------------


def test_import_is_light():
    code = "import sys, musevae.widgets; print({'torch', 'librosa', 'matplotlib', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_rows_in_every_form():
    y, x = tone(), np.random.default_rng(0).random((128, 22))
    forms = [{"a": y, "b": (y, x)}, [("a", y), ("b", y, x)], [w.Player(y, title="a"), w.Player(y, x=x, title="b")]]
    seen = {(tuple(p.titles), tuple(p.durations), p.sounds, p.images) for p in map(w.Players, forms)}
    assert len(seen) == 1
    for bad in ([], {}, [("a",)]):
        with pytest.raises(ValueError, match="rows: expected one or more"):
            w.Players(bad)


def test_compare_cuts_to_the_shortest_and_takes_more_than_two():
    c = w.Compare({"a": tone(seconds=1), "b": tone(seconds=0.9), "c": tone(seconds=1)})
    assert c.labels == ["a", "b", "c"] and c.durations == [0.9] * 3 and c.duration == 0.9
    with pytest.raises(ValueError, match="two or more sounds to compare, got 1"):
        w.Compare({"a": tone()})


def test_morph_refuses():
    with pytest.raises(ValueError, match="frames, labels: expected ≥ 2 and 2, or as many, got 1 and 2"):
        w.Morph([(tone(), None)])


def small_map(**changes):
    rng = np.random.default_rng(0)
    options = {"genres": ["jazz", "blues", "jazz"], "names": list("abc"), **changes}
    return w.LatentMap(rng.normal(size=(3, 4)), **options)


def test_map_stores_equal_sounds_once():
    m = small_map(sounds=[b"one", b"two", b"one"], images=[None, None, None])
    assert (m.sounds, m.sounds_end, m.sound_of) == (b"onetwo", [3, 6], [0, 1, 0])
    m = small_map(images=[None, b"png", None])
    assert (m.images, m.image_of) == (b"png", [-1, 0, -1])
    assert m.genres == ["blues", "jazz"] and m.genre_of == [1, 0, 1]
    assert np.array_equal(np.frombuffer(m.points, "<f4").reshape(3, 4), m.coordinates)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"genres": ["jazz"]}, "genres: expected 3, one a point, got 1"),
        ({"names": list("abcd")}, "names: expected 3, one a point, got 4"),
        ({"sounds": [b"one"]}, "sounds: expected 3, one a point, got 1"),
        ({"tracks": []}, "tracks: expected 3, one a point, got 0"),
    ],
)
def test_map_refuses(changes, words):
    with pytest.raises(ValueError, match=words):
        small_map(**changes)
    with pytest.raises(ValueError, match="points: expected two components or more, got 1"):
        w.LatentMap(np.zeros((3, 1)), genres=list("aaa"), names=list("abc"))


def test_decoded_grid_lies_where_it_says():
    points = np.array([[0, -1, 5, 9], [8, 3, 5, 9]], float)
    asked = []

    def decode(places):
        asked.append(places)
        return [(tone(), np.full((128, 22), i / len(places))) for i in range(len(places))]

    grid = w.decoded_grid(points, decode, shape=(2, 4), size=(4, 4))
    assert grid["x"] == [1, 3, 5, 7] and grid["y"] == [0, 2] and grid["axes"] == [0, 1]
    assert asked[0].tolist() == [[x, y, 0, 0] for y in (0, 2) for x in (1, 3, 5, 7)]
    assert len(grid["sounds"]) == len(grid["images"]) == 8
    m = small_map(decoded=grid)
    assert m.grid == {key: grid[key] for key in ("axes", "x", "y")} and m.grid_sounds == b"".join(grid["sounds"])


def test_kernel_answers_for_an_empty_place():
    asked = []
    m = small_map(decode=lambda z: [asked.append(z) or (tone(), np.zeros((128, 22)))])
    m.place = [2, 0, 1.5, -0.5]
    assert asked[0].tolist() == [[-0.5, 0, 1.5, 0]]
    assert m.answer == 1 and m.answer_sound and m.answer_image


# --- a picture lasts as long as its sound ----------------------------------------------------------------------------


def both(y, x):
    "Each kind of player of (y, x), as a function that makes it."
    return [lambda: w.Player(y, x=x), lambda: w.Players({"a": y, "b": (y, x)}), lambda: w.Compare(y, y, x, x),
            lambda: w.Morph([(y, x)] * 2)]


@settings(deadline=None, max_examples=25)
@given(st.integers(600, 40_000), st.integers(-2, 2), st.sampled_from([256, 512]))
def test_pictures_last_as_long_as_their_sounds(samples, off, hop):
    x = np.zeros((8, max(1, 1 + samples // hop + off)))
    player = w.Player(np.resize(tone(), samples), x=x, hop=hop)
    assert abs(media.png_seconds(player.images) - player.durations[0]) <= 3 * hop / RATE
    assert pixels(player.images).shape[1] <= 1 + samples // hop


@pytest.mark.parametrize("frames", [216, 127, 1])
def test_no_player_takes_a_picture_of_another_length(frames):
    for make in both(tone(seconds=3), np.zeros((128, frames))):
        with pytest.raises(ValueError, match=f"x: expected a picture as long as its sound, 130 frames.*got {frames}"):
            make()


def test_compare_cuts_pictures_with_their_sounds():
    c = w.Compare(tone(seconds=3), tone(seconds=2), np.zeros((128, 130)), np.zeros((128, 87)))
    assert [x.shape[1] for x in c.pictures] == [87, 87] and c.duration == 2


def test_map_and_grid_refuse_pictures_of_another_length():
    sound = w.mp3(tone(seconds=2.5))
    for image, got in ((w.spectrogram_png(np.zeros((9, 9)), seconds=5.0), "one of 5.00 s"),
                       (w.spectrogram_png(np.zeros((9, 9))), "does not say")):
        with pytest.raises(ValueError, match=f"images: expected pictures as long as their sounds, 2.50 s, got.*{got}"):
            small_map(sounds=[None, sound, sound], images=[None, image, image])
    good = w.spectrogram_png(np.zeros((9, 9)), seconds=2.51)
    small_map(sounds=[None, sound, sound], images=[image, good, None])
    with pytest.raises(ValueError, match="sounds: expected MP3 files, got 3 bytes"):
        small_map(sounds=[b"one", None, None], images=[good, None, None])
    with pytest.raises(ValueError, match="expected a picture as long as its sound, 108 frames.*got 216"):
        w.decoded_grid(np.eye(3), lambda at: [(tone(seconds=2.5), np.zeros((128, 216)))] * len(at))


# --- one look a genre -------------------------------------------------------------------------------------------------


def test_map_and_plots_show_a_genre_alike():
    from matplotlib.colors import to_hex

    from musevae.corpus import GENRES, genre_style
    from musevae.latent import LatentPCA, plot_pca

    some = ["rock", "metal", "jazz"]
    z = np.random.default_rng(0).normal(size=(12, 4))
    ax = plot_pca(LatentPCA.fit(z, components=2), z, np.repeat(some, 4))
    drawn = {c.get_label(): to_hex(c.get_facecolor()[0]) for c in ax.collections if c.get_label() in some}
    m = w.LatentMap(z, genres=np.repeat(some, 4), names=list("abcdefghijkl"))
    fixed = genre_style(GENRES)
    assert drawn == dict(zip(m.genres, m.colours, strict=True)) == {g: fixed[g]["color"] for g in some}
    assert m.markers == [fixed[g]["marker"] for g in sorted(some)]


def test_every_marker_has_a_shape_on_the_map():
    from musevae.corpus import GENRES, genre_style

    text = (files("musevae") / "static" / "plane.js").read_text("utf8").split("const SHAPES = ")[1].split("};")[0]
    looks = genre_style(GENRES).values()
    assert {look["marker"] for look in looks} == set(re.findall(r"[{ ]\"?([^\"\s])\"?: ", text))
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 10


@given(st.lists(st.text("abc", max_size=4), max_size=40))
def test_strangers_get_looks_of_their_own(names):
    from musevae.corpus import GENRES, genre_style

    looks = genre_style([*names, "jazz", "rock"])
    assert len({tuple(look.values()) for look in looks.values()}) == len(looks)
    assert looks["jazz"] == genre_style(GENRES)["jazz"]


def test_every_widget_has_a_picture_for_print():
    y = tone()
    for one in (w.Player(y), w.Players({"a": y, "b": y}), w.Compare(y, y), w.Morph([(y, None)] * 3), small_map()):
        data, _ = one._repr_mimebundle_()
        assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(data)
        assert pixels(one.to_png()).std() > 0


@pytest.mark.parametrize("kind", ["constant", "linear", "sigmoid", "cosine", "cyclical"])
def test_schedule_options_make_the_schedule(kind):
    annealing = pytest.importorskip("musevae.annealing")
    made = annealing.schedule(**w.Schedule(kind, steps=30, end=0.5).options)
    assert type(made).__name__.lower() == kind and made(1000) == 0.5


def test_schedule_refuses():
    with pytest.raises(ValueError, match="kind: expected one of constant, linear.*got 'cubic'"):
        w.Schedule("cubic")
    with pytest.raises(ValueError, match="got 'warmup'"):
        w.Schedule(warmup=3)


# --- pages -----------------------------------------------------------------------------------------------------------


def test_page_is_whole_and_names_nothing_outside():
    title = "</script><b>&"
    page = w.standalone_html([w.Player(tone(), title=title), w.Schedule()], title=title)
    assert "&lt;/script&gt;" in page and page.count("</script>") == 4
    assert not re.findall(r"https?://", page)
    state = json.loads(re.search(r'state\+json">(.*?)</script>', page)[1])["state"].values()
    player = next(s for s in state if "titles" in s["state"])
    assert player["state"]["titles"] == [title]
    assert {tuple(b["path"]) for b in player["buffers"]} == {("sounds",), ("images",)}


def test_scripts_are_joined_as_they_stand(tmp_path):
    "No line is dropped: a wrapped multiplication begins with its sign, a text may hold what looks like a comment."
    first = "/** Two. */\nconst a = 3\n* 4; // twelve\nconst b = `\n// no comment\n  * nor this`;\n"
    (tmp_path / "a.js").write_text(first)
    (tmp_path / "b.js").write_text("export default a;\n")
    joined = page.scripts("a.js", "b.js", folder=tmp_path)
    assert joined.startswith(first) and joined.endswith("export default a;\n")
    for name in ("core.js", "plane.js", "place.js", "map.js"):
        assert (files("musevae") / "static" / name).read_text("utf8") in w.LatentMap._esm


def test_static_files_travel_with_the_package():
    names = {p.name for p in (files("musevae") / "static").iterdir()}
    assert {"core.js", "mount.js", "widgets.css"} <= names
    for name in names:
        assert "</script" not in (files("musevae") / "static" / name).read_text("utf8")
