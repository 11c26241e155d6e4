"""Own music as people keep it: flat, by artist, on a list, tagged or not; and splits that say what they cannot do."""

import json
import os
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_corpus import check, noise, write

from musevae import corpus as module
from musevae.cli import main
from musevae.corpus import CorpusError, check_outside, check_vacant, load_corpus, scan, split_clips
from musevae.corpus.audio import read_tags
from musevae.corpus.files import find_files

SECONDS = 6


def grow(root, names):
    "Files of different noise under `root`."
    for i, name in enumerate(names):
        write(root / name, noise(i, SECONDS))
    return root


def tagged(path, artist=None, genre=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(path, "w", 22050, 1) as file:
        if artist:
            file.artist = artist
        if genre:
            file.genre = genre
        file.write(noise(seed, SECONDS))
    return path


def by_track(result, column):
    return result.clips.set_index("track")[column].to_dict()


# --- Folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names,layout,genres,artists", [
    (["a.wav", "b.wav", "x/c.wav"], "flat", set(), set()),
    (["Nina/Live/1.wav", "Nina/Live/2.wav", "Bach/Suites/CD 1/3.wav", "stray.wav"], "artist/album", set(),
     {"Nina", "Bach"}),
    (["techno/a.wav", "ambient/b.wav"], "genre", {"techno", "ambient"}, set()),
    (["Rock/Nina/Live/1.wav", "Jazz/Bach/Suites/2.wav"], "genre", {"rock", "jazz"}, set()),
    (["Nina/Rock/1.wav", "Nina/Live/2.wav", "Bach/Suites/3.wav"], "artist/album", set(), {"Nina", "Bach"}),
    (["audio/Data/a.wav", "b.wav"], "flat", set(), set()),
    (["Various Artists/Hits/1.wav", "Nina/Live/2.wav"], "artist/album", set(), {"Nina"}),
])
def test_what_folders_mean_is_guessed(tmp_path, names, layout, genres, artists):
    result = check(scan(grow(tmp_path, names), progress=False))
    assert result.layout == layout and len(result.clips) == len(names) and result.exit_code == 0
    assert set(result.clips.genre.dropna()) == genres and set(result.clips.artist.dropna()) == artists
    said = sum("genre: unknown for all clips" in line for line in result.summary().splitlines())
    assert said == (not genres)  # once, and only where it is so


@pytest.mark.parametrize("layout,genre,artist", [
    ("genre", "Nina", None), ("artist", None, "Nina"), ("artist/album", None, "Nina"), ("genre/artist", "Nina", "Live"),
    ("album/artist", None, "Live"), ("flat", None, None)])
def test_what_folders_mean_can_be_said(tmp_path, layout, genre, artist):
    clips = scan(grow(tmp_path, ["Nina/Live/1.wav"]), layout=layout, progress=False).clips
    assert [None if pd.isna(v) else v for v in clips[["genre", "artist"]].iloc[0]] == [genre, artist]


def test_a_genre_comes_before_its_artists_wherever_it_stands(tmp_path):
    grow(tmp_path, ["music/Hip-Hop/Nina/1.wav", "music/Jazz/Bach/2.wav"])
    clips = scan(tmp_path, layout="genre/artist", progress=False).clips
    assert clips[["genre", "artist"]].to_numpy().tolist() == [["hiphop", "Nina"], ["jazz", "Bach"]]


@pytest.mark.parametrize("layout", ["genres", "", "genre/genre", "artist/", None, 3])
def test_a_layout_that_is_none(tmp_path, layout):
    with pytest.raises(CorpusError, match="layout: expected auto, flat, or folder levels"):
        scan(grow(tmp_path, ["a.wav"]), layout=layout, progress=False)


def test_hidden_folders_are_not_entered_and_named_once(tmp_path):
    hidden = [".Trashes", ".hidden", "@eaDir", "__MACOSX", "$RECYCLE.BIN"]
    grow(tmp_path, ["blues/a.wav", "blues/b.wav", *(f"{h}/x/c.wav" for h in hidden), "blues/@eaDir/d.wav"])
    (tmp_path / ".link").symlink_to(tmp_path / "blues", target_is_directory=True)
    result = check(scan(tmp_path, progress=False))
    assert result.found == len(result.clips) == 2 and result.faults.empty and set(result.clips.genre) == {"blues"}
    lines = [line for line in result.summary().splitlines() if line.startswith("hidden:")]
    assert len(lines) == 1 and "7 folders not entered" in lines[0] and "@eaDir" in lines[0]
    with pytest.warns(UserWarning, match="7 folders not entered") as caught:
        load_corpus(tmp_path)
    assert len(caught) == 1
    assert len(scan(tmp_path / ".hidden", progress=False).clips) == 1  # who names it means it


