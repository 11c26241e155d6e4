"The corpus: every file found is a clip or a fault, checksums decide who is GTZAN, and no split parts what belongs together."

import hashlib
import os
import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from musevae import corpus
from musevae.corpus import (
    ARTIST,
    COLUMNS,
    FAULTS,
    GENRES,
    CorpusError,
    gtzan_help,
    gtzan_tracks,
    home,
    leakage_ladder,
    load_corpus,
    read_audio,
    scan,
    split_clips,
    with_splits_of,
)
from musevae.corpus.split import groups_of
from musevae.corpus.verdict import examine

RATE = 22050  # Hz


def noise(seed=0, seconds=6.0, rate=RATE):
    return (0.2 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype("float32")


def write(path, y=None, rate=RATE, subtype=None, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, noise(len(str(path))) if y is None else y, rate, subtype=subtype, **kw)
    return path


@pytest.fixture
def tree(tmp_path):
    "Three genres of four different clips."
    for g, genre in enumerate(("blues", "jazz", "rock")):
        for i in range(4):
            write(tmp_path / "DATA" / genre / f"{genre}.{i:05d}.wav", noise(10 * g + i))
    return tmp_path / "DATA"


def check(result):
    "Nothing vanishes, and nothing is counted twice."
    assert result.found == len(result.clips) + result.lost
    assert result.clips.track.is_unique and result.clips.path.is_unique
    assert set(result.faults.fault) <= set(FAULTS)
    assert (result.faults.excluded == result.faults.fault.map(FAULTS)).all()
    assert result.faults.detail.str.len().gt(0).all() and not result.faults.detail.str.contains("\n").any()
    out = result.faults[result.faults.excluded & (result.faults.fault != "missing")]
    assert out.path.is_unique and not set(out.path) & set(result.clips.path)
    assert result.exit_code == int(result.lost > 0 or len(result.clips) == 0)
    assert len(result.table()) == len(result.clips) + len(result.faults)
    return result


def faults_of(result, name):
    return list(result.faults.fault[[os.path.basename(p) == name for p in result.faults.path]])


def test_a_clean_tree_is_a_table(tree):
    result = check(scan(tree, progress=False))
    clips = result.clips
    assert list(clips.columns[: len(COLUMNS)]) == list(COLUMNS) and len(clips) == 12 and result.faults.empty
    assert clips.genre.value_counts().to_dict() == dict(blues=4, jazz=4, rock=4)
    assert (clips.duration == 6.0).all() and (clips.sample_rate == RATE).all() and (clips.channels == 1).all()
    assert clips.artist.isna().all() and clips.split.isna().all() and clips.sha256.is_unique
    assert "12 audio files found = 12 clips + 0 left out" in result.summary() and result.exit_code == 0
    pd.testing.assert_frame_equal(clips, scan(tree, progress=False, workers=1).clips)
    assert all(os.path.isabs(p) for p in clips.path)


def test_ten_planted_faults_are_all_named(tree):
    blues = tree / "blues"
    (blues / "text.wav").write_text("hello")
    (blues / "zero.wav").touch()
    write(blues / "header.wav", noise()[:0])
    write(blues / "short.wav", noise(1, seconds=1))
    write(blues / "silent.wav", 0 * noise())
    write(blues / "clipped.wav", np.clip(10 * noise(2), -1, 1))
    write(blues / "rock.00099.wav", noise(3))
    write(blues / "nan.wav", np.where(np.arange(6 * RATE) == 5, np.nan, noise(4)).astype("float32"), subtype="FLOAT")
    shutil.copy(blues / "blues.00000.wav", tree / "rock" / "again.wav")
    (blues / "._blues.00001.wav").write_bytes(b"\0\5\x16\7" + bytes(50))
    write(blues / "telephone.wav", noise(5, rate=11025), 11025)
    result = check(scan(tree, progress=False))
    want = {"text.wav": "unreadable", "zero.wav": "empty", "header.wav": "empty", "short.wav": "short",
            "silent.wav": "silent", "clipped.wav": "clipped", "rock.00099.wav": "mislabelled", "nan.wav": "not finite",
            "again.wav": "duplicate", "._blues.00001.wav": "sidecar", "telephone.wav": "sample rate"}
    assert {n: faults_of(result, n) for n in want} == {n: [f] for n, f in want.items()}
    assert result.found == 12 + 11 and len(result.clips) == 12 + 3 and result.exit_code == 1
    for name in want:
        assert name in result.summary()
    with pytest.warns(UserWarning) as caught:
        load_corpus(tree)
    assert len(caught) == 11 and all("\n" not in str(w.message) for w in caught)
    with pytest.raises(CorpusError, match=r"8 of 23 files.*"):
        load_corpus(tree, on_fault="raise")


@pytest.mark.parametrize("subtype,channels,rate,fault", [
    ("PCM_U8", 1, RATE, "8 bit"), ("PCM_24", 1, RATE, None), ("PCM_32", 2, RATE, None), ("DOUBLE", 1, RATE, None),
    ("PCM_16", 6, RATE, "channels"), ("PCM_16", 1, 11025, "sample rate"), ("PCM_16", 2, 48000, None)])
def test_formats(tree, subtype, channels, rate, fault):
    y = noise(77, rate=rate)
    write(tree / "blues" / "x.wav", np.stack([y] * channels, axis=1), rate, subtype)
    result = check(scan(tree, progress=False))
    assert faults_of(result, "x.wav") == [f for f in [fault] if f] and "x" in set(result.clips.track)
    z = read_audio(tree / "blues" / "x.wav")
    assert z.shape == (6 * RATE,) and z.dtype == np.float32
    if rate == RATE:
        assert np.abs(z - y).max() < (0.01 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "au", "aiff", "WAV"])
