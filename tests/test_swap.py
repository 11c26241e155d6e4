"Swaps and morphs of colour: what stays, what goes, where the ends are, and what is refused."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import made_windows

from musevae.mel import MelSpec
from musevae.swap import Code, code_of, colour_units, morph, picture_of, swap
from musevae.vae import VAEConfig
from musevae.vae.pretrained import weights_key
from musevae.windows import WindowSet

WINDOWS = made_windows()
X = WINDOWS.tensor().float()


def model(seed=0, **changes):
    "A small model with a global code that moves something, as after training."
    choices = dict(latent_dim=24, filter_blocks=1, filter_width=8, likelihood="coloured", contiguous=True, global_dim=4) | changes
    torch.manual_seed(seed)
    vae = VAEConfig(**choices).build(WINDOWS.spec).initialise(X[:30]).eval()
    with torch.no_grad():
        for p in vae.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return vae


VAE = model()


def before_the_link(vae, code):
    z = torch.empty(len(code.colour), vae.latent_dim)
    still = colour_units(vae)
    z[:, still], z[:, ~still] = code.colour, code.rhythm
    return vae.decoder.path.closed.mean_picture(z)[:, 0]


@pytest.mark.parametrize("vae", [VAE, model(global_dim=0, contiguous=False, likelihood="gaussian"), model(global_dim=24)],
                         ids=["global and local", "no global code", "global alone"])
