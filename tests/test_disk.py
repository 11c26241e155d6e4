"""A disk that is full, a folder that nobody may write to: one line with the path, exit code 1, and no half of a file.

The full disk is a small one of its own in memory (tmpfs) where this process may mount one, else a limit of the operating
system on the size of a file; both answer a write with an error of their own, whatever library it comes from.
"""

import contextlib
import io
import json
import os
import pickle
import resource
import shutil
import stat
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from musevae import vocoder
from musevae.cli import main
from musevae.mel import MelSpec
from musevae.runs import load_run
from musevae.store import StoreError
from musevae.synth import render
from musevae.vae import ConvVAE, VAEConfig, export_onnx

RATE = 22050
GET = vocoder.get_inverter
UMASK = 0o027


def write_clip(path, *, seconds=5.2, seed=0):
    "Three tones in noise, as a 16-bit WAV."
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    y = sum(np.sin(2 * np.pi * f * t) for f in 110 * 2 ** rng.uniform(0, 4, 3)) / 8 + 0.01 * rng.standard_normal(len(t))
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, y, RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "Ten clips of two genres and a run on them, made under the umask 027: (music, run, home)."
    root = tmp_path_factory.mktemp("disk")
    for i in range(10):
        write_clip(root / "music" / ("blues", "jazz")[i % 2] / f"{i}.wav", seed=i)
    before = os.umask(UMASK)
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
            patch.setenv("MUSEVAE_HOME", str(root / "home"))
            assert main(["train", root / "music", "--out", root / "run", "--latent-dim", 4, "--epochs", 1]) == 0
            assert main(["evaluate", root / "run", root / "music", "--pairs", 1]) == 0
    finally:
        os.umask(before)
    return root / "music", root / "run", root / "home"


@pytest.fixture
def way(trained, tmp_path, monkeypatch):
    "(music, run), where caches are at hand, and an inverter that is quick and rough."
    monkeypatch.setenv("MUSEVAE_HOME", str(trained[2]))
    rough = {"nnls_iterations": 3, "iterations": 1}
    monkeypatch.setattr(vocoder, "get_inverter", lambda name="griffinlim", spec=None, **_: GET(name, spec, **rough))
    shutil.copytree(trained[1], tmp_path / "run")
    return trained[0], tmp_path / "run"


def mount(*words):
    return shutil.which("mount") and subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


@contextlib.contextmanager
def file_limit(size):
    "No file may grow beyond `size` bytes: the system refuses the write, as a full disk does."
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def small_disk(place, size):
    "A folder on a disk of `size` bytes, or with no file beyond that."
    place.mkdir()
    if mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place):
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    else:
        with file_limit(size):
            yield place


@contextlib.contextmanager
def read_only(place):
    "A folder that nobody may write to, root included where that can be had."
    if os.geteuid():
        modes = {path: path.stat().st_mode for path in [place, *place.rglob("*")]}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        try:
            yield place
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
    else:
        if not mount("--bind", place, place):
            pytest.skip("root without the right to mount: permissions bind nobody here")
        try:
            assert mount("-o", "remount,ro,bind", place)
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)


def fails(capsys, place, *argv):
    "What `musevae argv` prints on standard output when it fails in one line on `place`."
    capsys.readouterr()
    assert main(list(argv)) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("musevae: warning: ")]
    assert len(lines) == 1 and lines[0].startswith("musevae: "), err
    assert str(place) in lines[0] and "cannot be written" in lines[0], lines
    return out


def check_whole(place):
    "Nothing below `place` is half of a file."
    for path in place.rglob("*"):
        assert not path.name.endswith((".part", ".partial", ".tmp")), path
        if path.suffix == ".wav":
            assert len(sf.read(path)[0]) % (5 * RATE) == 0 or len(sf.read(path)[0]) == 6 * RATE, path
        if path.suffix == ".json" and path.is_file():
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".csv":
            assert path.read_text().endswith("\n"), path
        if path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), path


# Full ------------------------------------------------------------------------------------------------------------------
FULL = {  # words of a command that writes into OUT
    "train": ["train", "MUSIC", "--out", "OUT/run", "--latent-dim", "4", "--epochs", "1"],
    "synth": ["synth", "OUT", "--clips", "1", "--seconds", "6"],
    "mel": ["mel", "MUSIC", "--out", "OUT"],
    "evaluate": ["evaluate", "RUN", "MUSIC", "--pairs", "2", "--out", "OUT/evaluation"],
    "map": ["map", "RUN", "MUSIC", "--out", "OUT/map.html", "--places", "0"],
    "reconstruct": ["reconstruct", "RUN", "CLIP", "--out", "OUT"],
    "sample": ["sample", "RUN", "--n", "1000000000", "--out", "OUT"],
}


def words(command, way, out):
    music, run = way
    names = dict(MUSIC=str(music), RUN=str(run), CLIP=str(sorted(music.rglob("*.wav"))[0]))
    return [names.get(word, word.replace("OUT", str(out), 1)) for word in command]


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_line(name, way, tmp_path, capsys):
    with small_disk(tmp_path / "full", 96 * 1024) as place:
        out = fails(capsys, place, *words(FULL[name], way, place))
        check_whole(place)
        assert name != "evaluate" or "rmse_db" in out, "the figures are not lost"


