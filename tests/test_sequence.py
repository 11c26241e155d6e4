"The prior over codes in the order of time: turning loses nothing, densities are causal and start at N(0, I), beats are found."

import math
from itertools import product

import pytest
import torch
from torch.distributions import Normal

from musevae.vae.beat import CELLS, OCTAVE, PERIODS, Beat, find_beat, log_price
from musevae.vae.linear import SeparableTransform
from musevae.vae.places import FRAMES_A_SLOT, cosine_counts, local_places, most_places
from musevae.vae.prior import StandardNormal, kl_to_standard_normal
from musevae.vae.prior_sequence import SequencePrior
from musevae.vae.prior_training import begin_sequence, codes_of, rate_of, train_sequence
from musevae.vae.slots import Slots

SHAPE, SECONDS = (16, 96), 96 * 512 / 22050  # 24 slots


def pictures(n=40, seed=0):
    "Something with a slow and a fast part, in [0, 1]."
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(n, 1, *SHAPE, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(rough, (8, 8, 2, 2), mode="reflect"), (5, 17), 1)
    return 0.7 * smooth + 0.3 * rough


@pytest.fixture(scope="module")
def transform():
    return SeparableTransform.fit(pictures(), 120, contiguous=True)


class Linear:
    "The closed form as a model, as `codes_of` wants it."

    device = torch.device("cpu")

    def __init__(self, prior):
        self.transform, self.prior = prior._lent[0], prior

    def posterior(self, x, eps=None):
        mean, logvar = self.transform.mean_logvar(x)
        return mean, (logvar / 2).exp()


def new(transform, **options):
    "A prior with a network that has learnt nothing."
    torch.manual_seed(0)
    return SequencePrior(transform, **dict(seconds=SECONDS, width=48) | options).begin().eval()


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
    for d in (-1, most_places(SHAPE) + 1):
        with pytest.raises(ValueError, match="latent_dim: expected 0 to 784 places in order of time"):
            local_places(power, d)
    with pytest.raises(ValueError, match=r"latent_dim: expected a sum of means and of \[4, 8, 12, 24, 48\] cosines, got 3"):
        local_places(power[:2], 3)
    with pytest.raises(ValueError, match="latent_dim: expected 0 to 784"):
        SeparableTransform(SHAPE, 785, contiguous=True)


@pytest.mark.parametrize("d", [3, 17, 40])
def test_no_choice_of_places_has_more_variance(d):
    power = torch.rand(3, 24, generator=torch.Generator().manual_seed(d)) / (1 + torch.arange(24))
    best = 0.0
    for counts in product([0, *cosine_counts(24)], repeat=3):
        if 0 <= (rest := d - sum(counts)) <= 3:
            cosines = sum(power[k, 1 : 1 + n].sum() for k, n in enumerate(counts))
            best = max(best, (cosines + power[:, 0].sort(descending=True).values[:rest].sum()).item())
    if best:
        assert power.flatten()[local_places(power, d)].sum().item() == pytest.approx(best, rel=1e-5)


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
    passed = new(transform).network.beats(find_beat(clicks, SECONDS), 24)[0]
    at = torch.arange(2, 24, 5)
    assert (passed[at] - passed[at].round()).abs().max() < 0.12 and torch.allclose(passed[at].diff(), torch.ones(4), atol=0.02)


def test_every_cell_is_a_beat_within_an_octave():
    beat = Beat.of(torch.arange(CELLS))
    assert beat.period.min() > OCTAVE[0] and beat.period.max() < OCTAVE[1]
    assert len(beat.period.unique()) == PERIODS and ((beat.phase >= 0) & (beat.phase < 1)).all()
    assert len({tuple(row) for row in torch.stack(beat[1:], 1).tolist()}) == CELLS


def test_silence_has_some_beat():
    assert 0 <= find_beat(torch.zeros(2, 1, 8, 216)).cell.min() < CELLS


