"Chroma of pictures: what is folded where, and what entropy and persistence say of notes that are known."

import math

import numpy as np
import pytest
import torch

from musevae.harmony import chroma, chroma_entropy, chroma_persistence, pitch_classes
from musevae.mel import MelSpec

SPEC = MelSpec()


def tones(*semitones):
    "Pictures of sines so many semitones above A4, `(n, n_mels, frames)`."
    t = torch.arange(SPEC.samples) / SPEC.sample_rate
    hz = 440 * 2 ** (torch.tensor(semitones)[:, None] / 12)
    return SPEC.forward(0.3 * torch.sin(2 * math.pi * hz * t))[0].numpy()[:, 0]


def test_a_band_is_shared_out_and_bands_outside_are_not():
    shares = pitch_classes(SPEC)
    assert shares.shape == (12, SPEC.n_mels) and (shares >= 0).all() and (shares.sum(0) <= 1 + 1e-6).all()
    inside = (SPEC.mel_frequencies > 480) & (SPEC.mel_frequencies < 3200)
    assert np.allclose(shares.sum(0)[inside], 1) and not shares[:, SPEC.mel_frequencies > 4000].any()


def test_a_note_has_its_name_in_every_octave_and_whatever_its_level():
    names = (9 + np.arange(0, 36, 5)) % 12
    x = tones(*range(0, 36, 5))
    assert (chroma(x, SPEC).mean(-1).argmax(1) == names).all()
    assert (chroma((x - 0.2).clip(0), SPEC).mean(-1).argmax(1) == names).all()
    assert np.allclose(chroma(x[:, None], SPEC), chroma(x, SPEC))


def test_silence_has_all_notes_alike_and_likes_nothing():
    c = chroma(np.zeros((2, SPEC.n_mels, SPEC.frames)), SPEC)
    assert np.allclose(chroma_entropy(c), math.log(12)) and not chroma_persistence(c, 3).any()


def test_persistence_counts_the_slots_that_stay():
    notes = np.repeat(np.eye(12)[[0, 4, 0, 4]].T[None], 4, axis=-1)  # four slots of C, four of E, and again
    found = [chroma_persistence(notes, k)[0] for k in (1, 4, 8)]
    assert found[2] == pytest.approx(1) and found[1] == pytest.approx(-1 / 11) and found[0] == pytest.approx((12 - 3 / 11) / 15)


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match="low, octaves: expected pitches"):
        pitch_classes(SPEC, low=4000.0)
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 128, frames ≥ 8\)"):
        chroma(np.zeros((2, 64, 40)), SPEC)
    with pytest.raises(ValueError, match="apart: expected 1 … 4 slots"):
        chroma_persistence(np.ones((1, 12, 5)), 5)