def test_endings(tmp_path, ending):
    format = {"aiff": "AIFF", "WAV": "WAV"}.get(ending)
    write(tmp_path / "polka" / f"é à.{ending}", noise(), format=format)
    result = check(scan(tmp_path, progress=False))
    assert list(result.clips.track) == ["é à"] and list(result.clips.genre) == ["polka"] and result.faults.empty
    y = read_audio(result.clips.path[0])
    assert abs(len(y) - 6 * RATE) < 3000  # an mp3 is padded


def test_an_accent_is_one_character_whatever_machine_wrote_the_name(tmp_path):
    for form in ("NFC", "NFD"):
        write(tmp_path / form / unicodedata.normalize(form, "Ötztal") / unicodedata.normalize(form, "Café.wav"))
    tracks = {form: scan(tmp_path / form, progress=False).clips[["genre", "track"]].iloc[0].tolist() for form in ("NFC", "NFD")}
    assert tracks["NFD"] == tracks["NFC"] == [unicodedata.normalize("NFC", w) for w in ("Ötztal", "Café")]


def test_cut_files(tree):
    for name in ("a.wav", "b.flac", "c.au", "d.mp3"):
        path = write(tree / "blues" / name, noise(9, seconds=30))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = check(scan(tree, progress=False))
    assert faults_of(result, "a.wav") == faults_of(result, "c.au") == faults_of(result, "d.mp3") == ["truncated"]
    assert faults_of(result, "b.flac") == ["unreadable"]
    assert "broke off" in result.faults.detail[result.faults.fault == "unreadable"].iloc[0]
    with pytest.raises(CorpusError, match=r"b\.flac.*broke off"):
        read_audio(tree / "blues" / "b.flac")


