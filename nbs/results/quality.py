"""Reconstruction and ELBO of the presets beside their baselines, over seeds, latent sizes and kinds of unseen music.

    python nbs/results/quality.py DATA [--latent-dims 64 512 1024 2048] [--seeds 3] [--artist 64 512] [--paper 512]

A seed is a split and a training: every seed divides the corpus anew (by clip: other clips, perhaps of known artists; by
artist: other artists), fits the baselines and trains the preset on its training part, and judges all on its test part.
The paper's network gets the floating-point operations of `demo` (`step_flops`), rounded up to whole epochs. Appends to
`quality.csv` beside this file, one row a model, and skips the rows that are there: a killed run goes on.
"""
import argparse
import math
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch.distributions import Normal

from musevae.corpus import load_corpus, split_clips
from musevae.elbo import elbo
from musevae.mel import mel_windows
from musevae.reconstruction import errors
from musevae.training import evaluate_windows, fit, noise_of, preset, step_flops
from musevae.vae import ConvVAE, PCABaseline, SeparableTransform

OUT = Path(__file__).with_name("quality.csv")
KEY = ["model", "split", "latent_dim", "seed"]


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


@torch.no_grad()
def linear_vae(transform, x, seed):
    "ELBO in nats and rate of a `SeparableTransform` as a VAE with its own noise."
    mean, logvar = transform.posterior(x)
    q = Normal(mean, (logvar / 2).exp())
    z = mean + q.stddev * noise_of(0, mean.shape, seed)
    bound = elbo(x, transform.decode(z), q, scale=transform.noise.sqrt())
    return dict(elbo_nats=bound.nats.item(), rate_nats=bound.rate.item())


def judged(vae, x, x_valid, x_test, config, seed):
    "Train a model and judge the best of it, by the validation windows, on the test windows."
    with tempfile.TemporaryDirectory() as out:
        table = fit(vae, x, x_valid, config, Path(out), seed=seed, progress=False)
        best = ConvVAE.from_pretrained(Path(out) / "model")
    result = evaluate_windows(best, x_test)
    return dict(rmse_db=result["rmse_db"], elbo_nats=result["elbo"], rate_nats=result["rate"],
                epochs=config.epochs, kept_epoch=int(table.epoch[table.valid_elbo.idxmax()]))


def trained(name, x, x_valid, x_test, seed, **changes):
    "`judged` of a preset."
    chosen = preset(name, **changes)
    torch.manual_seed(seed)
    return judged(ConvVAE(chosen.vae).initialise(x), x, x_valid, x_test, chosen.train, seed)


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--latent-dims", type=int, nargs="+", default=[64, 512, 1024, 2048])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", nargs="+", default=["clip", "artist"])
    parser.add_argument("--artist", type=int, nargs="*", default=[64, 512], help="latent sizes to split by artist at")
    parser.add_argument("--paper", type=int, nargs="*", default=[512], help="latent sizes to train the paper's at")
    args = parser.parse_args()
    rows = pd.read_csv(OUT).to_dict("records") if OUT.exists() else []
    corpus = load_corpus(args.data, on_fault="ignore")
    for split in args.splits:
        for seed in range(args.seeds):
            windows = mel_windows(split_clips(corpus, scheme=split, seed=seed), progress=False)
            x, x_valid, x_test = (windows.select(s).tensor() for s in ("train", "valid", "test"))
            sizes = dict(windows=len(x), unseen=len(x_test))
            for d in args.latent_dims if split == "clip" else args.artist:

                def add(model, measure, d=d, split=split, seed=seed, sizes=sizes):
                    row = dict(model=model, split=split, latent_dim=d, seed=seed)
                    if any(all(r[k] == row[k] for k in KEY) for r in rows):
                        return
                    rows.append(row | sizes | measure())
                    print(rows[-1], flush=True)
                    table = pd.DataFrame(rows).assign(data=Path(args.data).name)
                    table.round(4).to_csv(OUT, index=False)

                def separable(x=x, x_test=x_test, d=d, seed=seed):
                    transform = SeparableTransform.fit(x, d)
                    rmse = errors(x_test, transform.reconstruct(x_test)).rmse_db
                    return dict(rmse_db=rmse) | linear_vae(transform, x_test, seed)

                def pca(x=x, x_valid=x_valid, x_test=x_test, d=d):
                    found = PCABaseline.fit(x, d)
                    return dict(rmse_db=errors(x_test, found.reconstruct(x_test)).rmse_db) | ppca_nats(x, x_valid, x_test, d)

                def network(name, x=x, x_valid=x_valid, x_test=x_test, seed=seed, d=d, **changes):
                    return trained(name, x, x_valid, x_test, seed, latent_dim=d, **changes)

                def paper(x=x, d=d, network=network):
                    cost = {n: step_flops(ConvVAE(preset(n, latent_dim=d).vae), x[:4]) for n in ("demo", "paper")}
                    epochs = math.ceil(preset("demo").train.epochs * cost["demo"] / cost["paper"])
                    return network("paper", epochs=epochs, batch_size=32, learning_rate=3e-4, anneal="constant")

                add("PCA", pca)
                add("separable transform", separable)
                add("demo", lambda network=network: network("demo"))
                if d in args.paper and split == "clip":
                    add("the paper's network", paper)


if __name__ == "__main__":
    main()
