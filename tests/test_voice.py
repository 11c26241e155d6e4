"""The learnt voice: where it begins, what it keeps, how its training goes on, what it refuses, what its file says."""

import json
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from conftest import ROOT
from safetensors import safe_open
from safetensors.torch import save_file

from musevae.cli import main
from musevae.cli.voice import inverter_of
from musevae.mel import MelError, MelSpec, kl_nnls, mel_filterbank
from musevae.vocoder import get_inverter, stft, teaching
from musevae.vocoder.teaching import VoiceTraining, train_voice, voice_loss
from musevae.vocoder.voice import SHIPPED, VoiceConfig, VoiceNet, load_voice, mending, save_voice, shipped_voice

SPEC = MelSpec(seconds=1.0)
TINY = VoiceConfig(width=8, blocks=1, kernel=3)
SHORT = VoiceTraining(steps=8, batch=2, every=4, rate=1e-2)


def notes(seed=0, samples=SPEC.samples):
    "A few decaying harmonic notes over a little noise, float32."
    rng = np.random.default_rng(seed)
    t, y = np.arange(samples) / SPEC.sample_rate, 1e-3 * rng.normal(size=samples)
    for start in np.linspace(0, t[-1], 4, endpoint=False):
        f, envelope = rng.uniform(100, 500), np.exp(-6 * np.maximum(t - start, 0)) * (t >= start)
        y += sum(0.2 / k * envelope * np.sin(2 * np.pi * k * f * t) for k in range(1, 9))
    return torch.from_numpy(y).float()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Four clips to train on, one to judge by."
    out, rows = tmp_path_factory.mktemp("clips"), []
    for n in range(5):
        path = out / f"clip.{n}.wav"
        sf.write(path, notes(n, 35_000).numpy(), SPEC.sample_rate)
        rows.append(dict(track=f"clip.{n}", path=str(path), split="valid" if n == 4 else "train"))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def picture():
    return SPEC.forward(torch.stack([notes(5), notes(6)]))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_an_untaught_voice_is_the_chain_it_is_to_beat(picture):
    x, ref_db = picture
    ours, chain = VoiceNet(spec=SPEC).magnitude(x, ref_db, iterations=5), SPEC.stft_magnitude(x, ref_db, iterations=5)
    loud = chain > chain.amax() * 1e-3
    torch.testing.assert_close(ours[loud], chain[loud], rtol=1e-3, atol=0)


def test_another_start_is_another_spectrum_of_the_same_picture(picture):
    power = SPEC.power(*picture)[:, 0]
    bins = torch.randn(1, 1025, 1, generator=torch.Generator().manual_seed(0)).exp()
    smooth, rough = kl_nnls(power, SPEC), kl_nnls(power, SPEC, start=bins.expand(2, -1, power.shape[2]))
    triangles = torch.from_numpy(mel_filterbank(22050, 2048, 128)).float()
    for linear in (smooth, rough):
        assert (triangles @ linear - power).abs().sum() < 0.01 * power.sum()
    assert (smooth - rough).norm() > 0.1 * smooth.norm()


def test_its_sounds_have_the_shape_the_level_and_the_repeatability_of_any_inverters(picture):
    x, ref_db = picture
    voice = get_inverter("voice", SPEC)
    y = voice(x, ref_db)
    assert y.shape == (2, SPEC.samples) and y.dtype == torch.float32 and torch.equal(y, voice(x, ref_db))
    assert torch.equal(y, get_inverter("voice", SPEC)(x, ref_db))
    assert 80 * (SPEC.forward(y)[0] - x).abs().mean() < 3
    louder = voice(x, ref_db + 20)  # its phase may settle elsewhere where sums are rounded otherwise; picture and level may not
    (x_same, same_db), (x_louder, louder_db) = SPEC.forward(y), SPEC.forward(louder)
    assert 80 * (x_louder - x_same).abs().mean() < 0.5 and (louder_db - same_db - 20).abs().max() < 0.5
    assert voice(x[..., :20], ref_db).shape == (2, 19 * SPEC.hop)


def test_what_is_black_stays_silent():
    voice = get_inverter("voice", SPEC)
    assert (voice(torch.zeros(1, 1, *SPEC.shape), torch.zeros(1)) == 0).all()


