"""What one noise scale a mel band is worth on clips it was not fitted to, over one scale for all bands.

    python benchmarks/noise_scale.py DATA [--seeds 0 1 2]

The closed form (preset `linear`: no filters, nothing trained), on the corpus DATA and on the made corpus, each divided by clip
with several seeds: its bound on the test windows with scales from the training windows. About a minute on one core. Rows go to
`nbs/results/noise_scale.csv`, one a corpus, latent size and seed; those that are there, made from the same, are skipped.
"""
import argparse

from corpora import divided
from ledger import Ledger

from musevae.evaluation import judge
from musevae.presets import preset
from musevae.vae import ConvVAE

LEDGER = Ledger("noise_scale", ["data", "latent_dim", "seed"])
MEASURE = 1  # goes up with what is measured, or how


def made_from(data, latent_dim, seed):
    "The settings that a row of these labels is made from."
    return dict(measure=MEASURE, data=data, seed=int(seed), preset=preset("linear", latent_dim=int(latent_dim)))


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    for name, seed, windows in divided(args.data, args.seeds):
        x, x_test = (windows.select(s).tensor() for s in ("train", "test"))
        for d in (64, 512, 2048):
            labels = dict(data=name, latent_dim=d, seed=seed)
            if LEDGER.has(labels, made_from(**labels), windows.key):
                continue
            closed = {per_band: ConvVAE(preset("linear", latent_dim=d, per_band=per_band).vae) for per_band in (False, True)}
            nats = {per_band: judge(vae.initialise(x), x_test).elbo_nats for per_band, vae in closed.items()}
            row = dict(windows=len(x), unseen=len(x_test), one_scale=round(nats[False], 1), scale_a_band=round(nats[True], 1))
            LEDGER.add(labels | row, made_from(**labels), data=windows.key, seeds=seed)
            print(labels | row, flush=True)


if __name__ == "__main__":
    main()
