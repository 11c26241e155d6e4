"""The cache of a corpus: killed, resumed, changed, damaged, on disks that fail; windows cut anywhere."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

import musevae.windows as built
from musevae import mel
from musevae.corpus.audio import read_audio
from musevae.corpus.verdict import examine
from musevae.mel import MelError, MelSpec
from musevae.store import StoreError
from musevae.windows import WindowSet, corpus_key, mel_clips, mel_windows

SPEC = MelSpec()
SHORT = MelSpec(seconds=0.5)


def signal(kind, seed, gain, samples=SPEC.samples):
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return gain * rng.normal(size=samples) / 4
    t = np.arange(samples) / SPEC.sample_rate
    return gain * np.sin(2 * np.pi * rng.uniform(20, 11000) * t + rng.uniform(0, 6))


def sha256_of(path):
    "As a scan counts: of the decoded samples."
    return examine(dict(path=str(path), track=path.stem, genre="jazz"))["sha256"]


@pytest.fixture
def corpus(tmp_path):
    rows = []
    for i in range(5):
        path = tmp_path / f"clip.{i:05d}.wav"
        y = signal("noise" if i % 2 else "tone", i, 0.3, samples=int(SHORT.samples * (2.5 + i)))
        sf.write(path, y, SHORT.sample_rate, subtype="PCM_16")
        rows.append(dict(track=path.stem, genre="jazz", path=str(path), sha256=sha256_of(path), split="train"))
    return pd.DataFrame(rows)


def build(corpus, folder, spec=SHORT, make=mel_windows, **options):
    return make(corpus, spec, cache=folder, progress=False, workers=2, **options)


class Counted:
    "A reader that remembers what it has read."

    def __init__(self):
        self.paths = []

    def __call__(self, path, **options):
        self.paths.append(path)
        return read_audio(path, **options)


def test_windows_of_a_corpus(corpus, tmp_path):
    windows = build(corpus, tmp_path / "cache")
    assert len(windows) == 2 + 3 + 4 + 5 + 6 and windows.x.dtype == np.float16 and isinstance(windows.x, np.memmap)
    assert not windows.table.duplicated(["track", "window"]).any()
    for i in (0, 7, 19):
        row = windows.table.iloc[i]
        y, _ = sf.read(row.path, dtype="float32")
        x, ref_db = SHORT.forward(SHORT.windows(y)[row.window])
        assert np.abs(windows.x[i] - x[0, 0].numpy()).max() < 3e-4
        assert windows.ref_db[i] == pytest.approx(ref_db.item(), abs=1e-4)
        assert row.start_s == row.window * 0.5
    assert windows.tensor().shape == (20, 1, 128, 22) and windows.tensor().dtype == torch.float32


def test_selection(corpus, tmp_path):
    corpus.loc[3:, "split"] = "test"
    windows = build(corpus, tmp_path / "cache")
    test = windows.select("test")
    assert set(test.table.track) == {"clip.00003", "clip.00004"} and len(test) == 11
    assert np.array_equal(test.x, windows.x[9:]) and isinstance(test, WindowSet)
    assert len(windows.select(windows.table.window == 0)) == 5 and len(windows.select([3, 1])) == 2
    with pytest.raises(ValueError, match="'train'.*got 'valid'"):
        windows.select("valid")


def test_the_cache_is_read_not_made_again(corpus, tmp_path):
    for make in (mel_windows, mel_clips):
        first = build(corpus, tmp_path / "cache", make=make, read=(counted := Counted()))
        assert sorted(counted.paths) == sorted(corpus.path)
        second = build(corpus, tmp_path / "cache", make=make, read=lambda *a, **k: pytest.fail("decoded again"))
        assert first.key == second.key and len(first) == len(second)
    assert build(corpus.assign(split="test"), tmp_path / "cache").table.split.eq("test").all()


def test_any_change_makes_a_new_cache(corpus, tmp_path):
    before = corpus.copy()
    build(before, tmp_path / "cache")
    first = Path(corpus.path[0])
    sf.write(first, signal("tone", 99, 0.3, samples=3 * SHORT.samples), SHORT.sample_rate, subtype="PCM_16")
    changed = corpus.assign(sha256=[sha256_of(first), *corpus.sha256[1:]])
    keys = {corpus_key(c, s) for c in (corpus, changed, corpus[::-1], corpus[:4]) for s in (SHORT, SPEC)}
    assert len(keys | {corpus_key(corpus, SHORT, "clips")}) == 9
    build(changed, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert len(build(before, tmp_path / "cache")) == 20  # the clips are gone, their pictures are not


def test_keys_are_what_they_were():
    corpus = pd.DataFrame(dict(track=["a", "b"], path=["a.wav", "b.wav"], sha256=["0" * 64, "1" * 64]))
    assert corpus_key(corpus, SPEC) == "ba83fa849cfdaab2" and corpus_key(corpus, SPEC, "clips") == "3734e656e07a9d27"


def heard(call):
    "What `call` returns, and the warnings that name clips left out."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught if "left out" in str(w.message)]


def test_a_changed_file_costs_itself(corpus, tmp_path):
    sf.write(corpus.path[0], signal("tone", 99, 0.3, samples=3 * SHORT.samples), SHORT.sample_rate, subtype="PCM_16")
    for _ in range(2):
        windows, said = heard(lambda: build(corpus, tmp_path / "cache"))
        assert len(said) == 1 and "clip.00000.wav: left out: expected samples with sha256" in said[0]
        assert "it has changed, scan it again" in said[0]
        assert len(windows) == 18 and windows.key == corpus_key(corpus[1:], SHORT)
        assert set(windows.table.track) == set(corpus.track[1:])
    changed = corpus.assign(sha256=[sha256_of(Path(corpus.path[0])), *corpus.sha256[1:]])
    assert heard(lambda: build(changed, tmp_path / "cache"))[1] == []


def test_a_disk_that_was_away_and_is_back(corpus, tmp_path):
    whole = build(corpus, tmp_path / "whole")
    gone, here = tmp_path / "gone", Path(corpus.path[0]).parent
    for i in (1, 3):
        os.makedirs(gone, exist_ok=True)
        os.rename(corpus.path[i], gone / f"{i}.wav")
    for make, kind in ((mel_windows, "windows"), (mel_clips, "clips")):
        for _ in range(2):  # made, then read
            found, said = heard(lambda make=make: build(corpus, tmp_path / "cache", make=make))
            assert [line.split(": left out: ")[0] for line in said] == [corpus.path[1], corpus.path[3]]
            assert all("No such file" in line and line.count(str(here)) == 1 for line in said)
            assert set(found.table.track) == set(corpus.track[[0, 2, 4]])
            assert found.key == corpus_key(corpus.iloc[[0, 2, 4]], SHORT, kind)
    os.rename(gone / "1.wav", corpus.path[1])
    found, said = heard(lambda: build(corpus, tmp_path / "cache"))
    assert len(said) == 1 and said[0].startswith(corpus.path[3]) and len(found) == 20 - 5
    os.rename(gone / "3.wav", corpus.path[3])
    found, said = heard(lambda: build(corpus, tmp_path / "cache"))
    assert said == [] and found.key == whole.key and np.array_equal(found.x, whole.x) and len(found) == 20
    assert len(heard(lambda: build(corpus, tmp_path / "cache", make=mel_clips))[0]) == 5
    assert not [p for p in (tmp_path / "cache").iterdir() if p.suffix == ".partial"]


def test_nothing_can_be_read_and_then_all(corpus, tmp_path):
    os.rename(tmp_path / "clip.00000.wav", tmp_path / "away.wav")
    with warnings.catch_warnings(record=True) as caught, pytest.raises(MelError, match="can be read, got none among 1"):
        warnings.simplefilter("always")
        build(corpus[:1], tmp_path / "cache")
    assert len(caught) == 1 and "No such file" in str(caught[0].message)
    os.rename(tmp_path / "away.wav", tmp_path / "clip.00000.wav")
    assert heard(lambda: build(corpus[:1], tmp_path / "cache"))[1] == []


def test_the_lost_are_tried_again_and_the_others_are_not(corpus, tmp_path):
    os.rename(corpus.path[2], tmp_path / "away.wav")
    heard(lambda: build(corpus, tmp_path / "cache"))
    counted = Counted()
    assert len(heard(lambda: build(corpus, tmp_path / "cache", read=counted))[0]) == 16 and counted.paths == [corpus.path[2]]


def test_a_disk_that_fails_in_the_middle_is_no_short_file(corpus, tmp_path):
    class Failing(io.FileIO):
        def readinto(self, buffer):
            if self.name == corpus.path[3] and self.tell() > 4096:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    found, said = heard(lambda: build(corpus, tmp_path / "cache", read=partial(read_audio, opener=Failing)))
    assert len(said) == 1 and said[0] == f"{corpus.path[3]}: left out: cannot be read: Input/output error"
    assert len(found) == 15 and len(build(corpus, tmp_path / "cache")) == 20


def test_a_cache_speaks_of_the_table_in_hand(corpus, tmp_path):
    sf.write(tmp_path / "short.wav", np.zeros(100), SHORT.sample_rate)
    short = dict(track="short", genre="jazz", path=str(tmp_path / "short.wav"), sha256=sha256_of(tmp_path / "short.wav"))
    mixed = pd.concat([corpus, pd.DataFrame([short])], ignore_index=True)
    (tmp_path / "moved").mkdir()
    moved = mixed.assign(path=[str(shutil.copy(p, tmp_path / "moved")) for p in mixed.path])
    assert "moved" not in heard(lambda: build(mixed, tmp_path / "cache"))[1][0]
    said = heard(lambda: build(moved, tmp_path / "cache"))[1]
    assert len(said) == 1 and said[0].startswith(f"{tmp_path}/moved/short.wav: left out: clip: expected at least")
    assert said[0].count(str(tmp_path)) == 1 and len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_remembers_a_fault_of_the_disk_is_made_again(corpus, tmp_path):
    windows = build(corpus, tmp_path / "cache")
    meta = tmp_path / "cache" / f"mel-{windows.key}" / "meta.json"
    record = json.loads(meta.read_text())
    del record["cache"]
    meta.write_text(json.dumps(record))
    before = meta.stat().st_mtime_ns
    assert len(build(corpus, tmp_path / "cache")) == 20 and meta.stat().st_mtime_ns == before  # nothing false in it: kept
    meta.write_text(json.dumps(record | dict(faults={"2": "elsewhere/clip.wav: cannot be opened: No such file"})))
    assert heard(lambda: build(corpus, tmp_path / "cache"))[1] == [] and json.loads(meta.read_text())["faults"] == {}


def test_a_full_disk_names_the_cache(corpus, tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(errno.ENOSPC, "No space left on device")

    for write, named in (("savez", r"mel-[0-9a-f]{16}\.partial/shard-00000\.npz"), ("save", "mel-[0-9a-f]{16}")):
        with monkeypatch.context() as patch:
            patch.setattr(np, write, full)
            with pytest.raises(StoreError, match=f"cache/{named}: cannot be written: No space left on device"):
                build(corpus, tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir())  # nothing is left that only looks like a cache


@pytest.mark.parametrize("damage", ["flip", "cut", "fingerprint", "key"])
def test_a_damaged_or_foreign_cache_is_refused(corpus, tmp_path, damage):
    windows = build(corpus, tmp_path / "cache")
    folder = next((tmp_path / "cache").iterdir())
    meta = folder / "meta.json"
    if damage == "flip":
        with open(folder / "x.npy", "r+b") as file:
            file.seek(-5, os.SEEK_END)
            file.write(b"\x17")
    elif damage == "cut":
        np.save(folder / "ref_db.npy", windows.ref_db[:-1])
    elif damage == "fingerprint":
        meta.write_text(meta.read_text().replace(SHORT.fingerprint, "0" * 16))
    else:
        meta.write_text(meta.read_text().replace(windows.key, "0" * 16))
    with pytest.raises(MelError, match="expected .* got "):
        build(corpus, tmp_path / "cache")


def test_bad_clips_are_named_and_left_out(corpus, tmp_path):
    (tmp_path / "text.wav").write_text("not audio")
    sf.write(tmp_path / "short.wav", np.zeros(100), SHORT.sample_rate)
    more = [dict(track=n, genre="jazz", path=str(tmp_path / f"{n}.wav"), sha256=n) for n in ("text", "short")]
    more[1]["sha256"] = sha256_of(tmp_path / "short.wav")
    mixed = pd.concat([pd.DataFrame(more), corpus], ignore_index=True)
    for _ in range(2):  # made, then read
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            windows = build(mixed, tmp_path / "cache")
        said = [str(w.message) for w in caught if "left out" in str(w.message)]
        assert len(said) == 2 and "text.wav" in said[0] and "expected at least 11025 samples" in said[1]
        assert all(line.count("text.wav") + line.count("short.wav") == 1 for line in said)
        assert len(windows) == 20 and windows.table.track.iloc[0] == "clip.00000"
    with pytest.raises(ValueError, match="at least 0.5 s, got none among 2"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build(mixed[:2], tmp_path / "cache")
    with pytest.raises(ValueError, match="at least one clip"):
        build(corpus[:0], tmp_path / "cache")
    with pytest.raises(ValueError, match="none named sha256"):
        build(corpus.drop(columns="sha256"), tmp_path / "cache")


def test_a_killed_run_leaves_no_cache_and_is_resumed(tmp_path):
    spec = MelSpec(seconds=0.1)
    rows = []
    for i in range(70):
        path = tmp_path / f"clip.{i:05d}.wav"
        sf.write(path, signal("noise", i, 0.3, samples=spec.samples), spec.sample_rate)
        rows.append(dict(track=path.stem, genre="rock", path=str(path), sha256=sha256_of(path)))
    corpus, cache = pd.DataFrame(rows), tmp_path / "cache"
    corpus.to_csv(tmp_path / "corpus.csv", index=False)
    script = f"""
        import os, pandas as pd
        from musevae.corpus import read_audio
        from musevae.mel import MelSpec
        from musevae.windows import mel_windows
        def read(path, **options):
            if "00066" in path:
                os.kill(os.getpid(), 9)
            return read_audio(path, **options)
        corpus = pd.read_csv({str(tmp_path / "corpus.csv")!r}, dtype=str)
        mel_windows(corpus, MelSpec(seconds=0.1), cache={str(cache)!r}, workers=1, read=read)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=120)
    assert done.returncode == -9
    assert [p.suffix for p in cache.iterdir()] == [".partial"]
    shards = len(list(cache.glob("*/shard-*.npz")))
    assert shards >= 1
    counted = Counted()
    resumed = build(corpus, cache, spec, read=counted)
    assert len(counted.paths) == 70 - 32 * shards and len(resumed) == 70
    assert np.array_equal(resumed.x, build(corpus, tmp_path / "other", spec).x)
    assert [p.suffix for p in cache.iterdir()] == [""]


