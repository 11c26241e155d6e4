"Music of any length: lengths, seams, what is kept, memory, what is refused; for every prior."
import math

import pytest
import torch
from test_prior_stage import SPEC, built, learnt, pictures

from musevae.vae import ConvVAE, VAEConfig
from musevae.vae.beat import Beat
from musevae.vae.prior import Prior
from musevae.vae.prior_sequence import SequencePrior
from musevae.vae.stream import stream


@pytest.fixture(scope="module")
def model():
    return learnt(built())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def whole(*args, **options):
    return torch.cat(list(stream(*args, **dict(generator=seeded()) | options)), -1)


@pytest.mark.parametrize("seconds", [0.01, 0.7, 1.0, 4.13])
@pytest.mark.parametrize("grain", [False, True])
def test_all_pieces_together_are_as_long_as_asked_for(model, seconds, grain):
    for vae in (model, built()):
        x = whole(vae, seconds * SPEC.seconds, 2, grain=grain)
        assert x.shape == (2, 1, SPEC.n_mels, max(1, round(seconds * SPEC.frames))) and x.min() >= 0
        assert torch.equal(x, whole(vae, seconds * SPEC.seconds, 2, grain=grain))
        assert not grain or x.max() <= 1


def test_a_window_is_what_the_decoder_makes_of_a_sample(model):
    beat = model.prior.draw_beat(3, generator := seeded())
    z = model.prior.sample(3, generator, beat=beat)
    with torch.no_grad():
        picture = model.picture(z).clamp_min(0)
    first = next(stream(model, 9.0, 3, generator=seeded()))
    assert torch.allclose(first, picture[..., : first.shape[-1]], atol=1e-5)


def test_windows_begin_with_the_end_of_the_one_before_and_go_on_in_time(model):
    z = model.prior.sample(2, seeded())
    codes = model.prior.walk(z, seeded(1), beat=Beat.at(120, 2))
    windows = [model.prior.split(next(codes)) for _ in range(4)]
    overlap = round(model.prior.overlap * 24)
    assert overlap % model.prior.slots.stride == 0 and 0 < overlap < 24
    for (g, before), (same_g, after) in zip(windows, windows[1:], strict=False):
        assert torch.allclose(after[:, :overlap], before[:, 24 - overlap :], atol=1e-5) and torch.allclose(g, same_g, atol=1e-6)
        assert not torch.allclose(after[:, overlap:], before[:, :24 - overlap], atol=0.1)


def test_a_moment_has_one_place_in_the_beat_in_whichever_window(model, monkeypatch):
    told, network = [], model.prior.network
    extend = type(network).extend

    def listening(self, slots, overall, beat, generator=None, upto=None):
        told.append(beat)
        return extend(self, slots, overall, beat, generator, upto)

    monkeypatch.setattr(type(network), "extend", listening)
    whole(model, 5 * SPEC.seconds, 2)
    hop = (1 - model.prior.overlap) * SPEC.seconds
    assert len(told) > 5
    for one, two in zip(told, told[1:], strict=False):
        gap = (two.phase - one.phase - hop / one.period) % 1
        assert torch.minimum(gap, 1 - gap).max() < 1e-4 and torch.equal(one.period, two.period)


@pytest.mark.parametrize("grain", [False, True])
def test_neighbouring_windows_meet(model, grain):
    jumps = whole(model, 12 * SPEC.seconds, 6, grain=grain).diff(dim=-1).abs().mean((0, 1, 2))
    piece = SPEC.frames - round(model.prior.overlap * SPEC.frames)
    assert 0.6 * jumps.mean() < jumps[piece - 1 :: piece].mean() < 1.5 * jumps.mean()


def test_grain_has_the_same_power_where_two_windows_overlap():
    vae = built()
    noise = whole(vae, 12 * SPEC.seconds, 20, grain=True) - whole(vae, 12 * SPEC.seconds, 20)
    assert noise.abs().max() > 0  # the same codes: see below
    piece = SPEC.frames // 2
    power = noise[..., piece : 11 * piece * 2].square().mean((0, 1, 2)).unfold(0, piece, piece)[:18].mean(0)
    middle, ends = power[piece // 3 : 2 * piece // 3].mean(), power[[0, 1, 2, -3, -2, -1]].mean()
    assert 0.5 < middle / ends < 2


def test_a_beginning_is_kept_and_the_rest_is_drawn(model):
    x = pictures(3, 7)
    with torch.no_grad():
        coded = model.picture(model.encode(x).mean)
    goes_on = whole(model, SPEC.seconds, start=x, keep_seconds=SPEC.seconds / 2)
    gap = (goes_on - coded).abs().mean((0, 1, 2))
    assert len(goes_on) == 3 and gap[:36].mean() < 0.45 * gap[60:].mean()
    other = whole(model, SPEC.seconds, start=x, keep_seconds=SPEC.seconds / 2, generator=seeded(1))
    assert (goes_on - other)[..., :36].abs().mean() < 0.45 * (goes_on - other)[..., 60:].abs().mean()


def test_g_stays_and_may_be_told(model):
    for vae in (model, built()):
        codes = torch.randn(2, 60, generator=seeded(3))
        for g in (codes, codes[:, :4]):
            seen = []
            picture = vae.picture
            vae.picture = lambda z, seen=seen, picture=picture: seen.append(z) or picture(z)
            whole(vae, 3 * SPEC.seconds, 2, g=g)
            del vae.picture
            assert len(seen) > 3 and all(torch.allclose(z[:, :4], codes[:, :4]) for z in seen)
            known = vae.prior.known
            assert all(torch.allclose(z[:, known], seen[0][:, known], atol=1e-5) for z in seen) or not vae.prior.trained


def test_every_prior_has_a_stream():
    "One that knows no time, of a model without a global code: windows that fade into one another."
    vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=0), SPEC).initialise(pictures()).eval()
    assert whole(vae, 2.5 * SPEC.seconds, 2).shape[-1] == round(2.5 * SPEC.frames)
    assert type(vae.prior).walk is Prior.walk is not SequencePrior.walk


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_no_length_is_no_music(model, seconds):
    with pytest.raises(ValueError, match="seconds: expected a length > 0"):
        stream(model, seconds)


def test_what_cannot_be_is_refused_at_once(model):
    x = pictures(1)
    for options, words in ((dict(start=x, keep_seconds=0), "keep_seconds: expected more than 0, at most a window's"),
                           (dict(start=x[..., :50]), r"x: expected shape \(batch, 1, 16, 96\)"),
                           (dict(g=torch.zeros(1, 7)), "g: expected 4 units of a global code or codes of 60, got 7"),
                           (dict(g=torch.zeros(3, 4)), "g: expected one a picture, 1, got 3")):
        with pytest.raises(ValueError, match=words):
            stream(model, 1.0, **options)
    for options in (dict(start=x), dict(beat=Beat.at(120))):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a model whose prior has learnt"):
            stream(built(), 1.0, **options)


def test_an_hour_is_drawn_piece_by_piece(model):
    pieces = stream(model, 3600.0, generator=seeded())
    assert all(next(pieces).shape[-1] <= SPEC.frames for _ in range(3))
