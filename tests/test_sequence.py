"The prior over codes in the order of time: turning loses nothing, densities are causal and start at N(0, I), beats are found."

import math

import pytest
import torch
from torch.distributions import Normal

from musevae.vae import prior_sequence as sequence
from musevae.vae.prior_sequence import (
    CELLS,
    FRAMES_A_SLOT,
    OCTAVE,
    PERIODS,
    STRIDES,
    Beat,
    SequencePrior,
    Slots,
    find_beat,
    local_places,
    local_transform,
    stream,
    train_sequence,
)

SHAPE, SECONDS = (16, 96), 96 * 512 / 22050  # 24 slots


def pictures(n=40, seed=0):
    "Something with a slow and a fast part, in [0, 1]."
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(n, 1, *SHAPE, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(rough, (8, 8, 2, 2), mode="reflect"), (5, 17), 1)
    return 0.7 * smooth + 0.3 * rough


@pytest.fixture(scope="module")
def transform():
    return local_transform(pictures(), 120)


def beats(*cells):
    return Beat.of(torch.tensor(cells))


def disturbed(prior, seed=0):
    "A prior that is anything but N(0, I), in eval mode."
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return prior.eval()


# --- codes in the order of time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [20, 120, 333])
def test_places_have_no_gaps_and_are_as_many_as_asked_for(d):
    power = torch.rand(SHAPE, generator=torch.Generator().manual_seed(d)) / (1 + torch.arange(SHAPE[1]))
    index = local_places(power, d)
    assert len(set(index.tolist())) == d
    assert (power.flatten()[index].diff() <= 0).all()  # largest first, as in every transform of the book
    Slots(index, SHAPE)  # refuses gaps


def test_a_component_keeps_more_where_more_variance_is():
    power = torch.full(SHAPE, 1e-6)
    power[3, 1:13] = 1.0
    index = local_places(power, 12)
    assert sorted(index.tolist()) == [3 * SHAPE[1] + n for n in range(1, 13)]


def test_turning_loses_nothing(transform):
    slots, z = Slots(transform.index, SHAPE), torch.randn(6, 120, generator=torch.Generator().manual_seed(1))
    g, s = slots.split(z)
    assert s.shape[1] == SHAPE[1] // FRAMES_A_SLOT
    assert torch.allclose(slots.join(g, s), z, atol=1e-5)
    assert torch.allclose(g.square().sum(1) + s.square().sum((1, 2)), z.square().sum(1), rtol=1e-5)
    assert not s[:, ~slots.mask].any()


def test_gaps_are_refused():
    power = torch.rand(SHAPE, generator=torch.Generator().manual_seed(500)) / (1 + torch.arange(SHAPE[1]))
    index = local_places(power, 100)
    gone = index[index % SHAPE[1] != 2]
    with pytest.raises(ValueError, match="index: expected the cosines 1 to n"):
        Slots(gone, SHAPE)
    with pytest.raises(ValueError, match="index: expected some component with cosines 1 to n, got 1 means alone"):
        Slots(torch.tensor([0]), SHAPE)
    for d in (0, 500, 10_000):  # 500: no step of a component is as small as what is left
        with pytest.raises(ValueError, match="latent_dim: expected"):
            local_places(power, d)


def test_empty_places_hold_the_latest_number(transform):
    slots = Slots(transform.index, SHAPE)
    _, s = slots.split(torch.randn(1, 120, generator=torch.Generator().manual_seed(1)))
    held = slots.held(s)[0]
    for column in range(s.shape[2]):
        latest = torch.tensor(0.0)
        for t in range(s.shape[1]):
            latest = s[0, t, column] if slots.mask[t, column] else latest
            assert held[t, column] == latest


