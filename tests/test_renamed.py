"One word, one meaning: names that had two answer under the old one with a deprecation, and no key or folder notices."
import copy
import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from made import SPEC, TINY, made_windows, model, pictures

from musevae import renamed_arguments, renamed_attributes
from musevae.evaluation import judge
from musevae.generation import interpolate, sample
from musevae.latent import LatentPCA, encode_corpus, unit_effects
from musevae.presets import PRESETS, configure, preset, read_settings
from musevae.runs import RunError, load_run, train
from musevae.store import key_of
from musevae.training import TrainConfig
from musevae.vae import VAE, SeparableTransform, VAEConfig
from musevae.vae.likelihood import Gaussian
from musevae.vae.parts import Absent, MagnitudeDecoder, SeparableDecoder, softplus_link
from musevae.vae.prior import StandardNormal

sys.path.insert(0, str(ROOT / "benchmarks"))
from ledger import settings  # noqa: E402


def test_the_helpers_serve_old_names_and_say_the_new_ones():
    class Thing:
        def __init__(self, *, size=1):
            self.size = size

        @classmethod
        def of(cls, *, size):
            return cls(size=size)

        def double(self):
            return 2 * self.size

    renamed_attributes(Thing, width="size", twice="double")
    renamed_arguments(Thing, width="size")
    renamed_arguments(Thing, "of", width="size")
    thing = Thing.of(size=3)
    for old in (lambda: thing.width, lambda: Thing(width=3).size, lambda: Thing.of(width=3).size):
        with pytest.warns(DeprecationWarning, match="width is .*size now") as told:
            assert old() == 3
        assert told[0].filename == __file__  # where the old name stands
    with pytest.warns(DeprecationWarning, match="Thing.twice is Thing.double now"):
        assert thing.twice() == 6
    with pytest.raises(TypeError, match="height"):
        Thing(height=1)


def test_a_transform_answers_by_the_words_it_shared_with_the_model():
    x = pictures(20)
    t = SeparableTransform.fit(x, 9)
    c = t.coefficients(x)
    for old, new, given in (("picture", "inverse", c), ("decode", "mean_picture", c), ("posterior", "mean_logvar", x)):
        with pytest.warns(DeprecationWarning, match=f"SeparableTransform.{old} is SeparableTransform.{new} now"):
            found = getattr(t, old)(given)
        assert all(torch.equal(a, b) for a, b in zip(found, getattr(t, new)(given), strict=True))
    vae = model()
    with pytest.warns(DeprecationWarning, match="ConvVAE.linear is ConvVAE.transform now"):
        assert vae.linear is vae.transform is vae.decoder.path.closed.transform
    vae = VAEConfig(6, filter_blocks=0, likelihood="coloured", per_band=False, global_dim=2).build(SPEC).initialise(x)
    z, path = torch.zeros(1, 6), vae.decoder.path.closed
    with pytest.warns(DeprecationWarning, match="GlobalDecoder.linear is GlobalDecoder.mean_picture now"):
        assert torch.equal(path.linear(z), path.mean_picture(z))


def test_components_answer_by_scale():
    z, weights = np.random.default_rng(0).standard_normal((20, 3)), np.array([1.0, 2.0, 0.5])
    new = LatentPCA.fit(z, unit_weights=weights)
    with pytest.warns(DeprecationWarning, match="LatentPCA: the argument scale is unit_weights now"):
        old = LatentPCA.fit(z, scale=weights)
    with pytest.warns(DeprecationWarning, match="LatentPCA.scale is LatentPCA.unit_weights now"):
        assert np.array_equal(old.scale, weights)
    assert np.array_equal(old.transform(z), new.transform(z))
    with pytest.warns(DeprecationWarning, match="unit_weights"):
        assert np.array_equal(LatentPCA(new.center, components=z, scale=weights, explained_variance=z,
                                        explained_variance_ratio=z).unit_weights, weights)


