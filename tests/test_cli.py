"The `musevae` command: what it prints, what it refuses, and the whole way on a corpus of tones."

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from musevae import cli, report
from musevae.cli import arguments, main, summary
from musevae.vocoder import get_inverter

RATE = 22050


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    "Caches of these tests stay in their own folder."
    monkeypatch.setenv("MUSEVAE_HOME", str(tmp_path / "home"))


def write_clip(path, *, seconds=5.2, seed=0):
    "A chord of decaying tones in noise, as a 16-bit WAV."
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 110 * 2 ** rng.uniform(0, 3, 3)
    y = sum(np.sin(2 * np.pi * f * t) * np.exp(-2 * (t % 0.5)) for f in pitch) / 6 + 0.01 * rng.standard_normal(len(t))
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, y, RATE, subtype="PCM_16")
    return path


@pytest.fixture
def music(tmp_path):
    "Two genres of two clips."
    for i, genre in enumerate(["blues", "blues", "jazz", "jazz"]):
        write_clip(tmp_path / "music" / genre / f"{genre}.{i:05d}.wav", seed=i)
    return tmp_path / "music"


def refused(capsys, *argv, code=1):
    "The one line that `musevae argv` prints on standard error, after the exit code has been checked."
    capsys.readouterr()
    assert main(list(argv)) == code
    out, err = capsys.readouterr()
    last = err.strip().split("\n")[-1]
    assert last.startswith("musevae: "), err
    assert "Traceback" not in err
    return last


