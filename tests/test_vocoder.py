"""Inverters: limits, oracles, levels, refusals."""

import heapq

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musevae import vocoder
from musevae.mel import MelError, MelSpec
from musevae.vae import ConvVAE, VAEConfig
from musevae.vocoder import INVERTERS, GriffinLim, Inverter, PhaseInverter, get_inverter
from musevae.vocoder.phase import griffin_lim, istft, loudest_tree, pghi, phase_steps, stft

SPEC = MelSpec(seconds=1.0)


def notes(seed=0, samples=SPEC.samples):
    "A few decaying harmonic notes over a little noise."
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / SPEC.sample_rate
    y = 1e-3 * rng.normal(size=samples)
    for start in np.linspace(0, t[-1], 4, endpoint=False):
        f = rng.uniform(100, 500)
        envelope = np.exp(-6 * (t - start)) * (t >= start)
        y += sum(0.2 / k * envelope * np.sin(2 * np.pi * k * f * t) for k in range(1, 9))
    return torch.from_numpy(y).float()


def convergence(magnitude, y):
    "Spectral convergence in dB."
    gap = magnitude - stft(y, SPEC).abs()
    return 20 * torch.log10(gap.norm() / magnitude.norm()).item()


def test_stft_is_librosas_and_istft_undoes_it():
    y = notes()[None]
    z = stft(y, SPEC)
    wanted = librosa.stft(y[0].numpy(), n_fft=2048, hop_length=512)
    np.testing.assert_allclose(z[0].numpy(), wanted, atol=1e-3)
    assert torch.allclose(istft(z, SPEC, SPEC.samples), y, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_is_the_textbook_loop_in_librosa(momentum):
    magnitude = stft(notes()[None], SPEC).abs()
    phase = 2 * torch.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    wanted, turn, before = magnitude[0].double().numpy(), np.exp(1j * phase[0].double().numpy()), 0
    for _ in range(4):
        y = librosa.istft(wanted * turn, hop_length=512, length=SPEC.samples)
        now = librosa.stft(y, n_fft=2048, hop_length=512)
        turn, before = now - momentum / (1 + momentum) * before, now
        turn = turn / np.abs(turn)
    y = librosa.istft(wanted * turn, hop_length=512, length=SPEC.samples)
    ours = griffin_lim(magnitude.double(), SPEC, SPEC.samples, iterations=4, momentum=momentum, phase=phase.double())
    np.testing.assert_allclose(ours[0].numpy(), y, atol=1e-6)


def test_griffin_lim_from_the_true_phase_stays_there():
    y = notes()[None]
    z = stft(y, SPEC)
    for n in (0, 5):
        same = griffin_lim(z.abs(), SPEC, SPEC.samples, iterations=n, phase=z.angle())
        assert torch.allclose(same, y, atol=1e-4)


def test_momentum_helps_and_pghi_helps_more():
    magnitude = stft(torch.stack([notes(i) for i in range(3)]), SPEC).abs()
    classic, fast, heap = (
        convergence(magnitude, get_inverter(name, SPEC).sound(magnitude, SPEC.samples))
        for name in ("griffinlim", "fast-griffinlim", "pghi")
    )
    assert heap < fast < classic < -10


def test_pghi_knows_the_phase_of_a_steady_tone():
    t = torch.arange(SPEC.samples) / SPEC.sample_rate
    y = torch.sin(2 * torch.pi * 1000 * t)[None]
    z = stft(y, SPEC)[0, :, 5:-5]
    near = round(1000 / SPEC.sample_rate * SPEC.n_fft)
    error = np.exp(1j * (pghi(z.abs().numpy(), SPEC) - z.angle().numpy()))[near - 1 : near + 2]
    assert np.abs(np.angle(error[:, 1:] / error[:, :-1])).max() < 0.02  # radians a frame, of the 146 it turns
    assert np.abs(np.angle(error / error[1])).max() < 0.1  # from bin to bin


@pytest.mark.parametrize("offset", [-220, -120, 0, 120, 220])
def test_pghi_knows_the_delay_of_a_click(offset):
    y, at = torch.zeros(1, SPEC.samples), 20 * SPEC.hop + offset
    y[0, at] = 1
    magnitude = stft(y, SPEC)[0].abs().numpy()
    frame = int(magnitude.sum(0).argmax())
    inside = at - frame * SPEC.hop + SPEC.n_fft // 2  # samples from the beginning of that frame
    step = np.diff(pghi(magnitude[:, frame - 3 : frame + 4], SPEC)[:, 3]) + 2 * np.pi * inside / SPEC.n_fft
    assert np.abs(np.angle(np.exp(1j * step))).max() < 0.1  # of the 0.67 by which the earliest and the middle differ


def test_there_and_back_is_the_orthogonal_projection_on_spectra():
    g = torch.Generator().manual_seed(0)
    wild = torch.randn(1, 1025, SPEC.frames, dtype=torch.complex128, generator=g)
    once = stft(istft(wild, SPEC, SPEC.samples), SPEC)
    assert torch.allclose(stft(istft(once, SPEC, SPEC.samples), SPEC), once, atol=1e-9)
    weight = torch.full((1025, 1), 2.0).double()
    weight[0] = weight[-1] = 1
    z = stft(torch.randn(1, SPEC.samples, dtype=torch.float64, generator=g), SPEC)
    inner = ((weight * ((wild - once) * z.conj()).real).sum() / z.norm() / wild.norm()).item()
    assert inner == pytest.approx(0, abs=1e-12)


def test_griffin_lim_never_gets_worse_without_momentum():
    magnitude = stft(notes(2)[None], SPEC).abs()
    steps = [convergence(magnitude, griffin_lim(magnitude, SPEC, SPEC.samples, iterations=n, momentum=0)) for n in range(8)]
    assert (np.diff(steps) < 0).all()


def heap_parents(magnitude):
    "The published algorithm, with a heap and a loop."
    frames = magnitude.shape[1]
    flat, root = magnitude.ravel(), int(magnitude.argmax())
    parent, done, heap = np.full(flat.size, -1), np.zeros(flat.size, bool), [(-flat[root], root)]
    parent[root], done[root] = root, True
    while heap:
        _, here = heapq.heappop(heap)
        row, column = divmod(here, frames)
        for r, c in ((row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)):
            there = r * frames + c
            if 0 <= r < len(magnitude) and 0 <= c < frames and not done[there]:
                parent[there], done[there] = here, True
                heapq.heappush(heap, (-flat[there], there))
    return parent


def quietest_on_the_way(magnitude, parent):
    flat, worst = magnitude.ravel(), magnitude.ravel().copy()
    while True:
        new = np.minimum(worst, np.minimum(flat, worst[parent]))
        if np.array_equal(new, worst):
            return worst
        worst = new


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 12), columns=st.integers(2, 12))
def test_the_spanning_tree_is_the_heap(seed, rows, columns):
    magnitude = np.random.default_rng(seed).random((rows, columns))
    tree, heap = loudest_tree(magnitude), heap_parents(magnitude)
    assert np.array_equal(quietest_on_the_way(magnitude, tree), quietest_on_the_way(magnitude, heap))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_pghi_sums_the_steps_along_its_tree(seed):
    magnitude = np.random.default_rng(seed).random((6, 7)) + 0.1
    phase, parent = pghi(magnitude, SPEC).ravel(), loudest_tree(magnitude)
    frame, bin_ = (s.ravel() for s in phase_steps(magnitude, SPEC))
    for child, up in enumerate(parent):
        slope = frame if abs(child - up) == 1 else bin_
        assert phase[child] - phase[up] == pytest.approx(np.sign(child - up) * (slope[child] + slope[up]) / 2, abs=1e-6)