def test_beats_are_a_distribution_that_follows_what_was_met():
    assert torch.allclose(log_price().exp().sum(), torch.tensor(1.0)) and len(log_price().unique()) == 1
    price = log_price(beats(*[100] * 50))
    assert price.exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert price.argmax() % 4 == 100 % 4 and price[100] > 3 - math.log(CELLS)


@pytest.mark.parametrize("bpm", [30.0, 88.3, 120, 175.9, 400])
def test_a_beat_told_by_hand_is_that_tempo_up_to_an_octave(bpm):
    octaves = math.log2(60 / Beat.at(bpm).period.item() / bpm)
    assert abs(octaves - round(octaves)) < math.log2(1.006) and Beat.at(bpm, 3, 1).strength.tolist() == [1, 1, 1]


def test_no_tempo_is_no_beat():
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="bpm: expected a tempo > 0"):
            Beat.at(wrong)
    with pytest.raises(ValueError, match="strength: expected 0 to 3, got 4"):
        Beat.at(120, strength=4)


# --- the density --------------------------------------------------------------------------------------------------


def test_a_new_prior_is_the_normal_distribution_and_nothing_else(transform):
    prior, z = SequencePrior(transform, seconds=SECONDS, width=48), torch.randn(4, 120)
    assert not prior.state_dict() and not list(prior.parameters()) and not prior.trained
    assert torch.equal(prior.log_prob(z), StandardNormal(120).log_prob(z))
    q = Normal(torch.randn(5, 120), torch.full((5, 120), 0.5))
    assert torch.equal(prior.rate(q), StandardNormal(120).rate(q))  # and no sample is asked for
    draws = [p.sample(5, torch.Generator().manual_seed(0)) for p in (prior, StandardNormal(120))]
    assert torch.equal(*draws)


@pytest.mark.parametrize("options", [{}, dict(beat="input"), dict(beat="nothing"), dict(network="gru", beat="input")])
def test_with_a_network_it_starts_at_the_normal_distribution_and_is_causal(transform, options):
    prior = new(transform, **options)
    z, beat = torch.randn(4, 120), beats(0, 999, 2000, 4000)
    price = 0 if prior.beat == "nothing" else math.log(CELLS)
    normal = Normal(0.0, 1.0).log_prob(z).sum(1)
    assert torch.allclose(prior.log_prob(z, beat) + price, normal, atol=1e-3)

    g, s = disturbed(prior).split(z)
    changed = s.clone()
    changed[:, 10] += 1.0 * prior.slots.mask[10]
    with torch.no_grad():
        before, after = (prior.network.log_prob_by_slot(x, g, beat) for x in (s, changed))
    assert torch.allclose(before[:, :10], after[:, :10], atol=1e-4)
    assert (before[:, 10:] - after[:, 10:]).abs().amax(0).min() > 1e-6
    assert not torch.allclose(prior.log_prob(z, beat), normal - price, atol=1.0)
    assert torch.allclose(prior.join(g, s), z, atol=1e-5)