def test_the_same_title_on_many_albums(tmp_path):
    names = [f"{artist}/{album}/01 Intro.wav" for artist in ("Nina", "Bach") for album in ("Live", "Early")]
    result = check(scan(grow(tmp_path, names), progress=False))
    assert list(result.faults.fault) == ["same stem"] and result.faults.detail[0].startswith("4 files are called 01 Intro;")
    assert set(result.clips.track) == {"Live.01 Intro", "Early.01 Intro", "Live.01 Intro.wav", "Early.01 Intro.wav"}


# --- Lists and tables -------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    grow(tmp_path, ["here/a.wav", "there/b.wav", "there/c.wav"])
    return tmp_path


def sources(root, tmp_path):
    "The same three files, told in every way."
    paths = [root / "here" / "a.wav", root / "there" / "b.wav", root / "there" / "c.wav"]
    near = ["here/a.wav", "there/b.wav", "./there/c.wav"]
    (root / "list.txt").write_text("\n".join(near))
    (root / "list.m3u").write_text("\ufeff#EXTM3U\r\n#EXTINF:123,Title\r\n" + "\r\n\r\n".join([*near[:2], str(paths[2])]))
    pd.DataFrame(dict(path=near)).to_csv(root / "list.csv", index=False)
    return [paths, [str(p) for p in paths], tuple(paths), pd.DataFrame(dict(path=paths)),
            *(root / f"list.{kind}" for kind in ("txt", "m3u", "csv"))]


def test_a_list_in_any_form_is_a_corpus(three, tmp_path):
    for source in sources(three, tmp_path):
        result = check(scan(source, progress=False))
        assert list(result.clips.track) == ["a", "b", "c"] and result.clips.genre.isna().all() and result.found == 3
        assert all(os.path.isabs(p) for p in result.clips.path) and result.layout == "flat"
        assert sum("genre: unknown" in line for line in result.summary().splitlines()) == 1
    assert scan(sources(three, tmp_path)[0], layout="genre", progress=False).clips.genre.tolist() == ["here", "there", "there"]


def test_what_is_on_the_list_and_not_there_is_missing_and_what_is_there_twice_counts_once(three):
    paths = [three / "here" / "a.wav", three / "here" / ".." / "here" / "a.wav", three / "gone.wav", three / "there"]
    result = check(scan(paths, progress=False))
    assert result.found == 3 and list(result.clips.track) == ["a"]
    assert result.faults.set_index("track").fault.to_dict() == dict(gone="missing", there="unreadable")
    with pytest.raises(CorpusError, match="got 2 of 3 files that are not"):
        load_corpus(paths, on_fault="raise")


def test_columns_of_a_table_go_before_folders_and_tags(tmp_path):
    one = tagged(tmp_path / "Nina" / "Live" / "one.flac", "Somebody", "Jazz", 1)
    two = tagged(tmp_path / "Nina" / "Live" / "two.flac", "Somebody", "Jazz", 2)
    three = tagged(tmp_path / "Bach" / "x" / "three.flac", None, None, 3)  # now the common folder stands above the artists
    table = pd.DataFrame(dict(path=[two, one, three], track=["second", None, None], genre=["polka", None, None],
                              artist=["Me", None, None], split=["test", None, None], mood=["glad", "sad", None]), index=[7, 9, 11])
    result = check(scan(table, layout="artist", progress=False))
    assert result.clips.set_index("track").genre.dropna().to_dict() == dict(second="polka", one="jazz")
    assert by_track(result, "artist") == dict(second="Me", one="Nina", three="Bach")
    assert result.clips.set_index("track").mood.dropna().to_dict() == dict(second="glad", one="sad")
    assert result.clips.split.dropna().tolist() == ["test"]