# Help ----------------------------------------------------------------------------------------------------------------
def test_every_command_of_the_public_surface_exists():
    assert set(cli.COMMANDS) == {
        "synth", "scan", "gtzan", "mel", "train", "sweep", "evaluate", "map", "reconstruct", "encode", "decode", "sample",
        "morph", "swap", "voice", "info",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", *cli.COMMANDS])
def test_help(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: musevae" in out
    if not name:
        assert all(command in out for command in cli.COMMANDS)


def test_help_imports_nothing_heavy():
    "`--help` of everything, and a refused path, in a fresh interpreter without torch, pandas or matplotlib."
    code = """
import sys
from musevae.cli import COMMANDS, main
assert main(["--help"]) == 0
assert all(main([name, "--help"]) == 0 for name in COMMANDS)
assert main(["evaluate", "nowhere", "nothing"]) == 1
heavy = {"torch", "pandas", "matplotlib", "librosa", "sklearn", "anywidget"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_module_and_version():
    done = subprocess.run([sys.executable, "-m", "musevae", "--version"], capture_output=True, text=True, timeout=60)
    from musevae import __version__

    assert (done.returncode, done.stdout) == (0, f"musevae {__version__}\n")


@pytest.mark.parametrize("argv", [[], ["trian", "x"], ["scan"], ["train", "x"], ["scan", "x", "--colour", "red"],
                                  ["train", "x", "--out", "y", "--epochs", "many"], ["train", "x", "--out", "y",
                                  "--preset", "huge"]])  # fmt: skip
def test_bad_usage_is_exit_code_2(argv, capsys):
    assert main(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


# Bad input -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", [["scan"], ["mel"], ["train", "--out", "run"]])
class TestBadData:
    def test_missing_folder(self, command, tmp_path, capsys):
        line = refused(capsys, command[0], tmp_path / "nowhere", *command[1:])
        assert "nowhere" in line and "expected" in line and "no such folder" in line

    def test_file_in_place_of_a_folder(self, command, tmp_path, capsys):
        (tmp_path / "song.doc").write_text("woke up this morning")
        line = refused(capsys, command[0], tmp_path / "song.doc", *command[1:])
        assert "song.doc" in line and "expected a folder" in line and "got a file" in line

    def test_empty_folder(self, command, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        line = refused(capsys, command[0], tmp_path / "empty", *command[1:])
        assert "empty" in line and "expected audio files, got" in line

    def test_folder_without_audio(self, command, tmp_path, capsys):
        (tmp_path / "texts" / "blues").mkdir(parents=True)
        (tmp_path / "texts" / "blues" / "lyrics.txt").write_text("woke up this morning")
        line = refused(capsys, command[0], tmp_path / "texts", *command[1:])
        assert "texts" in line and "expected audio files" in line and "1 files" in line

    def test_text_named_wav(self, command, tmp_path, capsys):
        (tmp_path / "music" / "blues").mkdir(parents=True)
        (tmp_path / "music" / "blues" / "a.wav").write_text("These are words.")
        capsys.readouterr()
        assert main([command[0], tmp_path / "music", *command[1:]]) == 1
        out, err = capsys.readouterr()
        assert "a.wav" in out + err and "unreadable" in out + err and "Traceback" not in err

    def test_clip_shorter_than_a_window(self, command, tmp_path, capsys):
        write_clip(tmp_path / "music" / "blues" / "a.wav", seconds=1)
        capsys.readouterr()
        assert main([command[0], tmp_path / "music", *command[1:]]) == 1
        out, err = capsys.readouterr()
        assert "a.wav" in out + err and "1.00 s, expected at least 5 s" in out + err


def test_one_bad_file_is_named_and_the_rest_goes_on(music, capsys):
    (music / "jazz" / "jazz.00054.wav").write_text("These are words.")
    assert main(["mel", music]) == 0
    out, err = capsys.readouterr()
    assert "4 windows of 128 × 216 from 4 clips" in out
    assert len(err.strip().split("\n")) == 1 and "jazz.00054.wav" in err and "left out" in err


def test_scan_is_a_check(music, tmp_path, capsys):
    assert main(["scan", music, "--csv", tmp_path / "tables" / "scan.csv"]) == 0
    (music / "jazz" / "jazz.00054.wav").write_text("These are words.")
    assert main(["scan", music, "--csv", tmp_path / "tables" / "scan.csv"]) == 1
    assert "5 audio files found = 4 clips + 1 left out" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "tables" / "scan.csv", keep_default_na=False)
    assert len(table) == 5 and (table.fault != "").sum() == 1


def test_who_has_no_gtzan_is_told_what_to_obtain_and_how_it_is_verified(capsys):
    assert main(["gtzan"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("genres.tar.gz", "5b3d6dddb579ab49814ab86dba69e7c7", "jazz.00054", "mirdata",
                                          "musevae scan FOLDER", "musevae synth FOLDER"))  # fmt: skip


@pytest.mark.parametrize("command", [["evaluate", "RUN", "DATA"], ["map", "RUN", "DATA", "--out", "map.html"],
                                     ["reconstruct", "RUN", "a.wav", "--out", "OUT"], ["info", "RUN"],
                                     ["sample", "RUN", "--out", "OUT"]])  # fmt: skip
def test_run_that_is_none(command, tmp_path, capsys):
    def words(run):
        return [run if word == "RUN" else word for word in command]

    line = refused(capsys, *words(tmp_path / "missing"))
    assert "missing: expected the folder of a run" in line and "got nothing there" in line
    (tmp_path / "file").write_text("")
    line = refused(capsys, *words(tmp_path / "file"))
    assert "expected the folder of a run" in line and "got a file" in line
    (tmp_path / "folder").mkdir()
    line = refused(capsys, *words(tmp_path / "folder"))
    assert "expected the folder of a run" in line and "without config.json" in line


@pytest.mark.parametrize("option, value", [("--latent-dim", 0), ("--latent-dim", -3), ("--epochs", 0)])
def test_numbers_out_of_range(option, value, music, capsys):
    line = refused(capsys, "train", music, "--out", "run", option, value, code=2)
    assert line == f"musevae: {option}: expected a whole number of at least 1, got {value}"


def test_counts_out_of_range(capsys):
    assert "--clips" in refused(capsys, "synth", "x", "--clips", 0, code=2)
    assert "--n" in refused(capsys, "sample", "x", "--out", "y", "--n", 0, code=2)


# Ends ----------------------------------------------------------------------------------------------------------------
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(music, monkeypatch, capsys):
    from musevae import corpus

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "load_corpus", stop)
    line = refused(capsys, "train", music, "--out", "my run", code=130)
    assert line.endswith(f"musevae train {music} --out 'my run' --resume")
    assert refused(capsys, "mel", music, code=130).endswith(f"musevae mel {music}")


def test_a_defect_keeps_its_traceback(music, monkeypatch):
    from musevae import corpus

    def fail(*_, **__):
        raise KeyError("a defect of ours")

    monkeypatch.setattr(corpus, "load_corpus", fail)
    with pytest.raises(KeyError):
        main(["mel", music])


def test_traceback_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEVAE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no such folder"):
        main(["mel", tmp_path / "nowhere"])


@pytest.mark.skipif(os.name != "posix", reason="a pipe that breaks")
def test_a_reader_that_has_seen_enough(music):
    line = f"{sys.executable} -m musevae scan {music} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr


# The whole way -------------------------------------------------------------------------------------------------------
GET = get_inverter
SMALL = ["--latent-dim", 12, "--set", "global_dim=4"]  # preset demo: four units of the global code, eight of the local one


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "Twenty clips of tones in two genres, and a run on them: (music, run, what `train` printed, home)."
    root = tmp_path_factory.mktemp("way")
    for i in range(20):
        genre = ("blues", "jazz")[i % 2]
        write_clip(root / "music" / genre / f"{genre}.{i:05d}.wav", seed=i)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setenv("MUSEVAE_HOME", str(root / "home"))
        code = main(["train", root / "music", "--out", root / "run", *SMALL, "--epochs", 1])
    assert code == 0
    return root / "music", root / "run", out.getvalue(), root / "home"


@pytest.fixture
def way(trained, monkeypatch):
    "(music, run) of `trained`, with its caches, and an inverter that is quick and rough."
    from musevae import vocoder

    monkeypatch.setenv("MUSEVAE_HOME", str(trained[3]))
    rough = {"nnls_iterations": 3, "iterations": 1}
    monkeypatch.setattr(vocoder, "get_inverter", lambda name="griffinlim", spec=None, **_: GET(name, spec, **rough))
    return trained[:2]


def test_presets_are_those_of_the_library():
    from musevae.presets import PRESETS

    assert set(get_args(arguments.Preset)) == set(PRESETS)


def test_splits_are_those_of_the_library():
    from musevae.corpus import CorpusError, split_clips

    *names, last = get_args(arguments.Split)
    clips = pd.DataFrame(dict(track=["a"], genre=["blues"], sha256=["0"]))
    with pytest.raises(CorpusError) as refused:
        split_clips(clips, scheme="by ear")
    assert str(refused.value).endswith(f"expected {', '.join(names)} or {last}, got 'by ear'")


def test_train_says_what_it_does_and_what_comes_next(trained):
    music, run, out, _ = trained
    assert "20 clips of 2 genres, 20 windows of 128 × 216" in out
    assert "by clip: 16 train (16 windows), 2 valid (2 windows), 2 test (2 windows)" in out
    assert f"musevae evaluate {run} {music}" in out and "kept     epoch" in out
    assert {"config.json", "corpus.csv", "metrics.csv", "metrics.json", "model"} <= {p.name for p in run.iterdir()}


def test_train_refuses_to_overwrite_and_resumes(way, capsys):
    music, run = way
    words = ["train", music, "--out", run, *SMALL, "--epochs", 1]
    line = refused(capsys, *words)
    assert str(run) in line and "expected no run there" in line and "resume" in line
    assert main([*words, "--resume"]) == 0 and not (run / "tensorboard").exists()
    assert main([*words, "--resume", "--tensorboard"]) == 0 and list((run / "tensorboard").glob("events.*"))
    assert "cannot resume" in refused(capsys, "train", music, "--out", run, *SMALL[:-1], "global_dim=5", "--resume")


def test_too_few_clips_to_split(tmp_path, capsys):
    write_clip(tmp_path / "music" / "blues" / "a.wav")
    line = refused(capsys, "train", tmp_path / "music", "--out", tmp_path / "run")
    assert "expected at least 3 clips, one each for train, valid, test, got 1 clip; add clips" in line
    assert not (tmp_path / "run").exists()


def test_evaluate_judges_held_out_clips(way, capsys):
    music, run = way
    assert main(["evaluate", run, music, "--pairs", 1]) == 0
    out = capsys.readouterr().out
    assert "judged on 2 windows of 2 clips: the test clips of the run's own corpus" in out
    assert "left out: 18 windows" in out and "rmse_db" in out
    assert (run / "evaluation.json").is_file() and list((run / "figures").glob("*.png"))


def test_evaluate_json_is_one_object(way, monkeypatch, capsys):
    music, run = way
    monkeypatch.setattr(report, "save_evaluation", lambda *_, **__: [])
    assert main(["evaluate", run, music, "--json", "--pairs", 1]) == 0
    result = json.loads(capsys.readouterr().out)
    named = """windows clips latent_dim rmse_db l1_db rmse_db_sampled pca_rmse_db separable_rmse_db elbo_nats
               distortion_nats rate_nats bits_per_second active_units""".split()
    assert all(np.isfinite(result[name]) for name in named)
    assert result["latent_dim"] == 12 and result["windows"] == 2
    assert result["rate_global_nats"] + result["rate_local_nats"] == pytest.approx(result["rate_nats"])
    numbers = {name for name, value in result.items() if isinstance(value, int | float)}
    learnt = {"rate_normal_nats"}  # of a prior that has learnt
    assert set(summary.UNITS) - learnt <= numbers, "no unit of a figure that is not there"
    assert result["elbo_nats"] == pytest.approx(-(result["distortion_nats"] + result["rate_nats"]))
    assert result["bits_per_second"] == pytest.approx(result["rate_nats"] / np.log(2) / 5)


def test_evaluate_takes_all_of_other_music(way, tmp_path, capsys):
    for i in range(3):
        write_clip(tmp_path / "other" / "jazz" / f"{i}.wav", seed=100 + i)
    assert main(["evaluate", way[1], tmp_path / "other", "--pairs", 0]) == 0
    out = capsys.readouterr().out
    assert "judged on 3 windows of 3 clips: other music" in out and "left out" not in out
    assert f"written  5 files in {way[1] / 'evaluations' / 'other-'}" in out


def test_map_is_one_file(way, tmp_path, capsys):
    music, run = way
    assert main(["map", run, music, "--out", tmp_path / "maps" / "map.html", "--clips", 4, "--places", 4]) == 0
    assert "4 clips" in capsys.readouterr().out
    page = (tmp_path / "maps" / "map.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and 'src="http' not in page
    assert "expected a file to write, got a folder" in refused(capsys, "map", run, music, "--out", tmp_path)


def test_a_map_without_a_decoder_in_its_page_says_so(way, tmp_path, capsys, monkeypatch):
    from musevae import live

    def unknown(vae):
        raise ValueError("decoder: expected one that a page knows")

    monkeypatch.setattr(live, "export_decoder", unknown)
    music, run = way
    assert main(["map", run, music, "--out", tmp_path / "map.html", "--clips", 4, "--places", 4]) == 0
    said = capsys.readouterr()
    assert "and the decoder" not in said.out and "stored places only" in said.err and "expected one that a page knows" in said.err


def test_reconstruct_goes_on_after_a_bad_file(way, tmp_path, capsys):
    music, run = way
    good = sorted(music.rglob("*.wav"))[0]
    twin = write_clip(tmp_path / "elsewhere" / good.name, seed=0)
    short = write_clip(tmp_path / "short.wav", seconds=1)
    bad = tmp_path / "words.wav"
    bad.write_text("These are words.")
    out = tmp_path / "out"
    assert main(["reconstruct", run, bad, good, short, tmp_path / "missing.wav", twin, "--out", out]) == 0
    said = capsys.readouterr()
    assert "3 of 5 files" in said.out
    assert [name in said.err for name in ("words.wav", "short.wav", "missing.wav")] == [True, False, True]
    table = pd.read_csv(out / "reconstructions.csv")
    assert table.file.tolist() == [str(good), str(short), str(twin)] and (table.rmse_db > 0).all()
    assert table.seconds.tolist() == [round(sf.info(p).duration, 2) for p in (good, short, twin)]
    for stem in (good.stem, f"{good.stem}.2"):
        assert (out / f"{stem}.png").stat().st_size > 1000
        sounds = [sf.read(out / f"{stem}.{kind}.wav")[0] for kind in ("original", "reconstruction")]
        assert [len(y) for y in sounds] == [sf.info(good).frames] * 2 and all(np.abs(y).max() > 0.01 for y in sounds)
    line = refused(capsys, "reconstruct", run, bad, "--out", out)
    assert "expected audio, got none among 1 files" in line


def test_codes_of_songs_go_to_a_file_and_back(way, tmp_path, capsys):
    music, run = way
    (tmp_path / "words.wav").write_text("These are words.")
    folder, codes = sorted(music.rglob("*.wav"))[0].parent, tmp_path / "a" / "codes.npz"
    songs = len(list(folder.glob("*.wav")))
    assert main(["encode", run, folder, tmp_path / "words.wav", "--seconds", 3, "--out", codes]) == 0
    said = capsys.readouterr()
    assert f"{songs} of {songs + 1} files" in said.out and "words.wav" in said.err
    assert main(["decode", run, codes, "--out", tmp_path / "b", "--format", "flac"]) == 0
    assert {sf.info(p).frames for p in (tmp_path / "b").iterdir()} == {3 * RATE} and len(list((tmp_path / "b").iterdir())) == songs
    assert "ends in .npz" in refused(capsys, "encode", run, folder, "--out", tmp_path / "codes", code=2)
    assert "above 0" in refused(capsys, "encode", run, folder, "--seconds", 0, "--out", codes, code=2)
    assert "expected a file of codes" in refused(capsys, "decode", run, tmp_path / "words.wav", "--out", tmp_path / "b")


def test_sample_depends_on_the_seed_alone(way, tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert main(["sample", way[1], "--n", 2, "--seed", seed, "--out", tmp_path / name]) == 0
    assert "2 samples" in capsys.readouterr().out
    a, b, c = [(tmp_path / name / "sample.001.wav").read_bytes() for name in "abc"]
    assert a == b != c


def test_info(way, capsys):
    assert main(["info", way[1]]) == 0
    out = capsys.readouterr().out
    assert "preset   demo, seed 0" in out and "latent   12 units" in out and "16 train, 2 valid, 2 test" in out
    assert main(["info", way[1], "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["vae"]["latent_dim"] == 12 and about["epochs"] == 1 and about["numbers"] > 1000
    assert len(about["mel_fingerprint"]) == 16


def test_a_foreign_fingerprint_is_refused(way, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(way[1], run)
    config = json.loads((run / "model" / "config.json").read_text())
    words = json.dumps(config)
    fingerprint = json.loads((run / "config.json").read_text())["mel_fingerprint"]
    assert fingerprint in words, "the model carries its fingerprint"
    (run / "model" / "config.json").write_text(words.replace(fingerprint, "0123456789abcdef"))
    line = refused(capsys, "sample", run, "--out", tmp_path / "out")
    assert fingerprint in line and "0123456789abcdef" in line