def test_links(tree, tmp_path):
    write(tmp_path / "elsewhere" / "jazz.00099.wav", noise(50))
    (tree / "blues" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "blues" / "self.wav").symlink_to("self.wav")
    (tree / "blues" / "gone.wav").symlink_to("nothing.wav")
    (tree / "jazz" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    result = check(scan(tree, progress=False))
    assert faults_of(result, "up") == faults_of(result, "self.wav") == ["loop"]
    assert faults_of(result, "gone.wav") == ["unreadable"]
    assert len(result.clips) == 13 and result.clips.genre[result.clips.track == "jazz.00099"].item() == "jazz"


def test_no_permission(tree, monkeypatch):
    def refuse(real, *denied):
        def call(path, *a, **k):
            if str(path) in denied:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *a, **k)
        return call

    song = str(tree / "blues" / "blues.00000.wav")
    entry = dict(path=song, track="blues.00000", genre="blues")
    assert examine(entry)["findings"] == []
    assert examine(entry, opener=refuse(open, song))["findings"] == [("no permission", "cannot be opened: Permission denied")]
    monkeypatch.setattr("os.scandir", refuse(os.scandir, str(tree / "jazz")))
    result = check(scan(tree, progress=False))
    assert faults_of(result, "jazz") == ["no permission"] and FAULTS["no permission"]
    assert result.found == 9 and len(result.clips) == 8


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on Linux")
def test_a_name_that_is_not_unicode(tree, tmp_path):
    try:
        shutil.copy(tree / "blues" / "blues.00000.wav", os.fsencode(tree / "blues") + b"/caf\xe9.wav")
    except OSError:
        pytest.skip("this file system refuses such names")
    result = check(scan(tree, progress=False))
    assert list(result.faults.fault) == ["bad name"]
    result.table().to_csv(tmp_path / "scan.csv", index=False)
    assert r"caf\xe9" in (tmp_path / "scan.csv").read_text(encoding="utf-8") and r"caf\xe9" in result.summary()


def test_two_tracks_with_one_stem(tree):
    write(tree / "jazz" / "one.wav", noise(60))
    write(tree / "rock" / "one.wav", noise(61))
    write(tree / "rock" / "one.flac", noise(62))
    result = check(scan(tree, progress=False))
    assert list(result.faults.fault) == ["same stem"] and len(result.clips) == 15
    names = {"jazz.one", "rock.one", "rock.one.wav"}
    assert names <= set(result.clips.track) and all(n in result.faults.detail[0] for n in names)


def test_genres_from_folders(tmp_path):
    for folder in ("Data/genres_original/blues", "Hip-Hop", "polka", "CLASSICAL/Bach"):
        write(tmp_path / folder / "x y.wav", noise(len(folder)))
    write(tmp_path / "metal.00003.wav", noise(90))
    write(tmp_path / "stray.wav", noise(91))
    result = check(scan(tmp_path, progress=False))
    assert set(result.clips.genre) == {"blues", "hiphop", "polka", "classical", "metal"}
    assert faults_of(result, "stray.wav") == ["no genre"]
    assert "unknown genre" not in set(result.faults.fault)  # the names of these files are not GTZAN's
    for i, genre in enumerate(("blues", "blues", "polka")):
        write(tmp_path / "copy" / genre / f"blues.{i:05d}.wav", noise(70 + i))
    faults = scan(tmp_path / "copy", progress=False).faults
    assert faults.detail[faults.fault == "unknown genre"].item().startswith("'polka' is none of blues")