def test_corpus_csv_tells_genres_of_a_flat_folder(tmp_path):
    grow(tmp_path, ["a.wav", "b.wav", "c.wav"])
    listed = pd.DataFrame(dict(track=["a", "b"], genre=["blues", "jazz"], artist=["Nina", None]))
    listed.to_csv(tmp_path / "corpus.csv", index=False)
    result = check(scan(tmp_path, progress=False))
    assert result.clips.genre.dropna().tolist() == ["blues", "jazz"] and result.clips.artist.dropna().tolist() == ["Nina"]
    assert any("genre: unknown for 1 of 3 clips" in note for note in result.notes)


@pytest.mark.parametrize("make,message", [
    (lambda p: pd.DataFrame(dict(file=["x"])), "table: expected a column 'path'"),
    (lambda p: pd.DataFrame(dict(path=["x", None])), "names a file in every row"),
    (lambda p: [], "list of 0 files: expected audio files, got an empty list"),
    (lambda p: p / "list.csv", "list.csv: expected a column 'path', got columns"),
    (lambda p: p / "song.doc", "song.doc: expected a folder, an audio file, a list .* or a table"),
    (lambda p: p / "none.txt", "none.txt: expected a folder, .* got nothing")])
def test_what_is_no_list(tmp_path, make, message):
    (tmp_path / "list.csv").write_text("name\nx\n")
    (tmp_path / "song.doc").write_text("x")
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(make(tmp_path))
    assert "\n" not in str(caught.value)


# --- Tags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_tags_tell_what_nothing_else_tells(tmp_path, ending):
    said = [("Renée", "Hip Hop"), ("Bach", "(32)Baroque"), ("Unknown Artist", "17"), ("", "")]
    for i, (artist, genre) in enumerate(said):
        tagged(tmp_path / f"{i}.{ending}", artist, genre, i)
    result = check(scan(tmp_path, progress=False))
    clips = result.clips.set_index("track").astype(object)
    told = clips[["artist", "genre"]].where(clips[["artist", "genre"]].notna(), None).loc[list("0123")]
    number = "rock" if ending == "mp3" else None  # 17 is rock, which the decoder of mp3 knows
    assert told.to_numpy().tolist() == [["Renée", "hiphop"], ["Bach", "Baroque"], [None, number], [None, None]]
    for column in ("artist", "genre"):
        assert f"{column}: from the files' own tags for {told[column].notna().sum()} of 4 clips" in result.notes


def test_folders_go_before_tags(tmp_path):
    tagged(tmp_path / "blues" / "a.flac", "Nina", "Jazz")
    tagged(tmp_path / "jazz" / "b.flac", None, None, 1)
    result = check(scan(tmp_path, progress=False))
    assert by_track(result, "genre") == dict(a="blues", b="jazz") and by_track(result, "artist")["a"] == "Nina"
    tagged(tmp_path / "Artists" / "Bach" / "Suites" / "c.flac", "J. S.", "Baroque", 2)
    tagged(tmp_path / "Artists" / "Various Artists" / "Hits" / "d.flac", "Nina", None, 3)
    assert by_track(scan(tmp_path / "Artists", progress=False), "artist") == dict(c="Bach", d="Nina")


def test_a_format_without_tags(tmp_path):
    assert read_tags(write(tmp_path / "a.au")) == dict(artist=None, genre=None)


# --- Remarks that are true --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate,alarm", [(8000, True), (16000, True), (22050, False), (44100, False), (48000, False),
                                        (192000, False)])
def test_a_rate_is_remarked_on_where_the_picture_lacks_something(tmp_path, rate, alarm):
    write(tmp_path / "a" / "one.wav", noise(0, SECONDS, rate), rate)
    for i in range(3):
        write(tmp_path / "a" / f"{i}.wav", noise(i + 1, SECONDS, 44100), 44100)
    faults = check(scan(tmp_path, progress=False)).faults
    assert list(faults.fault) == ["sample rate"] * alarm
    assert not alarm or f"nothing above {rate // 2:,} Hz" in faults.detail[0]


def test_genres_of_ones_own_are_not_strange(tmp_path):
    assert scan(grow(tmp_path, ["jazz/a.wav", "techno/b.wav"]), progress=False).faults.empty


# --- Splits -----------------------------------------------------------------------------------------------------------