# --- beats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [16, 20, 27])
@pytest.mark.parametrize("first", [3, 9])
def test_clicks_have_their_beat(period, first):
    clicks = torch.full((1, 1, 8, 216), 0.2)
    clicks[..., first::period] = 0.9
    found = find_beat(clicks)
    frame = 5 / 216
    assert abs(found.period.item() / (period * frame) - 1) < 0.012
    at = torch.arange(first, 216, period).float()
    passed = (at + 0.5 - 108) / period + found.phase
    middle = passed[len(passed) // 2]
    assert abs(middle - middle.round()) < 1 / 8
    assert found.strength.item() == 3


def test_the_network_counts_from_the_beat_that_was_found(transform):
    clicks = torch.full((1, 1, 8, SHAPE[1]), 0.2)
    clicks[..., 9::20] = 0.9  # a click every five slots, in the middle of a slot or near it
    prior = SequencePrior(transform, seconds=SECONDS, width=48)
    passed = prior._beats(find_beat(clicks, SECONDS), 24)[0]
    at = torch.arange(2, 24, 5)
    assert (passed[at] - passed[at].round()).abs().max() < 0.12 and torch.allclose(passed[at].diff(), torch.ones(4), atol=0.02)


def test_every_cell_is_a_beat_within_an_octave():
    beat = Beat.of(torch.arange(CELLS))
    assert beat.period.min() > OCTAVE[0] and beat.period.max() < OCTAVE[1]
    assert len(beat.period.unique()) == PERIODS and ((beat.phase >= 0) & (beat.phase < 1)).all()
    assert len({tuple(row) for row in torch.stack(beat[1:], 1).tolist()}) == CELLS


def test_silence_has_some_beat():
    assert 0 <= find_beat(torch.zeros(2, 1, 8, 216)).cell.min() < CELLS


def test_beats_are_a_distribution_that_follows_what_was_met(transform):
    prior = SequencePrior(transform, seconds=SECONDS)
    assert torch.allclose(prior.log_beat.exp().sum(), torch.tensor(1.0), atol=1e-4)
    prior.count_beats(beats(*[100] * 500))
    assert torch.allclose(prior.log_beat.exp().sum(), torch.tensor(1.0), atol=1e-4)
    assert prior.log_beat.argmax() % 4 == 100 % 4 and prior.log_beat[100] > -math.log(50)


# --- the density --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, dict(beat="input"), dict(beat="nothing"), dict(network="gru", beat="input")])
def test_it_starts_at_the_normal_distribution_and_is_causal(transform, options):
    torch.manual_seed(0)
    prior = SequencePrior(transform, seconds=SECONDS, width=48, **options).eval()
    z, beat = torch.randn(4, 120), beats(0, 999, 2000, 4000)
    price = 0 if prior.beat == "nothing" else math.log(CELLS)
    normal = Normal(0.0, 1.0).log_prob(z).sum(1)
    assert torch.allclose(prior.log_prob(z, beat) + price, normal, atol=1e-3)

    g, s = disturbed(prior).slots.split(z)
    changed = s.clone()
    changed[:, 10] += 1.0 * prior.slots.mask[10]
    with torch.no_grad():
        before, after = prior.log_prob_by_slot(s, g, beat), prior.log_prob_by_slot(changed, g, beat)
    assert torch.allclose(before[:, :10], after[:, :10], atol=1e-4)
    assert (before[:, 10:] - after[:, 10:]).abs().amax(0).min() > 1e-6
    assert not torch.allclose(prior.log_prob(z, beat), normal - price, atol=1.0)


def test_what_is_told_of_the_beat_matters_only_where_it_is_told(transform):
    torch.manual_seed(0)
    z = torch.randn(3, 120)
    for telling, moves in (("attention", True), ("input", True), ("nothing", False)):
        prior = disturbed(SequencePrior(transform, seconds=SECONDS, width=48, beat=telling))
        one, other = (prior.log_prob(z, Beat.of(torch.full((3,), cell))) for cell in (5, 3001))
        assert torch.allclose(one, other, atol=1e-4) != moves


def test_a_prefix_is_kept_and_predicts_as_the_whole_does(transform):
    torch.manual_seed(0)
    prior = disturbed(SequencePrior(transform, seconds=SECONDS, width=48))
    g, s = prior.slots.split(torch.randn(3, 120))
    beat = beats(1, 2, 3)
    with torch.no_grad():
        for short, whole in zip(prior(s[:, :7], g, beat), prior(s[:, :-1], g, beat), strict=True):
            assert torch.allclose(short, whole[:, :8], atol=1e-4)
    longer = prior.extend(s[:, :7], g, beat, torch.Generator().manual_seed(0))
    assert longer.shape == s.shape and torch.equal(longer[:, :7], s[:, :7])
    assert not longer[:, ~prior.slots.mask].any()


def test_samples_are_reproducible_and_normal_at_the_start(transform):
    prior = SequencePrior(transform, seconds=SECONDS, width=48).eval()
    z = prior.sample(300, torch.Generator().manual_seed(0))
    assert torch.equal(z, prior.sample(300, torch.Generator().manual_seed(0)))
    assert z.shape == (300, 120)
    assert z.mean(0).abs().max() < 4.5 / math.sqrt(300) and abs(z.var().item() - 1) < 0.05


def test_rate_is_what_the_base_of_every_prior_says(transform):
    torch.manual_seed(0)
    prior = disturbed(SequencePrior(transform, seconds=SECONDS, width=48))
    q = Normal(torch.randn(5, 120), torch.full((5, 120), 0.5))
    z = q.sample()
    with torch.no_grad():
        assert torch.allclose(prior.rate(q, z).sum(1), q.log_prob(z).sum(1) - prior.log_prob(z), rtol=1e-4)


def test_other_words_are_refused(transform):
    for wrong, words in ((dict(network="lstm"), "network: expected one of transformer, gru, got 'lstm'"),
                         (dict(width=32), "width: expected a multiple of 4, at least 48, got 32"),
                         (dict(beat="loudly"), "beat: expected one of attention, input, nothing, got 'loudly'")):
        with pytest.raises(ValueError, match=words):
            SequencePrior(transform, **wrong)


# --- training and long samples ------------------------------------------------------------------------------------


def test_training_saves_what_is_there_to_save_and_leaves_the_transform():
    x = pictures(60, seed=1)
    x[..., 48:] = x[..., :48]  # the second half repeats the first: half of the code follows from the other half
    transform = local_transform(x, 60)
    before = {name: value.clone() for name, value in transform.state_dict().items()}
    torch.manual_seed(0)
    prior = SequencePrior(transform, seconds=SECONDS, width=48)
    mean = transform.mean_logvar(x)[0].detach()
    losses = list(train_sequence(prior, mean, find_beat(x, SECONDS), steps=150, batch_size=16))
    assert len(losses) == 150 and sum(losses[-20:]) / 20 < sum(losses[:5]) / 5 - 3
    assert all(torch.equal(value, before[name]) for name, value in transform.state_dict().items())
    assert not prior.training
    with pytest.raises(ValueError, match="beat: expected one a window, 60, got 1"):
        next(train_sequence(prior, mean, beats(0)))


def test_training_is_the_same_twice(transform):
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        prior = SequencePrior(transform, seconds=SECONDS, width=48)
        list(train_sequence(prior, transform.mean_logvar(pictures())[0], find_beat(pictures(), SECONDS), steps=3, seed=7))
        results.append(prior.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_a_stream_has_its_length_and_goes_on_in_time(transform, monkeypatch):
    torch.manual_seed(0)
    prior = disturbed(SequencePrior(transform, seconds=SECONDS, width=48))
    told, drawn = [], []
    extend = SequencePrior.extend

    def listening(self, slots, g, beat, generator):
        told.append((slots, beat))
        drawn.append(extend(self, slots, g, beat, generator))
        return drawn[-1]

    monkeypatch.setattr(SequencePrior, "extend", listening)
    pieces = list(stream(prior, 4.1 * SECONDS, 2, generator=torch.Generator().manual_seed(0)))
    assert sum(p.shape[-1] for p in pieces) == round(4.1 * SHAPE[1])
    assert max(p.shape[-1] for p in pieces) <= SHAPE[1] and {p.shape[:3] for p in pieces} == {(2, 1, SHAPE[0])}
    kept = told[1][0].shape[1]
    assert kept % max(STRIDES) == 0 and 0 < kept < 24
    for (given, _), whole in zip(told[1:], drawn, strict=False):
        assert torch.equal(given, whole[:, 24 - kept :])
    hop = (24 - kept) * FRAMES_A_SLOT * SECONDS / SHAPE[1]
    for (_, one), (_, two) in zip(told, told[1:], strict=False):  # a moment has one place in the beat, in whichever window
        gap = (two.phase - one.phase - hop / one.period) % 1
        assert torch.minimum(gap, 1 - gap).max() < 1e-4 and torch.equal(one.period, two.period)


def test_neighbouring_windows_meet(transform):
    torch.manual_seed(0)
    prior = SequencePrior(transform, seconds=SECONDS, width=48).eval()
    whole = torch.cat(list(stream(prior, 6 * SECONDS, 4, generator=torch.Generator().manual_seed(0))), -1)
    jumps = whole.diff(dim=-1).abs().mean((0, 1, 2))
    piece = next(stream(prior, 6 * SECONDS, 4)).shape[-1]
    at = torch.arange(piece - 1, len(jumps), piece)
    assert jumps[at].mean() < 1.5 * jumps.median()


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_no_length_is_no_music(transform, seconds):
    prior = SequencePrior(transform, seconds=SECONDS)
    with pytest.raises(ValueError, match="seconds: expected a length > 0"):
        next(stream(prior, seconds))


def test_a_stream_of_an_hour_keeps_no_more_than_a_window(transform):
    prior = SequencePrior(transform, seconds=SECONDS, width=48).eval()
    pieces = stream(prior, 3600.0)
    assert all(next(pieces).shape[-1] <= SHAPE[1] for _ in range(3))
    assert sequence.FRAMES_A_SLOT * len(prior.slots.mask) == SHAPE[1]