@pytest.mark.parametrize("name", list(INVERTERS))
def test_round_trip_keeps_picture_level_and_silence(name):
    y = torch.stack([notes(1), 0.01 * notes(2), torch.zeros(SPEC.samples)])
    x, ref_db = SPEC.forward(y)
    inverter = get_inverter(name, SPEC)
    back = inverter(x, ref_db)
    assert back.shape == y.shape and back.dtype == torch.float32 and torch.isfinite(back).all()
    assert (back[2] == 0).all()
    level = 20 * torch.log10(back[:2].norm(dim=1) / y[:2].norm(dim=1))
    assert level.abs().max() < 1.0
    again, _ = SPEC.forward(back)
    assert (again[:2] - x[:2]).abs().mean() < 0.03
    assert torch.allclose(inverter(x[1:2], ref_db[1:2])[0], back[1], atol=1e-4)  # a batch is its windows
    assert torch.equal(inverter(x, ref_db), back)


def test_other_lengths_and_arrays():
    x, ref_db = SPEC.forward(notes())
    y = get_inverter(spec=SPEC, iterations=1)(x[..., :20].numpy(), ref_db.numpy())
    assert y.shape == (1, 19 * 512)


def test_the_default_is_the_voice_where_it_knows_the_pictures():
    assert get_inverter().name == get_inverter(spec=SPEC).name == "voice"  # whatever their length
    for stranger in (MelSpec(scale="htk"), MelSpec(top_db=60.0), MelSpec(n_mels=64)):
        assert get_inverter(spec=stranger).name == "fast-griffinlim"
        assert torch.isfinite(get_inverter(spec=stranger, iterations=1)(*stranger.forward(torch.randn(1, stranger.samples)))).all()
    assert get_inverter().net is get_inverter(spec=SPEC).net  # read once


