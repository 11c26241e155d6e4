"Takes of the made corpus: the same score and mix with other noise, and nothing else moves."

import numpy as np
import pytest

from musevae import synth
from musevae.synth.desk import make_take, rms
from musevae.synth.players import VOICES, sing
from musevae.synth.score import stream
from musevae.synth.sound import SAMPLE_RATE, TONES, drum, tone, white

NOTES = np.array([[0.1, 0.5, 57, 90], [0.8, 0.6, 60, 100]])


def test_white_noise_moves_its_stream_whoever_draws():
    for again in (None, stream(1, "other")):
        rng, twin = stream(0, "noise"), stream(0, "noise")
        white(rng, 100, again)
        twin.normal(0, 1, 100)
        assert rng.random() == twin.random()


@pytest.mark.parametrize("kind", VOICES)
def test_a_voice_sung_again_leaves_every_later_draw_alone(kind):
    rng, twin = stream(0, kind), stream(0, kind)
    first = sing(kind, NOTES, SAMPLE_RATE, rng)
    second = sing(kind, NOTES, SAMPLE_RATE, twin, stream(1, kind))
    assert rng.random() == twin.random()
    assert rms(second - first) > 0.01 * rms(first)
    assert np.corrcoef(first, second)[0, 1] > (0.1 if kind == "growl" else 0.7)  # the same notes in the same voice


@pytest.mark.parametrize("name", sorted(TONES))
def test_only_what_has_breath_differs_and_by_noise_alone(name):
    takes = [tone(name, 57, False, 16, fresh).astype(float) for fresh in range(60)]
    assert np.array_equal(takes[0], tone(name, 57, False, 16))
    if not TONES[name].noise:
        assert all(np.array_equal(t, takes[0]) for t in takes[:3])
        return
    spread = np.std(takes, 0).mean()
    assert np.abs(np.mean(takes[1::2], 0) - np.mean(takes[2::2], 0)).mean() < 0.35 * spread > 0  # they share a mean


def test_drums_hit_again_keep_their_skin():
    first, second = (drum("acoustic", "K", 0, fresh).astype(float) for fresh in (0, 1))
    assert np.array_equal(first, drum("acoustic", "K", 0))
    assert 0 < rms(second - first) < 0.5 * rms(first)
    hats = [drum("acoustic", "H", 0, fresh).astype(float) for fresh in (0, 1)]
    assert abs(np.corrcoef(*hats)[0, 1]) < 0.3  # a hi-hat is nearly all noise


@pytest.mark.parametrize("name", sorted(synth.STYLES))
def test_a_second_take_has_score_and_mix_of_the_first_and_other_noise(name):
    first, same, second = (make_take(synth.STYLES[name], name, 1, seed=3, seconds=3, take=k) for k in (0, 0, 1))
    assert second.mix == first.mix and second.score.plan == first.score.plan
    assert all(np.array_equal(a.notes, b.notes) for a, b in zip(first.score.parts, second.score.parts, strict=True))
    a, b = first.samples(), second.samples()
    assert np.array_equal(a, same.samples()) and np.array_equal(b, second.samples())
    assert not np.array_equal(a, b) and 20 * np.log10(rms(b) / rms(a)) == pytest.approx(0, abs=0.5)
    third = make_take(synth.STYLES[name], name, 1, seed=3, seconds=3, take=2).samples()
    ratio = rms(third - b) / rms(b - a)  # any two takes are alike far apart: the first is no special one
    assert 0.6 < ratio < 1.7