def test_a_long_file_is_read_in_blocks(tmp_path):
    import tracemalloc

    path = tmp_path / "blues" / "concert.wav"
    path.parent.mkdir()
    with sf.SoundFile(path, "w", 8000, 1, "PCM_16") as f:
        for i in range(120):  # two hours, a minute at a time
            f.write(noise(i, 60, 8000))
    tracemalloc.start()
    result = check(scan(tmp_path, progress=False))
    part = read_audio(path, start=7000, seconds=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.clips.duration.item() == 7200 and set(result.faults.fault) == {"long", "sample rate"}
    assert part.shape == (110250,) and peak < 30e6  # bytes; the whole is 230 MB


def test_three_different_messages(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    (tmp_path / "bad" / "blues").mkdir(parents=True)
    (tmp_path / "bad" / "blues" / "a.wav").touch()
    for folder, message in (("absent", "no such folder"), ("empty", "an empty folder"),
                            ("texts", "1 files, none of them audio"), ("bad", "a.wav: empty: "),
                            ("texts/a.txt", "texts/x: missing")):
        with pytest.raises(CorpusError, match=message) as caught:
            load_corpus(tmp_path / folder)
        assert "\n" not in str(caught.value) and folder in str(caught.value)
    with pytest.raises(CorpusError, match="on_fault"):
        load_corpus(tmp_path, on_fault="panic")
    assert issubclass(CorpusError, ValueError)


def test_listed_columns_are_merged(tree):
    listed = pd.DataFrame(dict(track=["blues.00000", "jazz.00001", "rock.00999"], genre=["blues", "jazz", "rock"],
                               artist=["A", None, "B"], tempo=[90.0, 120.0, 60.0], path=["x", "y", "z"]))
    listed.to_csv(tree / "corpus.csv", index=False)
    result = check(scan(tree, progress=False))
    clips = result.clips.set_index("track")
    assert list(result.faults.fault) == ["missing"] and "rock.00999" in result.faults.detail[0] and result.found == 13
    assert clips.tempo["blues.00000"] == 90 and clips.tempo.isna().sum() == 10 and clips.artist.notna().sum() == 1
    assert clips.path["blues.00000"].endswith("blues.00000.wav")
    (tree / "corpus.csv").write_text("name\nx\n")
    with pytest.raises(CorpusError, match="expected a column 'track'"):
        scan(tree, progress=False)


# --- GTZAN ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    "Noise that passes for six clips of GTZAN: the facts' checksums are replaced by those of the noise."
    facts = gtzan_tracks().copy()
    for i, track in enumerate(facts.index[[0, 1, 12, 100, 554, 900]]):
        path = write(tmp_path / f"{track}.wav", noise(i), subtype="PCM_16")
        facts.loc[track, "md5"] = hashlib.md5(path.read_bytes()).hexdigest()
    for module in (corpus, corpus.gtzan):
        monkeypatch.setattr(module, "gtzan_tracks", lambda: facts)
    return tmp_path


@pytest.mark.parametrize("ending,folder", [("wav", "Data/genres_original"), ("au", "genres"), ("flac", "")])
def test_gtzan_in_all_its_forms(pretend, ending, folder):
    for path in list(pretend.glob("*.wav")):
        y, rate = sf.read(path, dtype="int16")
        write(pretend / "GTZAN" / folder / path.name.split(".")[0] / f"{path.stem}.{ending}", y, rate, "PCM_16")
        (pretend / "GTZAN" / folder / path.name.split(".")[0] / f"._{path.stem}.{ending}").write_bytes(b"\0\5\x16\7" * 9)
        path.unlink()
    result = check(scan(pretend / "GTZAN", progress=False))
    clips = result.clips.set_index("track")
    assert len(clips) == 6 and clips.verified.all() and set(result.faults.fault) == {"sidecar"} and result.lost == 6
    assert clips.artist["blues.00000"] == "John Lee Hooker" and pd.isna(clips.artist["jazz.00054"])
    assert "6 clips verified by checksum, 994 of 1000 missing" in result.summary()


def test_altered_and_foreign_clips(pretend):
    for path in list(pretend.glob("*.wav")):
        write(pretend / "GTZAN" / path.name.split(".")[0] / path.name, sf.read(path)[0], subtype="PCM_16")
    write(pretend / "GTZAN" / "blues" / "blues.00000.wav", noise(99))
    result = check(scan(pretend / "GTZAN", progress=False))
    assert faults_of(result, "blues.00000.wav") == ["altered"] and result.clips.artist[0] == "John Lee Hooker"
    for path in (pretend / "GTZAN").glob("*/*.wav"):  # made clips bear the same names; they are not John Lee Hooker
        write(path, noise(len(path.name) + 500))
    result = check(scan(pretend / "GTZAN", progress=False))
    assert result.clips.artist.isna().all() and "verified" not in result.clips and "altered" not in set(result.faults.fault)
    assert scan(pretend / "GTZAN", progress=False, trust_names=True).clips.artist.notna().any()


def test_the_corrupt_clip_is_left_out_by_name(tree):
    (tree / "jazz" / "jazz.00054.wav").write_bytes(os.urandom(3000))
    result = check(scan(tree, progress=False))
    row = result.faults[result.faults.excluded].iloc[0]
    assert row.track == "jazz.00054" and row.fault == "unreadable" and "Kaggle" in row.detail
    assert not (result.clips.track == "jazz.00054").any()


def test_the_facts():
    facts = gtzan_tracks()
    assert len(facts) == 1000 and facts.genre.value_counts().eq(100).all() and tuple(sorted(set(facts.genre))) == GENRES
    assert facts.kereliuk.value_counts().to_dict() == dict(train=443, test=290, valid=197, excluded=70)
    assert facts.foleiss_fold.notna().sum() == 948 and (facts.foleiss_fold.isna() == (facts.foleiss_removed == "1")).all()
    assert facts.md5.str.fullmatch("[0-9a-f]{32}").all() and facts.md5.duplicated().sum() == 14
    assert "jazz.00054" in gtzan_help() and "5b3d6dddb579ab49814ab86dba69e7c7" in gtzan_help()


def test_gtzan_mini(gtzan_mini):
    result = check(scan(gtzan_mini, progress=False))
    assert result.found == len(result.clips) == 100 and result.lost == 0
    assert result.clips.verified.all() and result.clips.artist.notna().sum() > 90


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSEVAE_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("MUSEVAE_HOME")
    assert home().parts[-2:] == (".cache", "musevae")


# --- splits -----------------------------------------------------------------------------------------------------------


@st.composite
def corpora(draw):
    n = draw(st.integers(1, 60))
    table = pd.DataFrame(dict(
        track=[f"t{i}" for i in range(n)],
        genre=draw(st.lists(st.sampled_from(GENRES[:3]), min_size=n, max_size=n)),
        artist=pd.array(draw(st.lists(st.sampled_from([None, *"ABCDEFGH"]), min_size=n, max_size=n)), dtype="string"),
        sha256=[f"h{h}" for h in draw(st.lists(st.integers(0, n), min_size=n, max_size=n))]))
    return table


def apart(table, column, parts=("train", "valid", "test")):
    used = table[table.split.isin(parts)].dropna(subset=[column])
    return used.groupby(column).split.nunique().le(1).all()


@settings(max_examples=60, deadline=None)
@given(corpora(), st.sampled_from(["clip", "artist"]), st.integers(0, 5))
def test_random_splits_keep_together_what_belongs_together(table, scheme, seed):
    groups = groups_of(table, ARTIST if scheme == "artist" else ("sha256",)).nunique()
    if groups < 3 or (scheme == "artist" and table.artist.isna().all()):
        with pytest.raises(CorpusError, match="expected (at least 3|clips of known) "):
            split_clips(table, scheme=scheme, seed=seed)
        return
    out = split_clips(table, scheme=scheme, seed=seed)
    assert set(out.split) == {"train", "valid", "test"} and list(out.track) == list(table.track)
    assert apart(out, "sha256") and (scheme == "clip" or apart(out, "artist"))
    shuffled = split_clips(table.sample(frac=1, random_state=1), scheme=scheme, seed=seed)
    assert dict(zip(shuffled.track, shuffled.split, strict=True)) == dict(zip(out.track, out.split, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 100), st.integers(0, 1000), st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.7, 0.3, 0.0)]))