def test_a_beat_that_is_told_never_makes_a_code_more_likely_than_all_beats_together(transform):
    prior, z = disturbed(new(transform)), torch.randn(1, 120, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        every = torch.cat([prior.log_prob(z.expand(256, -1), Beat.of(cells)) for cells in torch.arange(CELLS).split(256)])
        assert prior.log_prob(z) <= every.logsumexp(0) and every.max() <= every.logsumexp(0)
    assert every.max() - every.min() > 1


def test_what_is_told_of_the_beat_matters_only_where_it_is_told(transform):
    z = torch.randn(3, 120, generator=torch.Generator().manual_seed(0))
    for telling, moves in (("attention", True), ("input", True), ("nothing", False)):
        prior = disturbed(new(transform, beat=telling))
        one, other = (prior.log_prob(z, Beat.of(torch.full((3,), cell))) for cell in (5, 3001))
        assert torch.allclose(one, other, atol=1e-4) != moves


def test_a_prefix_is_kept_and_predicts_as_the_whole_does(transform):
    prior = disturbed(new(transform))
    z = torch.randn(3, 120, generator=torch.Generator().manual_seed(1))
    (g, s), beat = prior.split(z), beats(1, 2, 3)
    with torch.no_grad():
        for short, whole in zip(prior.network(s[:, :7], g, beat), prior.network(s[:, :-1], g, beat), strict=True):
            assert torch.allclose(short, whole[:, :8], atol=1e-4)
    longer = prior.extend(z, 7 / 24, torch.Generator().manual_seed(0), beat)
    g_longer, s_longer = prior.split(longer)
    assert torch.allclose(s_longer[:, :7], s[:, :7], atol=1e-5) and torch.allclose(g_longer, g, atol=1e-5)
    assert not torch.allclose(s_longer[:, 7:], s[:, 7:], atol=0.1) and not s_longer[:, ~prior.slots.mask].any()
    with pytest.raises(ValueError, match="extend: expected a prior that has learnt an order in time"):
        SequencePrior(transform).extend(z, 0.5)


def test_samples_are_reproducible_and_normal_at_the_start(transform):
    for prior in (new(transform), SequencePrior(transform)):
        z = prior.sample(300, torch.Generator().manual_seed(0))
        assert torch.equal(z, prior.sample(300, torch.Generator().manual_seed(0)))
        assert torch.equal(z[:16], prior.sample(32, torch.Generator().manual_seed(0))[:16])  # whatever comes after
        assert z.shape == (300, 120)
        assert z.mean(0).abs().max() < 4.5 / math.sqrt(300) and abs(z.var().item() - 1) < 0.05


def test_samples_hold_what_is_told(transform):
    for prior in (disturbed(new(transform)), SequencePrior(transform)):
        told = torch.randn(3, len(prior.known))
        z = prior.sample(3, torch.Generator().manual_seed(0), g=told)
        assert torch.allclose(z[:, prior.known], told) and len(z.unique()) == z.numel()


def test_samples_have_the_density_that_is_said_of_them(transform):
    "Minus the mean log-density of samples is the entropy; that of the same samples under another prior is larger."
    prior, other = disturbed(new(transform)), disturbed(new(transform), seed=5)
    beat = Beat.at(120, 200)
    g = torch.zeros(200, len(prior.known))
    z = prior.sample(200, torch.Generator().manual_seed(0), g=g, beat=beat)
    with torch.no_grad():
        gap = prior.log_prob(z, beat) - other.log_prob(z, beat)
        ratio = (-gap).logsumexp(0) - math.log(200)  # E[other / prior] = 1 under the prior
    assert gap.mean() > 3 * gap.std() / 200**0.5 and ratio < 1


def test_rate_is_what_the_base_of_every_prior_says_on_average(transform):
    prior = disturbed(new(transform))
    q = Normal(torch.randn(1, 120).expand(400, -1), torch.full((400, 120), 0.5))
    z = q.sample()
    with torch.no_grad():
        quiet, plain = prior.rate(q, z).sum(1), q.log_prob(z).sum(1) - prior.log_prob(z)
        assert torch.allclose(prior.log_prob_by_unit(z).sum(1), prior.log_prob(z), atol=1e-2)
    assert abs((quiet - plain).mean()) < 4.5 * (quiet - plain).std() / 20
    with pytest.raises(ValueError, match="z: expected the sample that was decoded"):
        prior.rate(q)


def test_what_is_overall_is_paid_in_full(transform):
    prior = disturbed(new(transform))
    q = Normal(torch.randn(5, 120), torch.full((5, 120), 0.5))
    with torch.no_grad():
        assert torch.equal(prior.rate(q, q.sample())[:, prior.known], StandardNormal(120).rate(q)[:, prior.known])


def test_other_words_are_refused(transform):
    for wrong, words in ((dict(network="lstm"), "network: expected one of transformer, gru, got 'lstm'"),
                         (dict(width=32), "width: expected a multiple of 4, at least 48, got 32"),
                         (dict(beat="loudly"), "beat: expected one of attention, input, nothing, got 'loudly'")):
        with pytest.raises(ValueError, match=words):
            SequencePrior(transform, **wrong)


def test_old_names_answer():
    from musevae.vae import prior_sequence

    with pytest.warns(DeprecationWarning):
        assert prior_sequence.train_sequence is train_sequence
    with pytest.warns(DeprecationWarning, match="SeparableTransform.fit"):
        from musevae.vae.slots import local_transform

        assert torch.equal(local_transform(pictures(), 120).index, SeparableTransform.fit(pictures(), 120, contiguous=True).index)


# --- training -----------------------------------------------------------------------------------------------------


def test_training_saves_what_is_there_to_save_and_leaves_the_transform():
    x = pictures(60, seed=1)
    x[..., 48:] = x[..., :48]  # the second half repeats the first: half of the code follows from the other half
    transform = SeparableTransform.fit(x, 60, contiguous=True)
    before = {name: value.clone() for name, value in transform.state_dict().items()}
    prior = SequencePrior(transform, seconds=SECONDS, width=48)
    codes = codes_of(Linear(prior), x)
    saved = list(train_sequence(prior, codes, steps=150, batch_size=16))
    assert len(saved) == 150 and sum(saved[-20:]) / 20 > sum(saved[:5]) / 5 + 3
    assert all(torch.equal(value, before[name]) for name, value in transform.state_dict().items())
    assert not prior.training
    ours, normal = rate_of(prior, codes).mean(1)
    assert ours < normal - 3
    with pytest.raises(ValueError, match="codes: expected those of one window at least, got none"):
        next(train_sequence(prior, codes.rows(torch.arange(0))))


def test_training_is_the_same_twice_whatever_was_drawn_before(transform):
    results = []
    for seed in range(2):
        torch.manual_seed(seed)
        prior = SequencePrior(transform, seconds=SECONDS, width=48)
        list(train_sequence(prior, codes_of(Linear(prior), pictures()), steps=3, seed=7))
        results.append(prior.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


# --- what holds for a window ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(transform):
    "A prior that knows what is overall, and no more."
    prior = SequencePrior(transform, seconds=SECONDS, width=48)
    begin_sequence(prior, codes_of(Linear(prior), pictures()))
    return prior.eval()


def test_nats_by_unit_add_up(fitted):
    codes = codes_of(Linear(fitted), pictures(8, seed=1))
    with torch.no_grad():
        saved = fitted.overall.saved(codes.z[:, fitted.known]).sum(1)
        assert saved.abs().min() > 1e-3
        by_unit = fitted.log_prob_by_unit(codes.z, codes.beat)
        assert torch.allclose(by_unit.sum(1), fitted.log_prob(codes.z, codes.beat), atol=1e-2)
        rate = fitted.rate(Normal(codes.mean, codes.std), codes.z)
        whole = kl_to_standard_normal(Normal(codes.mean, codes.std)).sum(1)
        assert torch.allclose(rate.sum(1), whole - fitted.saved(codes.z), atol=1e-2)
        normal = Normal(0.0, 1.0).log_prob(codes.z)
        assert torch.allclose((by_unit - normal)[:, fitted.known].sum(1), saved, atol=1e-3)


def test_what_is_overall_is_drawn_together_and_what_is_known_stays(fitted):
    z = fitted.sample(64, torch.Generator().manual_seed(0))
    e = torch.linalg.solve_triangular(fitted.overall.root, (z[:, fitted.known] - fitted.overall.mean).T, upper=False)
    assert abs(e.var() - 1) < 0.15
    again = fitted.sample(64, torch.Generator().manual_seed(1), g=z[:, fitted.known], beat=beats(*[0] * 64))
    assert torch.equal(again[:, fitted.known], z[:, fitted.known])


def test_a_prior_that_was_saved_without_it_is_read_with_n_0_i(transform, fitted):
    state = {name: value for name, value in fitted.state_dict().items() if not name.startswith("overall.")}
    old = new(transform)
    old.load_state_dict(state)
    assert torch.equal(old.overall.root, torch.eye(len(old.known))) and not old.overall.mean.any()
    fresh = SequencePrior(transform, seconds=SECONDS, width=48)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh.overall.root, fitted.overall.root)