def test_a_fixed_noise_scale_answers_by_scale():
    with pytest.warns(DeprecationWarning, match="TrainConfig: the argument scale is noise_scale now"):
        assert TrainConfig(scale=0.1) == TrainConfig(noise_scale=0.1)
    with pytest.warns(DeprecationWarning, match="TrainConfig"):
        assert replace(PRESETS["code"].train, scale=None) == replace(PRESETS["code"].train, noise_scale=None)
    with pytest.warns(DeprecationWarning, match="TrainConfig.scale is TrainConfig.noise_scale now"):
        assert PRESETS["code"].train.scale == 13.824
    for old in (lambda: preset("code", scale=None), lambda: configure("code", **{"train.scale": None})[0]):
        with pytest.warns(DeprecationWarning, match="scale is train.noise_scale now"):
            assert old() == preset("code", noise_scale=None)
    with pytest.warns(DeprecationWarning, match="train.scale is train.noise_scale now"):
        assert read_settings(["train.scale=0.1"]) == {"train.noise_scale": 0.1}
    assert configure("code", scale="htk")[1].scale == "htk"  # of the mel scale, and of nothing else
    with pytest.raises(ValueError, match="mel.scale: expected a word, got 0.1"):
        configure("code", scale=0.1)
    with pytest.raises(ValueError, match="TrainConfig.noise_scale: expected a number > 0, got 0"):
        TrainConfig(noise_scale=0)


# before the field was renamed; JSON knows no infinite norm of a gradient
RECORDED = {"transform": "1de69ebc1b258867", "gtzan": "bfeacdab4028e0aa", "paper": "d53fcf729a2bcbdd", "code": "9e15f08424454739"}


def test_no_key_notices():
    "Keys of demo runs and of stored tables are made of the names that fields had first."
    trains = {name: PRESETS[name].train for name in RECORDED}
    # as it was when the key was recorded
    trains["gtzan"] = replace(trains["gtzan"], weight_decay=TrainConfig().weight_decay, prior_steps=0)
    found = {name: key_of(replace(t, clip_norm=min(9.0, t.clip_norm)).identity()) for name, t in trains.items()}
    assert found == RECORDED
    assert settings(PRESETS["code"])["train"]["scale"] == repr(13.824) and "noise_scale" not in settings(PRESETS["code"])["train"]


def test_a_run_of_yesterday_loads_and_goes_on(tmp_path):
    windows, out = made_windows(), tmp_path / "run"
    asked = TINY | dict(noise_scale=0.1, epochs=1)
    train(windows, out, **asked)
    config = json.loads((out / "config.json").read_text())
    old = copy.deepcopy(config)
    old["train"]["scale"] = old["train"].pop("noise_scale")
    (out / "config.json").write_text(json.dumps(old))
    assert TrainConfig(**load_run(out).config["train"]).noise_scale == 0.1
    longer = train(windows, out, resume=True, **asked | dict(epochs=2))
    assert longer.metrics["epoch"].tolist() == [0, 1, 2] and longer.config["train"]["noise_scale"] == 0.1
    with pytest.raises(RunError, match="train.noise_scale: expected 0.1, got 0.2"):
        train(windows, out, resume=True, **asked | dict(noise_scale=0.2))
    assert set(TrainConfig().to_dict()) == set(config["train"])


class Closed(torch.nn.Module):
    "The closed form's posterior, without a weight to learn."

    def __init__(self, transform):
        super().__init__()
        self.lent = (transform,)

    def forward(self, x):
        mean, logvar = self.lent[0].mean_logvar(x)
        return mean, (logvar / 2).exp()


def test_a_model_without_weights_stands_somewhere_and_serves():
    windows = made_windows()
    transform = SeparableTransform.fit(windows.tensor(), 6)
    vae = VAE(Closed(transform), StandardNormal(6), MagnitudeDecoder(SeparableDecoder(transform, softplus_link, Absent()), SPEC),
              Gaussian(SPEC.shape), SPEC)
    assert not list(vae.parameters()) and vae.device == torch.device("cpu")
    x = windows.tensor()[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert interpolate(vae, x[0], x[1], 3).shape == (3, 1, *SPEC.shape) and sample(vae, 2).shape == (2, 1, *SPEC.shape)
        latents = encode_corpus(vae, windows)
        assert judge(vae, windows).rmse_db > 0 and unit_effects(vae, latents.mean, probes=4).shape == (6,)
    from musevae.evaluation import device_of

    with pytest.warns(DeprecationWarning, match="vae.device"):
        assert device_of(vae) == vae.device
