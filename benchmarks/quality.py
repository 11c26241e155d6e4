"""Reconstruction and ELBO of the presets beside their baselines, over seeds, latent sizes and kinds of unseen music.

    python benchmarks/quality.py DATA [--models transform ...] [--latent-dims 64 512 1024 2048] [--seeds 3] [--artist 64 512]

A seed is a split and a training: every seed divides the corpus anew (by clip: other clips, perhaps of known artists; by
artist: other artists), fits the baselines and trains the presets on its training part, and judges all on its test part.
The transform is judged as the preset `transform` is before its first step: through the Softplus and the leak, noise scales
by the band.
The paper's network gets the floating-point operations of `transform` (`step_flops`), rounded up to whole epochs, and the
same start: the mean spectrum. Models without units have the latent size 0. Rows go to `nbs/results/quality.csv`, one a model;
those that are there, made from the same, are skipped: a killed run goes on.
"""
import argparse
import math
import tempfile
from itertools import product
from pathlib import Path

import torch
from ledger import Ledger

from musevae.corpus import load_corpus, split_clips
from musevae.evaluation import judge
from musevae.fitting import fit
from musevae.mel import MelSpec
from musevae.presets import preset
from musevae.reconstruction import errors
from musevae.training import step_flops
from musevae.vae import ColouredGaussian, ConvVAE, PCABaseline, SeparableTransform
from musevae.windows import mel_windows

LEDGER = Ledger("quality", ["model", "split", "latent_dim", "seed"])
MEASURE = {"separable transform": 2}  # goes up from 1 with what is measured, or how
WITHOUT_UNITS = ("one grey level", "mean spectrum", "coloured Gaussian")
SIZES = {"linear filters": (512,), "the paper's network": (512,)}  # where not every latent size is measured


def ppca_nats(x, x_valid, x_test, d):
    """Evidence of probabilistic PCA on the test windows, nats per window: the bound that a full linear VAE attains.

    With fewer windows than dimensions the noise left outside d components is next to none, and so is the evidence: of
    ranks up to d, that which the validation windows like best is taken.
    """
    n, features = len(x), x[0].numel()
    flat = x.flatten(1).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean) @ (flat - mean).T / n)
    values, vectors = values.flip(0), vectors.flip(1)
    most = min(d, n - 2)
    basis = ((flat - mean).T @ vectors[:, :most] / (n * values[:most]).sqrt()).T

    def evidence(windows, rank):
        noise = values[rank:].sum() / (features - rank)
        rest = windows.flatten(1).double() - mean
        inside = (rest @ basis[:rank].T).square()
        outside = rest.square().sum(1) - inside.sum(1)
        log_det = values[:rank].log().sum() + (features - rank) * noise.log()
        quadratic = (inside / values[:rank]).sum(1) + outside / noise
        return (-(features * math.log(2 * math.pi) + log_det + quadratic) / 2).mean().item()

    ranks = sorted({min(most, 2**k) for k in range(3, 12)})
    best = max(ranks, key=lambda rank: evidence(x_valid, rank))
    return dict(elbo_nats=evidence(x_test, best), rank=best)


def without_units(name, x, x_test):
    "What a model that knows nothing of a window says of it: the error of its picture, or its evidence."
    if name == "coloured Gaussian":
        return dict(elbo_nats=ColouredGaussian.fit(x).log_evidence(x_test).mean().item())
    picture = SeparableTransform.fit(x, 0).profile if name == "mean spectrum" else x.mean()
    return dict(rmse_db=errors(x_test, picture.expand_as(x_test)).rmse_db)


def budget(d):
    "The preset `paper` cut to the floating-point operations that `transform` takes on the same windows, and begun as it is."
    x, ours = torch.zeros(4, 1, *MelSpec().shape), preset("transform", latent_dim=d)
    cost = {n: step_flops(ConvVAE(preset(n, latent_dim=d).vae), x) for n in ("transform", "paper")}
    share = cost["transform"] / cost["paper"]
    return preset("paper", latent_dim=d, profile=True, per_band=True, epochs=math.ceil(ours.train.epochs * share),
                  warmup_steps=math.ceil(ours.train.warmup_steps * share), average=ours.train.average, batch_size=32,
                  learning_rate=3e-4, anneal="constant")