def test_fractions_are_met_to_one_clip_and_no_part_is_empty(n, seed, fractions):
    table = pd.DataFrame(dict(track=[f"{g}.{i}" for g in "ab" for i in range(n)], genre=["a"] * n + ["b"] * n))
    out = split_clips(table, fractions=fractions, seed=seed)
    for part, f in zip(("train", "valid", "test"), fractions, strict=True):
        counts = out[out.split == part].groupby("genre").size().reindex(["a", "b"], fill_value=0)
        assert counts.eq(0).all() if f == 0 else counts.ge(1).all()
        assert n < 10 or (abs(counts - f * n) < 1).all()


def test_seeds_differ_and_repeat():
    table = pd.DataFrame(dict(track=[f"t{i}" for i in range(50)], genre="blues"))
    assert split_clips(table, seed=1).split.equals(split_clips(table, seed=1).split)
    assert not split_clips(table, seed=1).split.equals(split_clips(table, seed=2).split)


def whole():
    facts = gtzan_tracks().reset_index()
    return facts.assign(sha256=facts.md5)


def test_published_splits_part_no_artist_and_no_recording():
    table = whole()
    kereliuk = split_clips(table, scheme="fault-filtered")
    assert kereliuk.split.value_counts().to_dict() == dict(train=443, test=290, valid=197, excluded=70)
    assert apart(kereliuk, "artist") and apart(kereliuk, "sha256")
    for fold in (1, 2, 3):
        out = split_clips(table, scheme="artist-folds", fold=fold)
        assert all(apart(out, column) for column in ARTIST)
        assert (out.split[table.foleiss_fold.isna()] == "excluded").all()
        assert (out.split == "test").sum() == (table.foleiss_fold == str(fold)).sum()
        assert (out.split == "train").sum() > 400 and (out.split == "valid").sum() > 40


