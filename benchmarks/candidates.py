"""Candidates for chapter 4, trained at equal compute on one corpus and judged on clips they have not seen.

    python benchmarks/candidates.py DATA [--seeds 2] [--latent-dim 512]

Each candidate gets the floating-point operations (counted, not timed) that the preset `transform` needs, rounded to whole epochs
of its own, and warms up for the same share of its steps. All decode around the mean spectrum, with one noise scale for all
bands. Rows go to `nbs/results/candidates.csv`, one a candidate and seed; those that are there, made from the same, are skipped.
"""
import argparse
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from ledger import Ledger
from quality import judged, without_units

from musevae.corpus import load_corpus, split_clips
from musevae.mel import MelSpec
from musevae.presets import preset
from musevae.reconstruction import errors
from musevae.training import TrainConfig, step_flops
from musevae.vae import ConvVAE, PCABaseline, SeparableTransform, VAEConfig
from musevae.windows import mel_windows

WHITE = dict(per_band=False)
ALONE = dict(WHITE, linear=False, filter_blocks=0)
CANDIDATES = {
    "linear path + filters (ours)": (WHITE, 1.5e-3),
    "linear path + time-convolutions": (dict(WHITE, filter_blocks=0, network="time"), 5e-4),
    "linear path + 2-D convolutions": (dict(WHITE, filter_blocks=0, network="image"), 5e-4),
    "time-convolutions": (dict(ALONE, network="time"), 1e-3),
    "2-D convolutions": (dict(ALONE, network="image"), 1e-3),
    "the paper's network": (dict(ALONE, network="paper"), 3e-4),
}


BASELINES = {"PCA": PCABaseline, "separable transform": SeparableTransform}
PLAIN = ("one grey level", "mean spectrum", "coloured Gaussian")  # without units
LEDGER = Ledger("candidates", ["model", "seed"])
MEASURE = 1  # goes up with what is measured, or how
LATENT_DIM = 512


@cache
def cost_of(name):
    "Floating-point operations of a candidate's step, per window."
    vae = ConvVAE(VAEConfig(latent_dim=LATENT_DIM, **CANDIDATES[name][0]), MelSpec())
    return step_flops(vae, torch.zeros(4, 1, *MelSpec().shape))


def training(name):
    "How a candidate is trained: as many operations as `transform` takes, at its own learning rate."
    budget = preset("transform").train.epochs * cost_of(next(iter(CANDIDATES)))
    share = budget / cost_of(name) / preset("transform").train.epochs
    config = TrainConfig(epochs=max(1, round(budget / cost_of(name))), learning_rate=CANDIDATES[name][1])
    return replace(config, warmup_steps=max(1, round(share * config.warmup_steps))) if "paper" in name else config


def made_from(model, seed):
    "The settings that a row of these labels is made from."
    if model in BASELINES or model in PLAIN:
        return dict(measure=MEASURE, model=model, d=LATENT_DIM)
    config = VAEConfig(latent_dim=LATENT_DIM, **CANDIDATES[model][0])
    return dict(measure=MEASURE, model=model, seed=int(seed), vae=config, train=training(model))


def main():
    "Train what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    windows = mel_windows(split_clips(load_corpus(args.data, on_fault="ignore"), seed=0))
    x, x_valid, x_test = (windows.select(s).tensor() for s in ("train", "valid", "test"))

    def baseline(name, seed):
        return dict(rmse_db=errors(x_test, BASELINES[name].fit(x, LATENT_DIM).reconstruct(x_test)).rmse_db, epochs=0)

    def candidate(name, seed):
        torch.manual_seed(seed)
        vae = ConvVAE(VAEConfig(latent_dim=LATENT_DIM, **CANDIDATES[name][0]), windows.spec).initialise(x)
        size = sum(p.numel() for p in vae.parameters()) / 1e6
        result = judged(vae, x, x_valid, x_test, training(name), seed)
        result.pop("kept_epoch")
        return dict(gflop_a_window=cost_of(name) / 1e9, million_weights=size) | result

    def plain(name, seed):
        return without_units(name, x, x_test) | dict(epochs=0)

    jobs = [(plain, name, "") for name in PLAIN] + [(baseline, name, "") for name in BASELINES]
    jobs += [(candidate, name, seed) for name in CANDIDATES for seed in range(args.seeds)]
    for measure, name, seed in jobs:
        labels = dict(model=name, seed=seed)
        if LEDGER.has(labels, made_from(**labels), windows.key):
            continue
        figures = {k: round(v, 4) for k, v in measure(name, seed).items()}
        sizes = dict(windows=len(x), unseen=len(x_test), latent_dim=LATENT_DIM, data=Path(args.data).name)
        LEDGER.add(labels | figures | sizes, made_from(**labels), data=windows.key, seeds=seed)
        print(labels | figures, flush=True)


if __name__ == "__main__":
    main()
