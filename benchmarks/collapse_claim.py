"""Do annealing and a higher latent dimension prevent posterior collapse? Two losses × two schedules × latent sizes × seeds.

    python benchmarks/collapse_claim.py [--latent-dims 64 1024] [--seeds 0 1 2] [--epochs 3]

The paper names both as what avoided collapse (sections 4.4 and 5.2). Here a network is trained from scratch on the made
corpus, the same in everything but four things. The loss: the ELBO, its noise calibrated; or the averaged loss of the
paper's public code, mean |x − x̂| + 5e-4 · KL, a Laplace of scale 13.8. The schedule: constant, or a line from 0 over
half of the epochs. The latent size. The seed, which divides the corpus anew as well. Each cell is one of
`musevae.collapse.sweep`; the row has its panel on unseen clips. Rows go to `nbs/results/collapse_claim.csv`; those that
are there, made from the same, are skipped.
"""
import argparse
from itertools import product

from ledger import Ledger, settings

from musevae.collapse.sweep import SWEEP, sweep
from musevae.corpus import split_clips
from musevae.presets import Preset
from musevae.runs import RECIPE
from musevae.store import home, key_of
from musevae.synth import made_corpus
from musevae.training import TrainConfig
from musevae.vae import VAEConfig
from musevae.windows import mel_windows

LEDGER = Ledger("collapse_claim", ["loss", "schedule", "latent_dim", "epochs", "seed"])
MEASURE = 1  # goes up with what is measured, or how
LIKELIHOOD = {"averaged": "laplace", "ELBO": "gaussian"}
PAPER_SCALE = 5e-4 * 128 * 216  # of the Laplace that mean |x − x̂| + 5e-4 · KL hides
FIGURES = ("state", "rate_nats", "rmse_db", "rmse_db_sampled", "active_units", "charged_units", "information_nats",
           "information_ceiling_nats", "verdict")


def chosen(loss, schedule, epochs):
    "The model and its training."
    plan = dict(anneal="linear", anneal_epochs=epochs / 2) if schedule == "annealed" else dict(anneal="constant")
    model = VAEConfig(linear=False, filter_blocks=0, network="time", per_band=False, likelihood=LIKELIHOOD[loss])
    scale = PAPER_SCALE if loss == "averaged" else None
    return Preset(model, TrainConfig(epochs=epochs, batch_size=16, average=0.9, weight_decay=1e-3, noise_scale=scale, **plan))


def made_from(loss, schedule, latent_dim, epochs, seed):
    "The settings that a row of these labels is made from."
    return dict(measure=MEASURE, preset=chosen(loss, schedule, int(epochs)), d=int(latent_dim), seed=int(seed))


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent-dims", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    for seed in args.seeds:
        windows = mel_windows(split_clips(made_corpus(), seed=seed), progress=False)
        for loss, schedule, d in product(LIKELIHOOD, ("constant", "annealed"), args.latent_dims):
            labels = dict(loss=loss, schedule=schedule, latent_dim=d, epochs=args.epochs, seed=seed)
            if LEDGER.has(labels, made_from(**labels), windows.key):
                continue
            one = chosen(loss, schedule, args.epochs)
            out = home() / f"sweep-{key_of(settings(one), windows.key, seed, RECIPE, SWEEP)}"
            [row] = sweep(windows, out, preset=one, latent_dims=[d], seeds=[seed], progress=False).to_dict("records")
            figures = {name: round(row[name], 4) if isinstance(row[name], float) else row[name] for name in FIGURES}
            LEDGER.add(labels | dict(unseen=row["windows"]) | figures, made_from(**labels), data=windows.key, seeds=seed)
            print(labels | figures, flush=True)


if __name__ == "__main__":
    main()