def test_nothing_exchanged_is_the_reconstruction(vae):
    assert torch.allclose(swap(vae, X[:5], X[:5]), vae.reconstruct(X[:5]).clamp_min(0), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(a=st.integers(0, 39), b=st.integers(0, 39))
def test_the_mean_spectrum_goes_with_the_colour_and_movement_with_the_rhythm(a, b):
    of_a, of_b = code_of(VAE, X[a]), code_of(VAE, X[b])
    mixed = before_the_link(VAE, of_a._replace(rhythm=of_b.rhythm))
    own = before_the_link(VAE, of_a)
    assert torch.allclose(mixed.mean(-1), own.mean(-1), atol=1e-5)
    transform = VAE.transform  # what is not constant in time is b's, in units of what is usual under a's colour
    moving = VAE.decoder.path.closed.code.fields(of_a.colour[:, :4])
    even = (mixed - transform.profile) * (-moving.log_gain).exp().unsqueeze(2)
    place = (transform.bands @ even @ transform.cosines.T).flatten(1)
    at = transform.index[transform.index % WINDOWS.spec.frames > 0]
    usual = (moving.log_scale.flatten(1)[:, at] + VAE.decoder.path.closed.code.log_spread.flatten()[at]).exp().square()
    weight = (usual - torch.minimum(usual, transform.noise)).clamp_min(1e-6 * transform.noise).sqrt()
    assert torch.allclose(place[:, at], of_b.rhythm * weight, atol=1e-4)


def test_a_swap_and_its_counterpart_exchange_their_spectra():
    a, b = code_of(VAE, X[:1]), code_of(VAE, X[39:])
    ab, ba = (before_the_link(VAE, c).mean(-1) for c in (a._replace(rhythm=b.rhythm), b._replace(rhythm=a.rhythm)))
    own_a, own_b = (before_the_link(VAE, c).mean(-1) for c in (a, b))
    assert torch.allclose(ab, own_a, atol=1e-5) and torch.allclose(ba, own_b, atol=1e-5)
    assert (own_a - own_b).abs().max() > 0.01


def test_the_ends_of_a_morph():
    way = morph(VAE, X[0], X[20], steps=4)
    assert way.shape == (4, 1, *WINDOWS.spec.shape)
    assert torch.allclose(way[:1], VAE.reconstruct(X[:1]).clamp_min(0), atol=1e-5)
    assert torch.allclose(way[-1:], swap(VAE, X[20], X[0]), atol=1e-5)
    assert torch.allclose(morph(VAE, X[0], X[0], steps=2), VAE.reconstruct(X[[0, 0]]).clamp_min(0), atol=1e-5)


def test_one_colour_for_many_rhythms():
    many = swap(VAE, X[0], X[5:9])
    assert torch.allclose(many[2:3], swap(VAE, X[0], X[7]), atol=1e-6)
    assert torch.allclose(swap(VAE, WINDOWS, X[:1])[3], swap(VAE, X[3], X[0])[0], atol=1e-6)


def test_colour_is_the_global_code_and_the_means():
    still = colour_units(VAE)
    assert still[:4].all() and (still[4:] == (VAE.transform.index % WINDOWS.spec.frames == 0)).all()
    assert 4 < still.sum() < 24


def test_a_code_knows_its_model():
    assert weights_key(VAE) == weights_key(model()) != weights_key(model(seed=1))
    tuned = model()
    with torch.no_grad():
        tuned.decoder.path.closed.code.decoder[-1].bias.add_(0.01)
    assert weights_key(tuned) != weights_key(VAE)


A = code_of(VAE, X[:2])


@pytest.mark.parametrize("line, do", [
    (f"colour: expected shape (n, {A.colour.shape[1]}), got (2, {A.colour.shape[1] - 1})",
     lambda: picture_of(VAE, A._replace(colour=A.colour[:, 1:]))),
    (f"rhythm: expected shape (n, {A.rhythm.shape[1]}), got (2, {A.rhythm.shape[1] + 1})",
     lambda: swap(VAE, X[:2], A._replace(rhythm=torch.cat([A.rhythm, A.rhythm[:, :1]], 1)))),
    ("rhythm: expected one, or one a colour, 3, got 2", lambda: swap(VAE, X[:3], X[:2])),
    (f"x_a: expected shape {WINDOWS.spec.shape} or (n, 1, {WINDOWS.spec.shape[0]}, {WINDOWS.spec.shape[1]}), got (1, 16, 7)",
     lambda: swap(VAE, X[0, ..., :7], X[0])),
    (f"x_b: expected shape {WINDOWS.spec.shape} or (n, 1, {WINDOWS.spec.shape[0]}, {WINDOWS.spec.shape[1]}), got "
     f"(0, 1, {WINDOWS.spec.shape[0]}, {WINDOWS.spec.shape[1]})", lambda: swap(VAE, X[0], X[:0])),
    ("steps: expected at least 2, the two ends, got 1", lambda: morph(VAE, X[0], X[1], steps=1)),
    ("x_b: expected one window, got 2", lambda: morph(VAE, X[0], X[1:3])),
])
def test_what_is_refused_is_said_in_one_line(line, do):
    with pytest.raises(ValueError) as caught:
        do()
    assert str(caught.value) == line


def test_a_code_of_another_run_is_refused_with_both_names():
    other = model(seed=1)
    stranger = code_of(other, X[:1])
    line = f"x_a: expected a code of this model, {weights_key(VAE)}, got one of another, {weights_key(other)}"
    with pytest.raises(ValueError, match=line):
        swap(VAE, stranger, X[:1])
    with pytest.raises(ValueError, match="code: expected a code of this model"):
        picture_of(VAE, stranger)


def test_windows_of_another_spec_are_refused_with_both_fingerprints():
    spec = MelSpec(n_mels=16, seconds=0.7, scale="htk")
    foreign = WindowSet(WINDOWS.x, WINDOWS.ref_db, WINDOWS.table, spec, "made up")
    with pytest.raises(ValueError) as caught:
        swap(VAE, foreign, X[:1])
    assert spec.fingerprint in str(caught.value) and WINDOWS.spec.fingerprint in str(caught.value)


def test_a_model_without_such_units_is_refused():
    vae = VAEConfig(latent_dim=4, linear=False, filter_blocks=0, network="time", profile=False).build(WINDOWS.spec)
    with pytest.raises(ValueError, match="vae: expected a model with a global code or a linear path.*network='time'"):
        swap(vae, X[:1], X[:1])
    assert isinstance(A, Code)


def test_grain_is_noise_on_the_same_picture_and_the_same_along_a_morph():
    smooth, one, same, other = (swap(VAE, X[:1], X[5:8], grain=seed) for seed in (None, 1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.min() >= 0 and one.max() <= 1
    assert 0.3 < (one - smooth.clamp(0, 1)).std() / VAE.scale.square().mean().sqrt() < 2
    still = morph(VAE, X[0], X[0], steps=3, grain=4)
    assert torch.equal(still[0], still[2]), "grain does not flicker from step to step"


def test_a_prior_that_learns_changes_no_code():
    whole = torch.nn.ModuleDict(dict(prior=torch.nn.Linear(2, 2), decoder=torch.nn.Linear(2, 2)))
    before = weights_key(whole)
    with torch.no_grad():
        whole["prior"].weight.add_(1)
        assert weights_key(whole) == before
        whole["decoder"].weight.add_(1)
    assert weights_key(whole) != before