def test_it_goes_on_from_what_was_heard(picture):
    x, ref_db = picture
    past = torch.stack([notes(5), notes(6)])[:, : 12 * SPEC.hop]
    y = get_inverter("voice", SPEC).follow(x, ref_db, past)
    assert torch.equal(y[:, : -SPEC.hop // 4][:, : 11 * SPEC.hop], past[:, : 11 * SPEC.hop])


def test_a_loss_is_least_for_the_truth_and_moves_the_voice(corpus):
    y = torch.stack([notes(5), notes(6)])
    true = stft(y, SPEC).abs()
    assert teaching._distance(true, true) < 0.01 < teaching._distance(true * 1.2, true) < teaching._distance(true * 2, true)
    net = VoiceNet(TINY, SPEC)
    voice_loss(net, y).backward()
    assert net.out.weight.grad.isfinite().all() and net.out.weight.grad.abs().max() > 0
    silent = voice_loss(net, torch.zeros(1, SPEC.samples))
    silent.backward()
    assert silent.isfinite() and all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("n", [20_000, 22_050, 24_001])
def test_music_is_played_faster_or_slower_at_its_level(n):
    hz = 40 * 22050 / n  # forty periods in n samples
    y = torch.sin(2 * torch.pi * hz * torch.arange(n) / 22050)
    made = teaching._stretched(y, SPEC.samples)
    torch.testing.assert_close(made, torch.sin(2 * torch.pi * 40 * torch.arange(SPEC.samples) / SPEC.samples), atol=2e-3, rtol=0)


def test_a_training_that_was_killed_goes_on_bit_for_bit(corpus, tmp_path, monkeypatch):
    straight = train_voice(corpus, tmp_path / "straight", SHORT, config=TINY, spec=SPEC, progress=False)
    step, done = teaching._step, []

    def killed(*args):
        done.append(1)
        if len(done) == 7:  # between the checkpoint after 4 steps and the end
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(teaching, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_voice(corpus, tmp_path / "killed", SHORT, config=TINY, spec=SPEC, progress=False)
    monkeypatch.setattr(teaching, "_step", step)
    resumed = train_voice(corpus, tmp_path / "killed", SHORT, config=TINY, spec=SPEC, progress=False)
    assert same(straight, resumed) and straight.about == resumed.about
    assert [h["step"] for h in resumed.about["history"]] == [0, 4, 8]
    assert not same(straight, VoiceNet(TINY, SPEC))
    again = train_voice(corpus, tmp_path / "killed", SHORT, config=TINY, spec=SPEC, progress=False)  # done already
    assert same(again, resumed)


CHANGES = [dict(config=VoiceConfig(width=4, blocks=1)), dict(training=VoiceTraining(steps=9, batch=2, every=4)),
           dict(spec=MelSpec(seconds=1.0, scale="htk"))]


def test_each_judgement_is_handed_on_once_its_checkpoint_stands(corpus, tmp_path):
    "What stops a training there loses nothing of it."
    told = []

    def stop(judgement):
        told.append((judgement["step"], (tmp_path / "training.safetensors").exists()))
        if judgement["step"] == 4:
            raise KeyboardInterrupt

    begun = dict(training=SHORT, config=TINY, spec=SPEC)
    with pytest.raises(KeyboardInterrupt):
        train_voice(corpus, tmp_path, progress=stop, **begun)
    assert told == [(0, False), (4, True)]
    train_voice(corpus, tmp_path, progress=lambda judgement: told.append(judgement["step"]), **begun)
    assert told[2:] == [8]  # neither of the others once more


@pytest.mark.parametrize("change", CHANGES, ids=["config", "training", "spec"])
def test_a_training_of_other_settings_is_refused(corpus, tmp_path, change):
    begun = dict(training=SHORT, config=TINY, spec=SPEC, progress=False)
    train_voice(corpus, tmp_path, **begun)
    with pytest.raises(ValueError, match=r"cannot go on as another training: (config|training|mel)\.\w+: expected .*, got"):
        train_voice(corpus, tmp_path, **(begun | change))


def test_a_corpus_without_both_parts_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="corpus: expected clips to train on and clips to judge by, got 4 and 0"):
        train_voice(corpus[corpus.split == "train"], tmp_path / "none", SHORT)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("wrong", [dict(steps=0), dict(batch=1.5), dict(every=True)])
def test_a_training_of_no_steps_is_refused(wrong):
    with pytest.raises(ValueError, match=f"VoiceTraining.{next(iter(wrong))}: expected a positive whole number, got"):
        VoiceTraining(**wrong)


def test_a_network_of_even_kernel_or_no_width_is_refused():
    with pytest.raises(ValueError, match="VoiceConfig.kernel: expected an odd number, got 6"):
        VoiceConfig(kernel=6)
    with pytest.raises(ValueError, match="VoiceConfig.width: expected a positive whole number, got 0"):
        VoiceConfig(width=0)


def test_bad_pictures_are_refused_in_one_line(picture):
    x, ref_db = picture
    voice = get_inverter("voice", SPEC)
    for bad in (x[:, :, :64], x[..., :0], x[..., :1], torch.full_like(x, torch.nan), SPEC.magnitude_of(x.clamp_min(1e-6))):
        with pytest.raises(MelError, match="^x[:,]") as refusal:
            voice(bad, ref_db)
        assert "\n" not in str(refusal.value)


def test_pictures_of_another_map_are_refused_and_those_of_another_length_are_not():
    with pytest.raises(MelError, match="voice: expected mel fingerprint"):
        get_inverter("voice", MelSpec(scale="htk"))
    assert get_inverter("voice", MelSpec(seconds=2.0)).spec.seconds == 2


def test_weights_that_are_none_are_refused(tmp_path, picture):
    with pytest.raises(ValueError, match="expected the weights of a voice"):
        load_voice(tmp_path / "nothing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(SHIPPED.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="expected the weights of a voice, got a file that cannot be read"):
        get_inverter("voice", SPEC, weights=cut)
    save_file(dict(w=torch.zeros(3)), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not say what it is"):
        load_voice(tmp_path / "other.safetensors")


def test_a_voice_of_ones_own_is_kept_in_half_precision(tmp_path, picture):
    torch.manual_seed(0)
    net = VoiceNet(TINY, SPEC)
    torch.nn.init.normal_(net.out.weight, std=0.01)
    path = save_voice(net, tmp_path / "mine.safetensors", data_name="notes")
    back = load_voice(path)
    assert back.about["data_name"] == "notes" and back.config == TINY and back.spec == SPEC
    for one, other in zip(net.parameters(), back.parameters(), strict=True):
        assert torch.equal(one.half().float(), other)
    made = get_inverter("voice", SPEC, weights=path, iterations=2)(*picture)
    assert not torch.equal(made, get_inverter("voice", SPEC, iterations=2)(*picture))


def test_the_file_in_the_package_says_what_it_is():
    assert SHIPPED.stat().st_size <= 4e6
    with safe_open(SHIPPED, "pt") as file:
        about = json.loads(file.metadata()["about"])
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert about["fingerprint"] == MelSpec().fingerprint and MelSpec.from_dict(about["mel"]) == MelSpec()
    assert VoiceConfig(**about["config"]) == VoiceConfig() and VoiceTraining(**about["training"]) == VoiceTraining()
    assert about["step"] == about["training"]["steps"] and about["history"][-1]["step"] == about["step"]
    assert about["history"][-1]["valid"] < about["history"][0]["valid"]
    assert "made" in about["data_name"] and "Apache-2.0" in about["licence"] and about["clips"] > 0


def test_the_verdict_was_passed_on_these_weights_and_they_earn_their_place():
    table = pd.read_csv(ROOT / "nbs" / "results" / "error_budget.csv")
    assert (table.weights == sha256(SHIPPED.read_bytes()).hexdigest()[:16]).all()
    gaps = table[table.quantity == "against no network"].set_index(["data", "chain"]).loc[:, "lsd_db":"mel_db_ci"]
    for data in gaps.index.unique("data"):
        gap = gaps.loc[(data, "mel: voice, guessed phase")]
        for measure in ("lsd_db", "transient_db"):
            assert gap[measure] + gap[f"{measure}_ci"] < 0, f"{data}, {measure}: no better than the default"


def test_a_command_sounds_with_the_voice_that_it_is_given(tmp_path):
    path = save_voice(VoiceNet(TINY, SPEC), tmp_path / "own.safetensors")
    assert inverter_of(SPEC, None).net is shipped_voice()
    assert inverter_of(SPEC, path).net.config == TINY
    assert inverter_of(MelSpec(scale="htk"), None).name == "fast-griffinlim"
    with pytest.raises(MelError, match="voice: expected mel fingerprint"):
        inverter_of(MelSpec(scale="htk"), path)
    with pytest.raises(ValueError, match="expected the weights of a voice"):
        inverter_of(SPEC, tmp_path / "nothing.safetensors")


def test_the_command_refuses_what_cannot_teach(tmp_path, corpus, capsys):
    (tmp_path / "music").mkdir()
    assert main(["voice", str(tmp_path / "music"), "--out", str(tmp_path / "out")]) == 1
    assert main(["voice", str(tmp_path / "music"), "--out", str(tmp_path / "out"), "--steps", "0"]) == 2
    assert "music" in (said := capsys.readouterr().err) and "--steps: expected" in said and not (tmp_path / "out").exists()


class Blur(torch.nn.Module):
    "As a model of no detail: each picture is its mean over five frames."

    def __init__(self, spec=SPEC):
        super().__init__()
        self.spec, self.seen = spec, torch.nn.Parameter(torch.ones(1))

    def reconstruct(self, x):
        return torch.nn.functional.avg_pool2d(x, (1, 5), 1, (0, 2), count_include_pad=False)


def test_a_voice_that_may_mend_says_what_it_said_until_it_is_taught(picture):
    torch.manual_seed(0)
    net = VoiceNet(TINY, SPEC)
    torch.nn.init.normal_(net.out.weight, std=0.01)
    mends = mending(net)
    assert mends.config.mends and torch.equal(mends.magnitude(*picture), net.magnitude(*picture))
    with torch.no_grad():
        mends.out.bias[-SPEC.n_mels :] = 0.6  # times 10 dB
        louder = mends.magnitude(*picture, iterations=100)
    before = net.magnitude(*picture, iterations=100)
    loud = before > before.amax((1, 2), keepdim=True) * 0.1
    assert (20 * (louder / before)[loud].log10() - 6).abs().median() < 0.3  # the picture itself, not where its search begins
    assert (mends.magnitude(torch.zeros_like(picture[0]), picture[1]) == 0).all()


def test_the_second_stage_hears_the_model_and_begins_with_the_voice(corpus, tmp_path):
    blur, first = Blur(), train_voice(corpus, tmp_path / "first", SHORT, config=TINY, spec=SPEC, progress=False)
    kept = [p.clone() for p in first.parameters()]
    second = train_voice(corpus, tmp_path / "second", SHORT, begin=first, through=blur, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(kept, first.parameters(), strict=True))
    y = teaching._middle(corpus.path.iloc[-1], SPEC)[None]
    with torch.no_grad():
        begun, ended = (voice_loss(net, y, through=blur).item() for net in (mending(first), second))
    assert begun == pytest.approx(second.about["history"][0]["valid"], rel=1e-5) and ended < begun
    assert ended == pytest.approx(second.about["history"][-1]["valid"], rel=1e-5)
    assert second.config.mends and len(second.about["through"]) == 16 == len(second.about["begin"])
    assert load_voice(save_voice(second, tmp_path / "second.safetensors")).config == second.config
    other = Blur()
    torch.nn.init.zeros_(other.seen)
    with pytest.raises(ValueError, match="cannot go on as another training: through: expected "):
        train_voice(corpus, tmp_path / "second", SHORT, begin=first, through=other, progress=False)
    with pytest.raises(ValueError, match="cannot go on as another training: config.mends: expected False, got True"):
        train_voice(corpus, tmp_path / "first", SHORT, config=TINY, spec=SPEC, through=blur, progress=False)


def test_a_second_stage_of_what_does_not_fit_is_refused(corpus, tmp_path):
    with pytest.raises(MelError, match="through: expected mel fingerprint"):
        train_voice(corpus, tmp_path / "out", SHORT, config=TINY, spec=SPEC, through=Blur(MelSpec(seconds=1.0, scale="htk")))
    with pytest.raises(ValueError, match="begin: expected no config and no spec beside it"):
        train_voice(corpus, tmp_path / "out", SHORT, config=TINY, begin=VoiceNet(TINY, SPEC))
    with pytest.raises(ValueError, match="VoiceConfig.mends: expected True or False, got 1"):
        VoiceConfig(mends=1)
    assert not (tmp_path / "out").exists()


def test_the_bands_of_true_magnitudes_are_the_pictures():
    y = torch.stack([notes(5), notes(6)])
    bands, power = teaching._bands(stft(y, SPEC).abs(), SPEC), SPEC.mel_power(y)
    torch.testing.assert_close(bands.square(), power.view_as(bands), rtol=1e-3, atol=1e-6)
