"""Reconstruction and ELBO of the presets beside their baselines, over seeds, latent sizes and kinds of unseen music.

    python benchmarks/quality.py DATA [--latent-dims 64 512 1024 2048] [--seeds 3] [--artist 64 512] [--paper 512]

A seed is a split and a training: every seed divides the corpus anew (by clip: other clips, perhaps of known artists; by
artist: other artists), fits the baselines and trains the preset on its training part, and judges all on its test part.
The paper's network gets the floating-point operations of `demo` (`step_flops`), rounded up to whole epochs. Rows go to
`nbs/results/quality.csv`, one a model; those that are there, made from the same, are skipped: a killed run goes on.
"""
import argparse
import math
import tempfile
from pathlib import Path

import torch
from ledger import Ledger
from torch.distributions import Normal

from musevae.corpus import load_corpus, split_clips
from musevae.elbo import elbo
from musevae.mel import MelSpec, mel_windows
from musevae.reconstruction import errors
from musevae.training import evaluate_windows, fit, noise_of, preset, step_flops
from musevae.vae import ConvVAE, PCABaseline, SeparableTransform

LEDGER = Ledger("quality", ["model", "split", "latent_dim", "seed"])
MEASURE = 1  # goes up with what is measured, or how


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


def budget(d):
    "The preset `paper` cut to the floating-point operations that `demo` takes on the same windows."
    x = torch.zeros(4, 1, *MelSpec().shape)
    cost = {n: step_flops(ConvVAE(preset(n, latent_dim=d).vae), x) for n in ("demo", "paper")}
    epochs = math.ceil(preset("demo").train.epochs * cost["demo"] / cost["paper"])
    return preset("paper", latent_dim=d, epochs=epochs, batch_size=32, learning_rate=3e-4, anneal="constant")


def made_from(model, split, latent_dim, seed):
    "The settings that a row of these labels is made from."
    d = int(latent_dim)
    chosen = {"demo": lambda: preset("demo", latent_dim=d), "the paper's network": lambda: budget(d)}.get(model)
    return dict(measure=MEASURE, model=model, split=split, d=d, seed=int(seed), preset=chosen and chosen())


def judged(vae, x, x_valid, x_test, config, seed):
    "Train a model and judge the best of it, by the validation windows, on the test windows."
    with tempfile.TemporaryDirectory() as out:
        table = fit(vae, x, x_valid, config, Path(out), seed=seed, progress=False)
        best = ConvVAE.from_pretrained(Path(out) / "model")
    result = evaluate_windows(best, x_test)
    return dict(rmse_db=result["rmse_db"], elbo_nats=result["elbo"], rate_nats=result["rate"],
                epochs=config.epochs, kept_epoch=int(table.epoch[table.valid_elbo.idxmax()]))


def trained(chosen, x, x_valid, x_test, seed):
    "`judged` of a preset."
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
    corpus = load_corpus(args.data, on_fault="ignore")
    for split in args.splits:
        for seed in range(args.seeds):
            windows = mel_windows(split_clips(corpus, scheme=split, seed=seed), progress=False)
            x, x_valid, x_test = (windows.select(s).tensor() for s in ("train", "valid", "test"))
            sizes = dict(windows=len(x), unseen=len(x_test))
            for d in args.latent_dims if split == "clip" else args.artist:

                def add(model, measure, d=d, split=split, seed=seed, sizes=sizes, windows=windows):
                    row = dict(model=model, split=split, latent_dim=d, seed=seed)
                    made = made_from(**row)
                    if LEDGER.has(row, made, windows.key):
                        return
                    figures = {k: round(v, 4) for k, v in measure().items()}
                    LEDGER.add(row | sizes | figures | dict(data=Path(args.data).name), made, data=windows.key, seeds=seed)
                    print(row | figures, flush=True)

                def separable(x=x, x_test=x_test, d=d, seed=seed):
                    transform = SeparableTransform.fit(x, d)
                    rmse = errors(x_test, transform.reconstruct(x_test)).rmse_db
                    return dict(rmse_db=rmse) | linear_vae(transform, x_test, seed)

                def pca(x=x, x_valid=x_valid, x_test=x_test, d=d):
                    found = PCABaseline.fit(x, d)
                    return dict(rmse_db=errors(x_test, found.reconstruct(x_test)).rmse_db) | ppca_nats(x, x_valid, x_test, d)

                def network(chosen, x=x, x_valid=x_valid, x_test=x_test, seed=seed):
                    return trained(chosen, x, x_valid, x_test, seed)

                add("PCA", pca)
                add("separable transform", separable)
                add("demo", lambda network=network, d=d: network(preset("demo", latent_dim=d)))
                if d in args.paper and split == "clip":
                    add("the paper's network", lambda network=network, d=d: network(budget(d)))


if __name__ == "__main__":
    main()
