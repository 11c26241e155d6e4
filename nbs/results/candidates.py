"""Candidates for chapter 4, trained at equal compute on one corpus and judged on clips they have not seen.

    python nbs/results/candidates.py DATA [--epochs 30] [--seeds 2] [--latent-dim 512]

Each candidate gets the floating-point operations (counted, not timed) that the preset `demo` needs for `--epochs`
epochs, rounded to whole epochs of its own. Writes `candidates.csv` beside this file: one row a candidate and seed.
"""
import argparse
from pathlib import Path

import pandas as pd
import torch
from quality import judged

from musevae.corpus import load_corpus, split_clips
from musevae.mel import mel_windows
from musevae.reconstruction import errors
from musevae.training import TrainConfig, step_flops
from musevae.vae import ConvVAE, PCABaseline, SeparableTransform, VAEConfig

ALONE = dict(linear=False, filter_blocks=0)
CANDIDATES = {
    "linear path + filters (ours)": ({}, 1.5e-3),
    "linear path + time-convolutions": (dict(filter_blocks=0, network="time"), 5e-4),
    "linear path + 2-D convolutions": (dict(filter_blocks=0, network="image"), 5e-4),
    "time-convolutions": (dict(ALONE, network="time"), 1e-3),
    "2-D convolutions": (dict(ALONE, network="image"), 1e-3),
    "the paper's network": (dict(ALONE, network="paper", profile=False), 3e-4),
}


def main():
    "Train all candidates and write the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--latent-dim", type=int, default=512)
    args = parser.parse_args()
    corpus = split_clips(load_corpus(args.data, on_fault="ignore"), seed=0)
    windows = mel_windows(corpus)
    x, x_valid, x_test = (windows.select(s).tensor() for s in ("train", "valid", "test"))
    d, rows = args.latent_dim, []

    for name, model in (("PCA", PCABaseline), ("separable transform", SeparableTransform)):
        rows.append(dict(model=name, rmse_db=errors(x_test, model.fit(x, d).reconstruct(x_test)).rmse_db, epochs=0))
    budget = None
    for name, (fields, rate) in CANDIDATES.items():
        for seed in range(args.seeds):
            torch.manual_seed(seed)
            vae = ConvVAE(VAEConfig(latent_dim=d, **fields), windows.spec).initialise(x)
            cost = step_flops(vae, x[:4])
            budget = budget or cost * args.epochs
            config = TrainConfig(epochs=max(1, round(budget / cost)), learning_rate=rate)
            result = judged(vae, x, x_valid, x_test, config, seed)
            result.pop("kept_epoch")
            rows.append(dict(model=name, seed=seed, gflop_a_window=cost / 1e9,
                             million_weights=sum(p.numel() for p in vae.parameters()) / 1e6) | result)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(data=Path(args.data).name, windows=len(x), unseen=len(x_test), latent_dim=d)
    table.round(4).to_csv(Path(__file__).with_name("candidates.csv"), index=False)


if __name__ == "__main__":
    main()