def test_a_file_that_may_not_grow_is_one_line(way, tmp_path, capsys):
    "The way in which disks are filled where none can be mounted."
    with file_limit(96 * 1024):
        (tmp_path / "out").mkdir()
        fails(capsys, tmp_path / "out", *words(FULL["reconstruct"], way, tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("size", [700, 900, 1400])  # shards fit, or not the array as well, or all
def test_a_cache_that_does_not_fit_kills_nothing(size, way, tmp_path):
    "In a process of its own: memory mapped from a disk that fills would end it with a signal, not with an exception."
    with small_disk(tmp_path / "full", size * 1024) as place:
        line = [sys.executable, "-m", "musevae", *words(FULL["mel"], way, place)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120)
        if done.returncode == 0:  # there was room
            assert "10 windows" in done.stdout
        else:
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and str(place) in done.stderr, done
        check_whole(place)


def test_an_evaluation_that_does_not_fit_leaves_the_old_one(way, tmp_path, capsys):
    "All of it or nothing: the old figures are not found beside the new sounds."
    with small_disk(tmp_path / "full", 800 * 1024) as place:
        assert main(["evaluate", way[1], way[0], "--pairs", 1, "--out", place / "e"]) == 0
        old = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        if not os.path.ismount(place):
            resource.setrlimit(resource.RLIMIT_FSIZE, (96 * 1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        fails(capsys, place, "evaluate", way[1], way[0], "--pairs", 2, "--out", place / "e")
        assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == old


def test_standard_output_on_a_full_disk(trained):
    if not os.path.exists("/dev/full"):
        pytest.skip("a system without /dev/full")
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-m", "musevae", "info", str(trained[1])]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "musevae: standard output: cannot be written: No space left on device\n"


def test_a_fault_comes_home_from_a_worker_process():
    fault = StoreError("a/b.wav", OSError(28, "No space left on device"))
    again = pickle.loads(pickle.dumps(fault))
    assert (str(again), again.path, again.errno) == (str(fault), fault.path, 28)


# Read-only -------------------------------------------------------------------------------------------------------------
def test_a_read_only_run_is_judged_and_used(way, tmp_path, capsys):
    music, run = way
    with read_only(run):
        before = sorted(run.rglob("*"))
        assert main(["evaluate", run, music, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["windows"] == 2
        assert "rmse_db" in fails(capsys, run, "evaluate", run, music, "--pairs", 0)
        assert main(["evaluate", run, music, "--pairs", 0, "--out", tmp_path / "e"]) == 0
        assert (tmp_path / "e" / "evaluation.json").is_file()
        assert main(["sample", run, "--n", 1, "--out", tmp_path / "s"]) == 0
        assert main(["info", run]) == 0
        assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("name", FULL)
def test_a_read_only_place_is_one_line(name, way, tmp_path, capsys):
    (tmp_path / "place").mkdir()
    with read_only(tmp_path / "place") as place:
        fails(capsys, place, *words(FULL[name], way, place))
        assert not list(place.iterdir())


# Modes -----------------------------------------------------------------------------------------------------------------
def modes(*places):
    files = [p for place in places for p in place.rglob("*") if p.is_file()]
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files}


def test_every_file_of_a_run_has_the_mode_of_the_umask(trained):
    found = modes(trained[1], trained[2])
    assert {"model.safetensors", "checkpoint.safetensors", "evaluation.json", "corpus.csv", "x.npy"} <= set(found)
    assert {name: mode for name, mode in found.items() if mode != oct(0o666 & ~UMASK)} == {}


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_saved_models_have_the_mode_of_the_umask(tmp_path, umask):
    vae = ConvVAE(VAEConfig(latent_dim=2, filter_blocks=0), MelSpec(seconds=0.5, n_mels=24))
    before = os.umask(umask)
    try:
        vae.save_pretrained(tmp_path / "model")
        if find_spec("onnxscript"):  # the extra
            export_onnx(vae, tmp_path / "onnx")
    finally:
        os.umask(before)
    found = modes(tmp_path)
    assert set(found.values()) == {oct(0o666 & ~umask)} and {"model.safetensors", "config.json"} <= set(found)
    again = ConvVAE.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in vae.state_dict().items())


def test_what_was_written_can_be_read(trained):
    run = load_run(trained[1])
    assert len(run.corpus) == 10 and len(pd.read_csv(trained[1] / "evaluation.csv")) == 2


def test_a_render_leaves_no_draft_of_a_worker_that_was_ended(tmp_path):
    "When one worker fails the others are ended where they stand; this is what one of them leaves."
    (tmp_path / "blues").mkdir()
    (tmp_path / "blues" / ".blues.00009.wav.12345678.part").write_bytes(b"RIFF")
    render(tmp_path, clips=1, genres=["blues"], seconds=6, progress=False, workers=1)
    assert [p.name for p in (tmp_path / "blues").iterdir()] == ["blues.00000.wav"]