def test_refusals():
    inverter = get_inverter(spec=SPEC)
    inverter.check(SPEC.fingerprint)
    with pytest.raises(MelError, match=f"model: expected mel fingerprint {SPEC.fingerprint}, got {MelSpec().fingerprint}"):
        inverter.check(MelSpec().fingerprint, "model")
    with pytest.raises(ValueError, match="one of griffinlim, fast-griffinlim, pghi.*; got 'wavenet'"):
        get_inverter("wavenet")
    with pytest.raises(ValueError, match="iterations, momentum, seed; got rounds"):
        get_inverter("fast-griffinlim", rounds=3)
    with pytest.raises(ValueError, match=r"\(batch, 1, 128, frames\), got \(1, 1, 64, 9\)"):
        inverter(torch.zeros(1, 1, 64, 9), torch.zeros(1))
    with pytest.raises(ValueError, match=r"ref_db: expected shape \(2,\), got \(1,\)"):
        inverter(torch.zeros(2, 1, 128, 9), torch.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        inverter(torch.full((1, 1, 128, 9), torch.nan), torch.zeros(1))


# --- one object, several kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, momentum", [("griffinlim", 0.0), ("fast-griffinlim", 0.99), ("pghi", 0.99)])
@pytest.mark.parametrize("frames", [SPEC.frames, 20])
def test_an_inverter_is_its_parts_bit_for_bit(name, momentum, frames):
    x, ref_db = SPEC.forward(notes())
    x = x[..., :frames]
    magnitude = SPEC.stft_magnitude(x, ref_db, iterations=7)
    phase = torch.from_numpy(pghi(magnitude[0].double().numpy(), SPEC))[None].to(magnitude) if name == "pghi" else None
    samples = SPEC.samples if frames == SPEC.frames else (frames - 1) * SPEC.hop
    parts = griffin_lim(magnitude, SPEC, samples, iterations=5, momentum=momentum, phase=phase)
    assert torch.equal(get_inverter(name, SPEC, nnls_iterations=7, iterations=5)(x, ref_db), parts)


def test_the_parts_are_found_where_they_were():
    for name in ("griffin_lim", "istft", "loudest_tree", "pghi", "phase_steps", "stft"):
        assert getattr(vocoder, name) is globals()[name] and name in vocoder.__all__


@pytest.fixture
def registry():
    "The registry, which is as it was afterwards."
    before = dict(INVERTERS)
    yield INVERTERS
    INVERTERS.clear()
    INVERTERS.update(before)


def test_an_inverter_from_outside_is_a_class_with_a_name(registry):
    class Level(Inverter):
        name = "level"
        defaults = dict(gain=2.0)

        def invert(self, x, ref_db):
            return self.options["gain"] * ref_db[:, None].expand(-1, self.samples(x.shape[-1]))

    inverter, (x, ref_db) = get_inverter("level", SPEC, gain=3.0), SPEC.forward(notes())
    assert torch.equal(inverter(x, ref_db), 3 * ref_db[:, None].expand(1, SPEC.samples))
    assert inverter(x[..., :9].numpy(), ref_db.numpy()).shape == (1, 8 * SPEC.hop)
    assert "gain=3.0" in repr(inverter) and SPEC.fingerprint in repr(inverter)
    for bad in (x[0], x * torch.nan, x[:, :, 1:], x * 80 - 80):  # the border stands before every kind
        with pytest.raises(MelError, match="x: expected|x, ref_db: expected finite"):
            inverter(bad, ref_db)
    with pytest.raises(MelError, match="level: expected options among gain; got iterations"):
        get_inverter("level", iterations=3)


def test_a_childs_options_are_added_to_its_parents_and_no_name_is_taken_twice(registry):
    assert get_inverter("fast-griffinlim").options == dict(nnls_iterations=100, iterations=32, momentum=0.99, seed=0)
    assert get_inverter("griffinlim").options["momentum"] == 0 and "seed" not in get_inverter("pghi").options
    names = list(registry)

    class Nameless(GriffinLim):
        "No name of its own: its parent keeps the place."

    assert list(registry) == names and registry["griffinlim"] is GriffinLim
    with pytest.raises(MelError, match="inverter: expected a name of its own, got 'pghi', which PGHI has"):
        type("Thief", (PhaseInverter,), dict(name="pghi"))
    with pytest.raises(NotImplementedError):
        PhaseInverter(SPEC)(*SPEC.forward(notes()))


def test_magnitudes_are_refused_and_no_picture_is():
    t = torch.arange(SPEC.samples) / SPEC.sample_rate
    tone, click = torch.sin(2 * torch.pi * 1000 * t), torch.zeros(SPEC.samples)
    click[9000] = 1
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(SPEC.samples, generator=g) / 8
    sounds = [notes(), tone / 2, click, noise, tone / 2 + 1e-4 * noise, tone / 2 + 1e-3 * noise, 1e-5 * noise, torch.zeros_like(t)]
    inverter = get_inverter("griffinlim", SPEC, nnls_iterations=1, iterations=0)
    for y in sounds:
        x, ref_db = SPEC.forward(y)
        for picture in (x, x[..., :5], x.clamp_min(0.01), 1.3 * x - 0.2):
            assert inverter(picture, ref_db).isfinite().all()
    for y in (notes(), notes(3), noise * torch.exp(-4 * t)):
        x, ref_db = SPEC.forward(y)
        for level in (0.5, 1, 8):  # a decoder is not always as loud as its window
            with pytest.raises(MelError, match="x: expected log-mel pictures.*got magnitudes|got values from"):
                inverter(level * SPEC.magnitude_of(x.clamp_min(1e-6)), ref_db)


def test_a_models_picture_is_taken_and_its_decode_is_not():
    x, ref_db = SPEC.forward(torch.stack([notes(i) for i in range(12)]))
    vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=0), SPEC).initialise(x).eval()
    inverter = get_inverter("griffinlim", SPEC, nnls_iterations=1, iterations=0)
    with torch.no_grad():
        z = vae.encode(x).mean
        for some in (slice(0, 1), slice(5, 12)):
            assert inverter(vae.picture(z[some]), ref_db[some]).isfinite().all()
            with pytest.raises(MelError, match="got magnitudes"):
                inverter(vae.decode(z[some]), ref_db[some])