def test_random_crops(corpus, tmp_path):
    clips = build(corpus, tmp_path / "cache", make=mel_clips)
    assert len(clips) == 5 and clips.start[-1] == len(clips.level)
    x, ref_db = clips.crops([4, 4, 0], seed=1)
    again, _ = clips.crops([4, 4, 0], seed=1)
    assert x.shape == (3, 1, *SHORT.shape) and torch.equal(x, again) and not torch.equal(x[0], x[1])
    assert x.min() >= 0 and x.max() <= 1 and ref_db.shape == (3,)
    y, _ = sf.read(corpus.path[4], dtype="float32")
    found = False
    for first in range(0, len(y) - SHORT.samples, SHORT.hop):  # one of the places is the crop's, but for its edges
        wanted, wanted_db = SHORT.forward(y[first : first + SHORT.samples])
        here = (x[0, 0, :, 2:-2] * 80 + ref_db[0]) - (wanted[0, 0, :, 2:-2] * 80 + wanted_db)
        found |= here.abs().max().item() < 0.1
    assert found

def test_old_addresses_work_and_tell_the_new_ones():
    for name in ("WindowSet", "ClipSet", "corpus_key", "mel_windows", "mel_clips"):
        with pytest.warns(DeprecationWarning, match=f"from musevae.windows import {name}"):
            assert getattr(mel, name) is getattr(built, name)


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_batches_are_the_pictures_in_order(size):
    x = np.random.default_rng(0).random((7, 4, 5)).astype(np.float16)
    windows = WindowSet(x, np.zeros(7, np.float32), pd.DataFrame(dict(track=list("aabbccd"))), MelSpec())
    parts = list(windows.batches(size))
    assert [len(p) for p in parts] == [min(size, 7 - i) for i in range(0, 7, size)]
    assert torch.equal(torch.cat(parts), windows.tensor()) and parts[0].dtype == torch.float32