def table_of(artists, **columns):
    n = len(artists)
    names = [f"t{i}" for i in range(n)]
    return pd.DataFrame(dict(track=names, genre="blues", artist=pd.array(artists, dtype="string"), **columns))


def test_artists_from_folders_stay_on_one_side(tmp_path):
    names = [f"{artist}/{album}/{i}.wav" for artist in "ABCDEF" for album in ("x", "y") for i in range(2)]
    clips = scan(grow(tmp_path, names), progress=False).clips
    out = split_clips(clips, scheme="artist")
    assert set(out.split) == {"train", "valid", "test"} and out.groupby("artist").split.nunique().eq(1).all()
    assert not split_clips(clips).groupby("artist").split.nunique().eq(1).all()  # which a split by clip does not do


BY_ARTIST = dict(scheme="artist")


@pytest.mark.parametrize("table,options,words", [
    (table_of(["A"] * 8 + ["B"] * 8), BY_ARTIST, "at least 3 artists, one each for train, valid, test, got 2 artists (16"),
    (table_of(["A"] * 10), BY_ARTIST, "got 1 artist (10 clips in all); add artists, or split by clip"),
    (table_of(["A", "A", None]), BY_ARTIST, "got 1 artist and 1 clip of unknown artist (3 clips in all)"),
    (table_of([None] * 20), BY_ARTIST, "expected clips of known artists, got 20 clips of unknown ones"),
    (table_of([None]), {}, "at least 3 clips, one each for train, valid, test, got 1 clip; add clips"),
    (table_of([None], duration=[3480.0]), {}, "got 1 clip; cut long recordings into clips of 30 s"),
    (table_of([None] * 9, sha256=["same"] * 9), {}, "got 9 clips of 1 recording; add clips"),
    (table_of([None]), dict(fractions=(0.5, 0.5, 0.0)), "at least 2 clips, one each for train, valid, got 1 clip")])
def test_too_few_is_said_with_what_to_do(table, options, words):
    with pytest.raises(CorpusError) as caught:
        split_clips(table, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_message_about_too_few_names_the_folder(tmp_path):
    with pytest.raises(CorpusError, match=f"{tmp_path / 'mine'}: expected at least 3 clips"):
        split_clips(load_corpus(grow(tmp_path / "mine", ["a.wav", "b.wav"]), on_fault="ignore"))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=9), st.integers(1, 8), st.integers(0, 9))
def test_no_part_is_empty_where_there_is_a_unit_for_each(sizes, genres, seed):
    "Few artists of any sizes, many small genres: formerly all went into train."
    artists = [f"a{k}" for k, size in enumerate(sizes) for _ in range(size)]
    table = table_of(artists).assign(genre=[f"g{i % genres}" for i in range(len(artists))])
    out = split_clips(table, scheme="artist", seed=seed)
    assert set(out.split) == {"train", "valid", "test"} and out.groupby("artist").split.nunique().eq(1).all()


def test_small_genres_are_dealt_as_one():
    table = pd.DataFrame(dict(track=[f"t{i}" for i in range(60)], genre=[f"g{i // 2}" for i in range(60)]))
    assert split_clips(table).split.value_counts().to_dict() == dict(train=48, valid=6, test=6)
    unknown = split_clips(table.assign(genre=None)).split.value_counts().to_dict()
    assert unknown == dict(train=48, valid=6, test=6)


# --- Where one may write ----------------------------------------------------------------------------------------------


