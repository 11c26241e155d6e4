"The commands that make music: how long, how much at a time, what is exchanged, and what is refused in one line."

from itertools import islice

import numpy as np
import pytest
import soundfile as sf
import torch
from PIL import Image
from test_cli import refused
from test_prior_stage import PLAN, SPEC, made

from musevae.cli import main
from musevae.cli.making import LONGEST, stream_sound, within_scale
from musevae.runs import load_run, train
from musevae.vocoder import get_inverter

RATE = 22050
WITHOUT = PLAN | dict(prior="normal", prior_steps=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "Two runs, one with a prior that has learnt, and two files that are long enough for a window from 1 s on."
    place = tmp_path_factory.mktemp("making")
    for name, plan in (("learnt", PLAN), ("plain", WITHOUT)):
        train(made(), place / name, **plan | dict(preset="demo"))
    assert load_run(place / "learnt").vae.prior.trained
    for name, hertz in (("low", 110), ("high", 1760)):
        t = np.arange(4 * RATE) / RATE
        sf.write(place / f"{name}.wav", 0.3 * np.sin(2 * np.pi * hertz * t) * (np.sin(2 * np.pi * hertz / 40 * t) > 0), RATE)
    return place


@pytest.mark.parametrize("seconds", [0.4, 5, 7.3])
@pytest.mark.parametrize("grain", [False, True])
def test_a_sample_is_as_long_as_asked_for(runs, seconds, grain, tmp_path, capsys):
    words = ["sample", runs / "learnt", "--n", 2, "--seconds", seconds, "--out", tmp_path / "out", *["--grain"] * grain]
    assert main(words) == 0
    sounds = [sf.read(tmp_path / "out" / f"sample.00{i}.wav", dtype="float32")[0] for i in range(2)]
    assert [len(y) for y in sounds] == [round(seconds * RATE)] * 2
    first = SPEC.samples // 2  # of the first piece, whose loudest is at half of full scale
    assert all(0.05 < np.abs(y[:first]).max() < 0.51 and np.abs(y).max() < 1 for y in sounds) and not np.array_equal(*sounds)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"sample.00{i}.{kind}" for i in range(2) for kind in ("wav", "png")}
    before = (tmp_path / "out" / "sample.001.wav").read_bytes()
    assert main(words) == 0 and (tmp_path / "out" / "sample.001.wav").read_bytes() == before


def test_what_gets_loud_later_is_bent_and_not_cut():
    y = torch.linspace(-4, 4, 4001)
    bent = within_scale(y)
    assert torch.equal(bent[y.abs() <= 0.7], y[y.abs() <= 0.7]) and bent.abs().max() <= 1
    steps = bent.diff()
    assert (steps >= 0).all() and (bent[(y.abs() < 1.5)].abs() < 1).all() and steps.diff().abs().max() < 1e-4  # no fold, no corner


def test_an_hour_comes_in_pieces_of_a_window_or_so(runs):
    "Nothing waits for the end, and no piece grows: what is held of an hour is what is held of ten seconds."
    vae = load_run(runs / "learnt").vae
    generator = torch.Generator().manual_seed(0)
    pieces = stream_sound(vae, LONGEST, get_inverter(spec=SPEC), generator)
    lengths = [len(y) for y in islice(pieces, 8)]
    assert max(lengths) <= 2 * SPEC.samples and sum(lengths) > 3 * SPEC.samples


def test_grain_makes_a_sample_rougher(runs, tmp_path):
    rough = []
    for grain in ([], ["--grain"]):
        assert main(["sample", runs / "plain", "--n", 4, "--out", tmp_path / "out", *grain]) == 0
        y = np.stack([sf.read(tmp_path / "out" / f"sample.00{i}.wav")[0] for i in range(4)])
        x = SPEC.forward(torch.from_numpy(y).float())[0]
        rough.append(x.diff(dim=-1).abs().mean().item())
    assert rough[1] > 1.1 * rough[0]


