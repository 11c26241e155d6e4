"The training step and the loop that gives each step away: one arithmetic for everybody, stopped and gone on with anywhere."
import copy
import itertools

import pytest
import torch

from musevae.fitting import fit
from musevae.mel import MelSpec
from musevae.training import TrainConfig, adam, average_weights, batch_of, learn, learning_rate, noise_of, steps
from musevae.vae import ConvVAE, VAEConfig

SPEC = MelSpec(n_mels=16, seconds=0.7)
CONFIG = TrainConfig(epochs=2, batch_size=8, warmup_steps=3, average=0.9)  # four steps an epoch


@pytest.fixture
def x():
    return torch.rand(30, 1, *SPEC.shape, generator=torch.Generator().manual_seed(0)).cumsum(3) / SPEC.frames


def model(x):
    torch.manual_seed(0)
    return ConvVAE(VAEConfig(latent_dim=6, filter_blocks=1, filter_width=8), SPEC).initialise(x)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("config", [CONFIG, TrainConfig(epochs=2, batch_size=8, average=0.0, clamp=True, free_bits=0.1,
                                                        anneal="linear", anneal_epochs=1.0, beta=0.5)])
def test_the_bare_loop_ends_where_fit_ends(config, x, tmp_path):
    "And evaluations on the way, in eval mode, change no bit of it."
    fitted, bare = model(x), model(x)
    seen = []
    fit(fitted, x, x[:8], config, tmp_path, progress=False, on_step=seen.append)
    taken = list(steps(bare, x, config))
    assert same(fitted, bare) and not same(bare, model(x))
    assert [s.number for s in taken] == list(range(1, 9)) and {s.of for s in taken} == {8}
    assert [(s.number, s.rate, s.beta, s.bound.nats.item()) for s in taken] == [
        (s.number, s.rate, s.beta, s.bound.nats.item()) for s in seen]


@pytest.mark.parametrize("number", range(9))
def test_stopped_anywhere_and_gone_on_with_is_the_whole(number, x):
    whole, cut = model(x), model(x)
    averages = [copy.deepcopy(v) for v in (whole, cut)]
    optimizer = adam(cut, CONFIG)
    list(steps(whole, x, CONFIG, average=averages[0]))
    list(itertools.islice(steps(cut, x, CONFIG, optimizer=optimizer, average=averages[1]), number))
    rest = list(steps(cut, x, CONFIG, optimizer=optimizer, average=averages[1], start=number))
    assert [s.number for s in rest] == list(range(number + 1, 9))
    assert same(whole, cut) and same(*averages)


def test_nothing_is_done_before_it_is_asked_for(x):
    vae = model(x)
    waiting = steps(vae, x, CONFIG)
    assert same(vae, model(x))
    next(waiting)
    assert not same(vae, model(x))


def test_the_loop_is_learn_at_functions_of_the_step(x):
    looped, by_hand = model(x), model(x)
    list(steps(looped, x, CONFIG))
    optimizer = adam(by_hand, CONFIG)
    for step in range(8):
        optimizer.param_groups[0]["lr"] = learning_rate(step, 8, CONFIG)
        rows = batch_of(step, len(x), 8, 0)
        learn(by_hand, x[rows], noise_of(step, (len(rows), 6), 0), optimizer, CONFIG)
    assert same(looped, by_hand)


def test_a_step_is_no_longer_than_the_clipped_gradient(x):
    vae = model(x)
    before = [w.detach().clone() for w in vae.parameters()]
    optimizer = torch.optim.SGD(vae.parameters(), lr=1e-2)
    learn(vae, x[:8], torch.zeros(8, 6), optimizer, TrainConfig(clip_norm=1e-3))
    moved = sum((w - b).square().sum() for w, b in zip(vae.parameters(), before, strict=True)).sqrt()
    assert moved.item() == pytest.approx(1e-5, rel=0.05)  # the gradient itself is longer


def test_a_fixed_scale_stays_and_a_calibrated_one_moves(x):
    for scale, moves in ((0.1, False), (None, True)):
        vae = model(x)
        before = vae.log_scale.clone()
        learn(vae, x[:8], torch.zeros(8, 6), adam(vae, CONFIG), TrainConfig(noise_scale=scale))
        assert torch.equal(before, vae.log_scale) != moves


def test_the_average_moves_by_what_it_forgets(x):
    vae = model(x)
    average = copy.deepcopy(vae)
    with torch.no_grad():
        for w in vae.parameters():
            w.add_(1)
    average_weights(average, vae, 0.75)
    for a, w in zip(average.parameters(), vae.parameters(), strict=True):
        assert torch.allclose(w - a, torch.full_like(w, 0.75), atol=1e-5)