PRESETS = {
    "demo": lambda d: preset("demo", latent_dim=d),
    "transform": lambda d: preset("transform", latent_dim=d),
    "transform, one noise scale": lambda d: preset("transform", latent_dim=d, per_band=False),
    "linear filters": lambda d: preset("transform", latent_dim=d, linear_filters=True),
    "separable transform": lambda d: preset("linear", latent_dim=d, per_band=True),
    "the paper's network": budget,
}


def made_from(model, split, latent_dim, seed):
    "The settings that a row of these labels is made from."
    chosen = PRESETS[model](int(latent_dim)) if model in PRESETS else None
    name = "transform" if model == "transform, one noise scale" else model
    return dict(measure=MEASURE.get(model, 1), model=name, split=split, d=int(latent_dim), seed=int(seed), preset=chosen)


def judged(vae, x, x_valid, x_test, config, seed):
    "Train a model and judge the best of it, by the validation windows, on the test windows."
    with tempfile.TemporaryDirectory() as out:
        table = fit(vae, x, x_valid, config, Path(out), seed=seed, progress=False)
        best = ConvVAE.from_pretrained(Path(out) / "model")
    found = judge(best, x_test)
    return dict(rmse_db=found.rmse_db, elbo_nats=found.elbo_nats, rate_nats=found.rate_nats,
                epochs=config.epochs, kept_epoch=int(table.epoch[table.valid_elbo_nats.idxmax()]))


def at_start(chosen, x, x_test):
    "A preset judged before its first step."
    found = judge(ConvVAE(chosen.vae).initialise(x), x_test)
    return dict(rmse_db=found.rmse_db, elbo_nats=found.elbo_nats, rate_nats=found.rate_nats)


def trained(chosen, x, x_valid, x_test, seed):
    "`judged` of a preset."
    torch.manual_seed(seed)
    return judged(ConvVAE(chosen.vae).initialise(x), x, x_valid, x_test, chosen.train, seed)


def measure(model, d, seed, x, x_valid, x_test):
    "The figures of a row."
    if model in WITHOUT_UNITS:
        return without_units(model, x, x_test)
    if model == "PCA":
        found = PCABaseline.fit(x, d)
        return dict(rmse_db=errors(x_test, found.reconstruct(x_test)).rmse_db) | ppca_nats(x, x_valid, x_test, d)
    chosen = PRESETS[model](d)
    return at_start(chosen, x, x_test) if model == "separable transform" else trained(chosen, x, x_valid, x_test, seed)


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--models", nargs="+", default=[*WITHOUT_UNITS, "PCA", "separable transform", "transform", "demo",
                                                        "linear filters", "the paper's network"])
    parser.add_argument("--latent-dims", type=int, nargs="+", default=[64, 512, 1024, 2048])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", nargs="+", default=["clip", "artist"])
    parser.add_argument("--artist", type=int, nargs="*", default=[64, 512], help="latent sizes to split by artist at")
    args = parser.parse_args()
    corpus = load_corpus(args.data, on_fault="ignore")
    for split, seed in product(args.splits, args.seeds):
        windows = mel_windows(split_clips(corpus, scheme=split, seed=seed), progress=False)
        x, x_valid, x_test = (windows.select(s).tensor() for s in ("train", "valid", "test"))
        sizes = args.latent_dims if split == "clip" else args.artist
        for model in args.models:
            few = SIZES.get(model, sizes) if split == "clip" or model not in SIZES else ()
            for d in (0,) if model in WITHOUT_UNITS else [d for d in sizes if d in few]:
                row = dict(model=model, split=split, latent_dim=d, seed=seed)
                made = made_from(**row)
                if LEDGER.has(row, made, windows.key):
                    continue
                figures = {k: round(v, 4) for k, v in measure(model, d, seed, x, x_valid, x_test).items()}
                counts = dict(windows=len(x), unseen=len(x_test), data=Path(args.data).name)
                LEDGER.add(row | counts | figures, made, data=windows.key, seeds=seed)
                print(row | figures, flush=True)


if __name__ == "__main__":
    main()