def test_a_run_does_not_go_among_the_music(tmp_path, capsys, monkeypatch):
    music = grow(tmp_path / "music", [f"{i}.wav" for i in range(4)])
    (tmp_path / "link").symlink_to(music, target_is_directory=True)
    for out in (music, music / "runs" / "first", tmp_path / "link" / "run"):
        with pytest.raises(CorpusError, match="expected a folder of its own"):
            check_outside(out, music)
        assert main(["train", music, "--out", out, "--preset", "linear"]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    check_outside(tmp_path / "musical", music)
    check_outside(music / "run", [music / "0.wav"])
    assert sorted(os.listdir(music)) == [f"{i}.wav" for i in range(4)]


def test_a_made_corpus_does_not_go_into_somebodys_music(tmp_path, capsys):
    music = grow(tmp_path / "music", ["polka/mine.wav"])
    assert main(["synth", music, "--clips", "1", "--seconds", "6"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(music) in err and "polka/mine.wav" in err and os.listdir(music) == ["polka"]
    check_vacant(tmp_path / "nowhere")
    (music / "made.json").touch()
    check_vacant(music)


def test_no_made_clip_is_shorter_than_a_window(tmp_path, capsys):
    for seconds in ("1", "4.9"):
        assert main(["synth", tmp_path / "made", "--clips", "1", "--seconds", seconds]) == 2
        assert "--seconds: expected at least 5" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


# --- The whole way without genres -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    "Twenty clips in one flat folder, and a run on them."
    root = tmp_path_factory.mktemp("flat")
    for i in range(20):
        t = np.arange(SECONDS * 22050) / 22050
        y = 0.3 * np.sin(2 * np.pi * 110 * 2 ** (i / 6) * t) + 0.01 * np.random.default_rng(i).standard_normal(len(t))
        write(root / "music" / f"song {i:02d}.wav", y.astype("float32"))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MUSEVAE_HOME", str(root / "home"))
        yield root, patch


def test_a_flat_folder_goes_the_whole_way(way, capsys):
    root, _ = way
    music, run = root / "music", root / "run"
    assert main(["train", music, "--out", run, "--preset", "linear", "--latent-dim", "4"]) == 0
    out, err = capsys.readouterr()
    assert "20 clips of unknown genre, 20 windows" in out and err.count("genre: unknown for all clips") == 1
    assert main(["evaluate", run, music, "--json", "--pairs", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["windows"] == 2 and not [k for k in result if k.startswith("probe")]
    assert main(["map", run, music, "--out", root / "map.html", "--places", "0"]) == 0
    page = (root / "map.html").read_text()
    assert '"unknown"' in page and '"nan"' not in page and "<NA>" not in page
    assert main(["train", music, "--out", root / "other", "--preset", "linear", "--split", "artist"]) == 1
    assert "expected clips of known artists" in capsys.readouterr().err and not (root / "other").exists()


def test_only_clips_of_known_genre_are_probed(way, capsys):
    root, _ = way
    shutil.copytree(root / "music", root / "partly", dirs_exist_ok=True)
    names = sorted(p.stem for p in (root / "partly").glob("*.wav"))
    genre = [None if i % 3 == 2 else ("low", "high")[i >= 10] for i in range(20)]
    pd.DataFrame(dict(track=names, genre=genre)).to_csv(root / "partly" / "corpus.csv", index=False)
    assert main(["train", root / "partly", "--out", root / "half", "--preset", "linear", "--latent-dim", "4"]) == 0
    from musevae.probes import probe
    from musevae.runs import load_run

    asked = []

    def listen(x, genres, *rest, **options):
        asked.append(genres)
        return probe(x, genres, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("musevae.report.figures.probe", listen)
        assert main(["evaluate", root / "half", root / "partly", "--json", "--pairs", "1"]) == 0
    run = load_run(root / "half")
    known = run.corpus.genre.notna() & run.corpus.split.isin(["train", "test"])
    capsys.readouterr()
    assert set(asked[0]) == {"low", "high"} and len(asked[0]) == known.sum()
    assert main(["train", root / "partly", "--out", root / "list run", "--preset", "linear", "--layout", "nothing"]) == 1
    assert "layout: expected" in capsys.readouterr().err


def test_train_takes_a_table_of_paths(way):
    from musevae.runs import train

    root, _ = way
    paths = sorted((root / "music").glob("*.wav"))
    one = train(pd.DataFrame(dict(path=paths)), root / "from table", preset="linear", latent_dim=4)
    two = train(paths, root / "from list", preset="linear", latent_dim=4)
    assert len(one.corpus) == len(two.corpus) == 20 and one.corpus.sha256.tolist() == two.corpus.sha256.tolist()


def test_hidden_folders_do_not_count_as_files(tmp_path):
    grow(tmp_path, ["a.wav", ".x/b.wav"])
    found = find_files(tmp_path)
    assert [os.path.basename(e["path"]) for e in found.entries] == ["a.wav"] and found.hidden == (str(tmp_path / ".x"),)
    assert module.FAULTS["no genre"]