def test_artist_split_of_gtzan_is_near_its_fractions():
    for seed in range(3):
        out = split_clips(whole(), scheme="artist", seed=seed)
        shares = out.split.value_counts(normalize=True)
        assert apart(out, "artist") and abs(shares - pd.Series(dict(train=0.8, valid=0.1, test=0.1))).max() < 0.03
        assert (pd.crosstab(out.genre, out.split) > 0).all().all()


@pytest.mark.parametrize("options,message", [
    (dict(scheme="window"), "scheme"), (dict(fractions=(0.5, 0.1, 0.1)), "fractions"), (dict(fractions=(1.0, 0.0)), "three"),
    (dict(scheme="fault-filtered"), "clips of GTZAN"), (dict(scheme="artist-folds"), "clips of GTZAN")])
def test_refusals(options, message):
    table = pd.DataFrame(dict(track=["a", "b"], genre=["x", "x"]))
    with pytest.raises(CorpusError, match=message):
        split_clips(table, **options)
    with pytest.raises(CorpusError, match="unique"):
        split_clips(pd.concat([table, table]))
    with pytest.raises(CorpusError, match="fold: expected 1, 2 or 3"):
        split_clips(whole(), scheme="artist-folds", fold=4)


def test_the_ladder_sees_a_leak_and_no_leak():
    rng = np.random.default_rng(0)
    windows = pd.DataFrame([dict(track=f"{g}{a}{i}", genre=g, artist=f"{g}{a}") for g in "xyz" for a in range(6)
                            for i in range(4) for _ in range(4)])
    singer = {a: rng.standard_normal(20) for a in windows.artist.unique()}
    leaky = np.stack([singer[a] for a in windows.artist]) + 0.1 * rng.standard_normal((len(windows), 20))
    table = leakage_ladder(leaky, windows, seeds=2, c=10).set_index("together")
    assert list(table.index) == ["nothing", "windows of a clip", "clips of an artist"]
    assert table.accuracy["windows of a clip"] > 0.9 and table.accuracy["clips of an artist"] < 0.6
    assert table.step_high["clips of an artist"] < -0.2 and ((table.low <= table.accuracy) & (table.accuracy <= table.high)).all()
    blind = leakage_ladder(rng.standard_normal((len(windows), 20)), windows, seeds=2)
    assert (abs(blind.accuracy - 1 / 3) < 0.1).all()


def test_a_clip_met_again_keeps_its_split_by_content_and_else_by_path():
    known = pd.DataFrame(dict(path=["a", "b", "c", "d"], sha256=["1", "2", "3", "4"], genre=["blues", "jazz", None, "rock"],
                              split=["train", "valid", "test", "train"], artist=["x", None, "y", "z"]))
    again = pd.DataFrame(dict(path=["new/b", "a", "elsewhere", "d"], sha256=["2", "changed", "9", "3"],
                              genre=[None, "soul", None, None], artist=pd.array([None] * 4, "string"))).assign(split=pd.NA)
    before = again.copy()
    out = with_splits_of(again, known)
    assert out["split"].fillna("").tolist() == ["valid", "train", "", "test"]  # content; path; neither; content before path
    assert out["genre"].fillna("").tolist() == ["jazz", "soul", "", "rock"]  # what a clip says itself is kept
    assert out["artist"].fillna("").tolist() == ["", "x", "", "y"]
    assert again.equals(before), "the table given is not changed"