def test_a_swap_writes_each_colour_with_each_rhythm(runs, tmp_path, capsys):
    assert main(["swap", runs / "plain", runs / "low.wav", runs / "high.wav", "--at", 1, "--out", tmp_path / "out"]) == 0
    names = [f"colour-{c}.rhythm-{r}" for c in "AB" for r in "AB"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "wav")}
    assert "4 sounds" in capsys.readouterr().out
    mean = {n: SPEC.forward(torch.from_numpy(sf.read(tmp_path / "out" / f"{n}.wav")[0]).float()[None])[0].mean(-1) for n in names}
    near = (mean["colour-A.rhythm-A"] - mean["colour-A.rhythm-B"]).abs().mean()
    far = (mean["colour-A.rhythm-A"] - mean["colour-B.rhythm-A"]).abs().mean()
    assert near < 0.5 * far


def test_the_ends_of_a_morph_are_sounds_of_the_swap(runs, tmp_path):
    words = [runs / "plain", runs / "low.wav", runs / "high.wav"]
    assert main(["swap", *words, "--out", tmp_path / "four"]) == 0
    assert main(["morph", *words, "--steps", 3, "--out", tmp_path / "way"]) == 0
    assert main(["morph", *words, "--steps", 3, "--whole", "--out", tmp_path / "whole"]) == 0
    for ends, step, colour, rhythm in (("way", 0, "A", "A"), ("way", 2, "B", "A"), ("whole", 0, "A", "A"), ("whole", 2, "B", "B")):
        one, other = (np.asarray(Image.open(tmp_path / name).convert("RGB"), float)
                      for name in (f"{ends}/step.{step:02d}.png", f"four/colour-{colour}.rhythm-{rhythm}.png"))
        assert np.abs(one - other).mean() < 0.5, (ends, step)


@pytest.mark.parametrize("words, line, code", [
    (["sample", "learnt", "--seconds", 0], "--seconds: expected more than 0 and at most 3600, an hour, got 0", 2),
    (["sample", "learnt", "--seconds", -1], "--seconds: expected more than 0 and at most 3600, an hour, got -1", 2),
    (["sample", "learnt", "--seconds", 3601], "--seconds: expected more than 0 and at most 3600, an hour, got 3601", 2),
    (["sample", "learnt", "--seconds", "nan"], "--seconds: expected a number, got 'nan'", 2),
    (["sample", "learnt", "--seconds", "inf"], "--seconds: expected a number, got 'inf'", 2),
    (["sample", "plain", "--seconds", 30], "--seconds: expected at most 2.21751, a window, of a prior that has not learnt how "
     "music goes on, got 30; training with --set prior=sequence --set prior_steps=300 makes one that has", 1),
    (["morph", "plain", "low.wav", "high.wav", "--steps", 1], "--steps: expected a whole number of at least 2, got 1", 2),
    (["morph", "plain", "low.wav", "high.wav", "--whole", "--grain"], "--grain: expected without --whole, got both", 2),
    (["swap", "plain", "low.wav", "high.wav", "--at", -1], "--at: expected at least 0, got -1", 2),
    (["swap", "plain", "low.wav", "high.wav", "--at", 3], "PLACE/low.wav: expected 2.21751 s of audio from 3 s on, got 1.00 s", 1),
    (["swap", "nowhere", "low.wav", "high.wav"], "PLACE/nowhere: expected the folder of a run", 1),
])
def test_what_is_refused(runs, words, line, code, tmp_path, capsys):
    words = [runs / w if (runs / str(w)).exists() or w == "nowhere" else w for w in words]
    said = refused(capsys, *words, "--out", tmp_path / "out", code=code)
    assert said.startswith("musevae: " + line.replace("PLACE", str(runs))) and not (tmp_path / "out").exists()


def test_a_window_as_short_as_a_prior_can_is_given_without_learning(runs, tmp_path):
    assert main(["sample", runs / "plain", "--n", 1, "--seconds", 1.5, "--out", tmp_path]) == 0
    assert sf.info(tmp_path / "sample.000.wav").frames == round(1.5 * RATE)
