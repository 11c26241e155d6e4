"""An evaluation says what it judged, by how much, beside what, and stands where nobody takes it for another's."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

import musevae
from musevae import cli, reconstruction, report
from musevae.collapse import diagnosis
from musevae.generation import sample
from musevae.latent import encode_corpus
from musevae.mel import MelSpec
from musevae.report import evaluate, evaluation_folder, judge_run, save_evaluation
from musevae.runs import Run
from musevae.vae import ColouredGaussian, ConvVAE, SeparableTransform, VAEConfig
from musevae.widgets.media import wav_bytes
from musevae.windows import WindowSet

ROOT = Path(__file__).resolve().parents[1]
SPEC = MelSpec(seconds=0.5, n_mels=24)
# DESIGN, public surface: what `evaluate --json` prints at least
KEYS = """windows clips latent_dim rmse_db l1_db rmse_db_sampled pca_rmse_db separable_rmse_db elbo_nats distortion_nats
rate_nats bits_per_second active_units coloured_nats pca_components data""".split()


def sound(genre, number, gain=1.0):
    "Five windows and a bit: a tone and noise, by genre; another pitch for each clip."
    rng = np.random.default_rng([len(genre), number])
    t = np.arange(int(2.6 * 22050)) / 22050
    tone = np.sin(2 * np.pi * 220 * 2 ** (number / 12) * t) * (np.sin(2 * np.pi * (2 + number % 3) * t) > 0)
    return (gain * (0.3 * tone + (0.1 if genre == "noisy" else 0.003) * rng.standard_normal(len(t)))).astype(np.float32)


def windows_of(folder, clips, gain=1.0):
    "A WindowSet of clips `(genre, number, split)`, whose sounds stand in `folder`."
    x, ref, rows = [], [], []
    for genre, i, split in clips:
        path = folder / genre / f"{genre}.{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, sound(genre, i, gain), 22050, subtype="FLOAT")
        pictures, levels = SPEC.forward(SPEC.windows(torch.from_numpy(sound(genre, i, gain))))
        x.append(pictures[:, 0].half().numpy())
        ref.append(levels.numpy())
        rows += [dict(track=path.stem, window=w, genre=genre, split=split, artist=None, path=str(path), start_s=w / 2)
                 for w in range(len(levels))]
    return WindowSet(np.concatenate(x), np.concatenate(ref), pd.DataFrame(rows), SPEC)


CLIPS = [(g, i, "test" if i == 7 else "valid" if i == 6 else "train") for g in ("noisy", "pure") for i in range(8)]


@pytest.fixture
def run(tmp_path):
    "A run on sixteen clips of five windows; `run.asked` counts how often its windows were asked for."
    own = windows_of(tmp_path / "music", CLIPS)
    vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=1, filter_width=4), SPEC)
    vae.initialise(own.select("train").tensor()).eval()
    run = SimpleNamespace(path=tmp_path / "run", vae=vae, spec=SPEC, asked=0)

    def windows():
        run.asked += 1
        return own

    run.windows = windows
    return run


def other_music(tmp_path, name="other"):
    return windows_of(tmp_path / name, [("noisy", 40, None), ("pure", 41, None)])


# What is printed is true ----------------------------------------------------------------------------------------------
def test_every_key_of_the_design(run):
    result = evaluate(run)
    assert set(KEYS) <= set(result) and json.loads(json.dumps(result)) == result
    assert set(result["data"]) == {"path", "key", "windows", "clips", "split", "own", "mel_fingerprint", "run"}


def test_components_are_counted_not_asked_for(run):
    "Of n windows, n − 1 principal components exist at most; of n windows in pairs of equals, n / 2 − 1."
    own = run.windows()
    few = own.select(np.arange(20))
    baselines = reconstruction.linear_baselines(few, own, 512)
    assert (baselines["training_windows"], baselines["pca_components"], baselines["separable_components"]) == (20, 19, 512)
    twice = own.select(np.repeat(np.arange(20), 2))
    assert reconstruction.linear_baselines(twice, own, 512)["pca_components"] == 19
    assert reconstruction.linear_baselines(twice, own, 7)["pca_components"] == 7


def test_the_gaussian_without_a_latent(run):
    "`coloured_nats` is the mean log-density of the held-out windows under a Gaussian fitted to the training windows."
    x, train = run.windows().select("test").tensor(), run.windows().select("train").tensor()
    model = ColouredGaussian.fit(train)
    basis = SeparableTransform.fit(train, train[0].numel())
    error = basis.coefficients(x).double()
    variance = model.transform.variance.double()
    by_hand = torch.distributions.Normal(0, variance.sqrt()).log_prob(error).sum(1)
    result = evaluate(run, batch_size=3)
    assert result["coloured_nats"] == pytest.approx(by_hand.mean().item(), rel=1e-4)
    names = list(result)
    assert names.index("coloured_nats") == names.index("rate_nats") + 1, "it stands beside the nats of the model"
    assert "coloured_nats" not in evaluate(run, baselines=False)


@pytest.fixture
def said(run, monkeypatch, capsys):
    "`said(windows, *options)`: what `musevae evaluate` prints about a run and windows that are at hand."
    from musevae import runs

    def say(windows, *options):
        monkeypatch.setattr(cli, "run_folder", lambda path: path)
        monkeypatch.setattr(runs, "load_run", lambda path: run)
        monkeypatch.setattr(cli, "windows_for", lambda *_: windows)
        capsys.readouterr()
        assert cli.main(["evaluate", "RUN", "MUSIC", *map(str, options)]) == 0
        return capsys.readouterr().out

    return say


def test_the_report_names_what_stands_beside_a_number(run, said):
    out = said(run.windows(), "--pairs", 0)
    assert re.search(r"pca_rmse_db +[\d.]+  dB, PCA with 6 components \(of 60 training windows\)", out)
    assert re.search(r"separable_rmse_db +[\d.]+  dB, separable transform with 6 coefficients", out)
    assert re.search(r"coloured_nats +-?[\d,.]+  nats per window, one Gaussian of the music's colour, without a latent", out)
    assert "same dimension" not in out and "training_windows" not in out and "pca_components" not in out


def test_music_that_is_not_recognised_is_not_said_to_be_new(run, said, tmp_path):
    "Training clips at another loudness are other pictures, and the report does not promise more than it knows."
    louder = windows_of(tmp_path / "louder", [c for c in CLIPS if c[2] == "train"], gain=0.7)
    louder = WindowSet(louder.x + np.float16(0.001), louder.ref_db, louder.table, SPEC)
    out = said(louder, "--pairs", 0)
    assert "other music: not recognised as the run's own (compared by exact content)" in out and "never met" not in out


# What was judged ------------------------------------------------------------------------------------------------------
def test_data_names_the_music_by_content(run, tmp_path):
    own = run.windows()
    data = evaluate(run, baselines=False)["data"]
    assert data["own"] and (data["split"], data["windows"], data["clips"]) == ("test", 10, 2)
    assert data["mel_fingerprint"] == SPEC.fingerprint and data["run"] == str(run.path)
    assert data["path"] == str(tmp_path / "music")
    renamed = own.select(np.arange(len(own))[::-1])
    renamed.table["track"] = "copy of " + renamed.table["track"]
    again = evaluate(run, renamed, baselines=False, source="COPY")["data"]
    assert (again["key"], again["own"], again["path"]) == (data["key"], True, "COPY")
    part = evaluate(run, own.select(np.flatnonzero(own.table["genre"] == "pure")), baselines=False)["data"]
    assert part["split"] == "test" and part["key"] != data["key"] and not part["own"]
    assert not evaluate(run, other_music(tmp_path), baselines=False)["data"]["own"]


def test_other_music_never_takes_the_place_of_the_runs_own(run, tmp_path):
    own = save_evaluation(run, evaluate(run), pairs=1)
    assert {p.parent for p in own} == {run.path, run.path / "figures", run.path / "audio"}
    before = {p: p.read_bytes() for p in own}
    seen = set()
    for name in ("a/music", "b/music"):  # one name, two kinds of music
        music = other_music(tmp_path, name) if name[0] == "a" else windows_of(tmp_path / name, [("pure", 50, None)])
        result = evaluate(run, music, source=tmp_path / name)
        written = save_evaluation(run, result, windows=music, pairs=1)
        seen.add(written[-1].parent)
        assert written[-1].parent.parent == run.path / "evaluations" and written[-1].parent.name.startswith("music-")
        assert json.loads(written[-1].read_text())["data"]["path"] == str(tmp_path / name)
    assert len(seen) == 2 and {p: p.read_bytes() for p in own} == before


def test_evaluation_folder_of_a_relative_path(run, monkeypatch, tmp_path):
    (tmp_path / "songs").mkdir()
    monkeypatch.chdir(tmp_path / "songs")
    folder = evaluation_folder(run, dict(path=".", key="0123456789abcdef", own=False))
    assert folder == run.path / "evaluations" / "songs-01234567"


def test_what_an_earlier_evaluation_left_goes(run, tmp_path):
    out = tmp_path / "e"
    first = save_evaluation(run, evaluate(run), out=out, pairs=4)
    (out / "audio" / "mine.wav").write_bytes(b"not ours")
    second = save_evaluation(run, evaluate(run), out=out, pairs=1)
    assert len([p for p in first if p.suffix == ".wav"]) == 12 and len([p for p in second if p.suffix == ".wav"]) == 3
    assert {p for p in out.rglob("*") if p.is_file()} == {*second, out / "audio" / "mine.wav"}
    third = save_evaluation(run, evaluate(run), out=out, pairs=0)
    assert {p.name for p in third} == {"code.png", "residuals.png", "latent.png", "evaluation.csv", "evaluation.json"}
    assert {p for p in out.rglob("*") if p.is_file()} == {*third, out / "audio" / "mine.wav"}


def test_sounds_of_a_folder_that_is_no_evaluation_stay(run, tmp_path):
    (tmp_path / "e" / "audio").mkdir(parents=True)
    (tmp_path / "e" / "audio" / "song-original.wav").write_bytes(b"mine")
    save_evaluation(run, evaluate(run), out=tmp_path / "e", pairs=0)
    assert (tmp_path / "e" / "audio" / "song-original.wav").read_bytes() == b"mine"


# What it costs --------------------------------------------------------------------------------------------------------
def test_every_window_goes_through_the_model_once(run, monkeypatch):
    "Ten held-out windows, sixty to fit the probe and the plane, one to show; the run's windows are asked for once."
    seen = []
    encode = ConvVAE.encode
    monkeypatch.setattr(ConvVAE, "encode", lambda self, x: seen.append(len(x)) or encode(self, x))
    judged = judge_run(run)
    result = evaluate(run, judged)
    save_evaluation(run, result, windows=judged, pairs=1)
    assert run.asked == 1 and sum(seen) <= 10 + 60 + 1


def test_json_draws_and_writes_nothing(run, said, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("written, though only figures were asked for")

    monkeypatch.setattr(report, "save_evaluation", refuse)
    assert json.loads(said(run.windows(), "--json"))["data"]["path"] == "MUSIC"
    assert not run.path.exists()


def test_json_with_a_folder_writes_what_it_prints(run, said, tmp_path):
    result = json.loads(said(run.windows(), "--json", "--out", tmp_path / "e", "--pairs", 0))
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text()) == result


def test_residuals_of_many_windows_are_a_part_spread_evenly(run, monkeypatch):
    monkeypatch.setattr(report.figures, "RESIDUALS", 4)
    few, all_of = judge_run(run, batch_size=3), run.windows().select("test")
    assert len(few.found.residuals) == 4  # of ten, every third: 0, 3, 6, 9
    monkeypatch.setattr(report.figures, "RESIDUALS", 512)
    every = judge_run(run, batch_size=64)
    assert len(every.found.residuals) == len(all_of) and torch.allclose(few.found.residuals, every.found.residuals[::3], atol=1e-3)


# Samples and sounds ---------------------------------------------------------------------------------------------------
def test_the_first_samples_are_the_same_however_many_follow(run):
    many = sample(run.vae, 40, seed=3)
    for n in (1, 3, 16, 17):
        assert torch.allclose(sample(run.vae, n, seed=3), many[:n], atol=1e-5)  # batches round otherwise
    generator = torch.Generator().manual_seed(3)
    parts = [sample(run.vae, n, generator) for n in (16, 16, 8)]
    assert torch.allclose(torch.cat(parts), many, atol=1e-5)


def test_a_sound_too_loud_is_made_quieter_not_cut(tmp_path):
    y = np.sin(np.linspace(0, 50, 1000)).astype(np.float32)
    for gain, loudest in ((0.5, 0.5), (3.0, 0.99)):
        (tmp_path / "y.wav").write_bytes(wav_bytes(gain * y, 8000))
        back, rate = sf.read(tmp_path / "y.wav")
        assert rate == 8000 and np.abs(back).max() == pytest.approx(loudest, abs=2e-3)
        assert np.corrcoef(back, y)[0, 1] > 0.99999


# Words, numbers, terminals --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("words, line", [
    (["train", "x", "--out", "y", "--epochs", "1.5"], "--epochs: expected a whole number, got '1.5'"),
    (["train", "x", "--out", "y", "--epochs=many"], "--epochs: expected a whole number, got 'many'"),
    (["synth", "x", "--seconds", "two"], "--seconds: expected a number, got 'two'"),
    (["synth", "x", "--seconds", "nan"], "--seconds: expected a number, got 'nan'"),
    (["evaluate", "x", "y", "--pairs", "-1"], "--pairs: expected a whole number of at least 0, got -1"),
])  # fmt: skip
def test_a_number_that_is_none_is_one_line(words, line, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"musevae: {line}\n"


def test_help_says_what_must_be_given_and_no_empty_defaults(capsys):
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert "None)" not in out and "(default: )" not in out and "(default: False)" not in out
        if "--out" in out and "required" in out.split("--out")[1].split("--")[0]:
            assert re.search(rf"musevae {name} .*--out [A-Z]+", out)
    assert cli.main(["train", "--help"]) == 0
    assert "musevae train DATA --out RUN" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["-V"], ["version"], ["--version"]])
def test_version(words, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"musevae {musevae.__version__}\n"


def test_a_terminal_of_ascii_gets_the_whole_report(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(10), 8000)
    line = [sys.executable, "-c", "from musevae.cli import main; main(['gtzan']); print('×')"]
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = subprocess.run(line, capture_output=True, env={"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0 and b"5b3d6dddb579ab49814ab86dba69e7c7" in done.stdout, done.stderr
    done = subprocess.run([*line[:2], "from musevae.cli import main; main(['scan', '--help']); import sys\n"
                           "from musevae.cli.screen import Output; Output(sys.stdout).write('128 × 216')"],
                          capture_output=True, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)})
    assert done.stdout.endswith(rb"128 \xd7 216"), done.stderr


def test_ctrl_c_while_the_command_is_still_loading():
    code = "import sys\n" \
           "class Stop:\n    def find_spec(self, name, *_):\n        if name == 'tyro': raise KeyboardInterrupt\n" \
           "sys.meta_path.insert(0, Stop())\nfrom musevae.__main__ import main\nraise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (130, "musevae: stopped; nothing was begun\n")


# Objects --------------------------------------------------------------------------------------------------------------
def test_objects_are_short_to_print_and_may_be_compared(run):
    windows = run.windows()
    latents = encode_corpus(run.vae, windows)
    whole = Run(Path("runs/a"), {"preset": "demo"}, run.vae, windows.table.drop_duplicates("track"), pd.DataFrame(dict(epoch=[0])))
    for thing, words in ((windows, "80 windows of 24 × 22 from 16 clips"), (latents, "80 windows of 16 clips, 6 units"),
                         (whole, "runs/a: preset demo, 6 units, 16 clips")):
        assert words in repr(thing) and len(repr(thing)) < 150 and "\n" not in repr(thing)
        assert thing == thing and thing != windows.select([0]) and len({thing, thing}) == 1


def test_the_readme_keeps_its_promises_about_ranges(run):
    "x̂ leaves [0, 1] a little, and what README calls `seen` does not."
    code = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    last = [line for line in code.splitlines() if line.startswith(("x_hat =", "seen ="))]
    assert len(last) == 2 and "in [0, 1]" in last[1].partition("#")[2] and "beyond [0, 1]" in last[0].partition("#")[2]
    names = dict(run=run, windows=run.windows())
    exec("\n".join(last), names)
    x_hat, seen = names["x_hat"], names["seen"]
    assert x_hat.shape == (80, 1, *SPEC.shape) and 0 <= seen.min() and seen.max() <= 1
    assert ((x_hat < 0) | (x_hat > 1)).any() and (x_hat - seen).abs().max() < 0.2


def test_the_package_says_what_it_is():
    tree = ast.parse((ROOT / "musevae" / "__init__.py").read_text(encoding="utf-8"))
    assert "musical spectrograms" in ast.get_docstring(tree)


def test_an_evaluation_has_a_word_on_the_code_and_no_second_pass_for_it(run, monkeypatch):
    judged = judge_run(run)
    expected = diagnosis(judged.found).verdict
    monkeypatch.setattr("musevae.collapse.judge", None)  # whoever judges again fails
    assert evaluate(run, judged, baselines=False)["verdict"] == expected
    assert expected.split(":")[0] in ("alive", "partly collapsed", "collapsed")
