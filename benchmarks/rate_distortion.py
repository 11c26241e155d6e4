"""Error against rate on unseen music: linear codes, the presets, a network from scratch, and the paper's objective.

    python benchmarks/rate_distortion.py [DATA] [--models PCA ...] [--rates 30 100 300 1000] [--seeds 0 1 2] [--epochs 30]

Without DATA the made corpus is used. A seed is a split by clip *and* a training. PCA and the separable transform are
linear codes at the water level of each rate, in closed form; a rate is that on the training windows, and the row says
what it is on the test windows. The others are trained by `musevae.collapse.sweep`, each cell from the closed form of its
rate where there is a linear path, its price corrected at every step. The paper's objective, mean |x − x̂| + 5e-4 · KL
over 27,648 bins, is a Laplace of scale 13.8 at β = 1; its rate is what it is. Rows go to
`nbs/results/rate_distortion.csv`, as soon as they are known; sweeps stand in `$MUSEVAE_HOME`; what is there, made from
the same, is skipped: a killed run goes on.

For the whole table at leisure (hours on two cores):

    nice -n 10 python benchmarks/rate_distortion.py
    nice -n 10 python benchmarks/rate_distortion.py gtzan_mini
"""
import argparse
import math
from pathlib import Path

from ledger import Ledger, settings

from musevae.collapse.level import WaterLevel
from musevae.collapse.sweep import SWEEP, start_at, sweep
from musevae.corpus import load_corpus, split_clips
from musevae.evaluation import judge
from musevae.presets import PRESETS, Preset, preset
from musevae.runs import RECIPE
from musevae.store import home, key_of
from musevae.synth import made_corpus
from musevae.training import TrainConfig
from musevae.vae import ConvVAE, PCABaseline, VAEConfig
from musevae.windows import mel_windows

LEDGER = Ledger("rate_distortion", ["data", "model", "asked", "latent_dim", "epochs", "seed"])
MEASURE = 1  # goes up with what is measured, or how; a training of another recipe is measured anew by taking its rows out
TRANSFORM = PRESETS["transform"]  # closed form and filters, white noise a band
GLOBAL = preset("demo", prior="normal", prior_steps=0)  # a global code under coloured noise
SCRATCH = Preset(VAEConfig(linear=False, filter_blocks=0, network="time"), TrainConfig())
PAPER = dict(likelihood="laplace", noise_scale=5e-4 * 128 * 216, clamp=True, per_band=False)
TRAINED = {
    "transform and filters": lambda **c: preset(TRANSFORM, **c),
    "global code": lambda **c: preset(GLOBAL, **c),
    "network from scratch": lambda **c: preset(SCRATCH, **c),
    "transform and filters, the paper's objective": lambda **c: preset(TRANSFORM, **PAPER, **c),
    "the paper's network and objective": lambda **c: preset("code", batch_size=32, **c),
}
CLOSED = ("PCA", "separable transform")


def at_rate(model):
    "Whether a model is asked for rates; the paper's objective has the rate it has."
    return "objective" not in model


def made_from(model, asked, latent_dim, epochs, seed, data=""):
    "The settings that a row of these labels is made from."
    chosen = TRAINED[model](latent_dim=int(latent_dim), epochs=int(epochs)) if model in TRAINED else None
    return dict(measure=MEASURE, model=model, asked=asked, d=int(latent_dim), seed=int(seed), preset=chosen)


def pca_row(x, x_test, nats, d, spec):
    "PCA at the water level of a rate: figures on test windows, pictures not clipped."
    pca = PCABaseline.fit(x, d)
    flat = x.flatten(1) - pca.mean
    scores = flat @ pca.basis.T
    variance = scores.square().mean(0).double().clamp_min(1e-12)
    outside = max(0.0, (flat.square().sum(1).mean() - scores.square().sum(1).mean()).item())
    level = WaterLevel(variance.numpy(), outside, x[0].numel(), spec.top_db).level_at_rate(nats)
    rest = x_test.flatten(1) - pca.mean
    c = (rest @ pca.basis.T).double()
    share = (level / variance).clamp_max(1)
    rate = ((1 - share) / variance * c**2 + share - 1 - share.log()).sum(1) / 2
    drawn = ((share * c) ** 2 + variance * share * (1 - share)).sum(1)
    beyond = rest.double().square().sum(1) - c.square().sum(1)
    error = spec.top_db * ((drawn + beyond).mean() / x[0].numel()).sqrt()
    return dict(rate_nats=rate.mean().item(), rmse_db_sampled=error.item(), active_units=int((variance > level).sum()),
                components=len(variance))


def transform_row(x, x_test, nats, d, spec):
    "The separable transform at the water level of a rate, judged as every model."
    vae = ConvVAE(preset("linear", latent_dim=d).vae, spec)
    beta = start_at(vae, x, rate=nats)
    found = judge(vae, x_test)
    return dict(beta=beta, rate_nats=found.rate_nats, rmse_db_sampled=found.rmse_db_sampled, rmse_db=found.rmse_db,
                active_units=found.active_units)


def trained_rows(model, windows, rates, d, epochs, seed):
    "A row for every cell of a sweep, as they are made."
    chosen = TRAINED[model](latent_dim=d, epochs=epochs)
    out = home() / f"sweep-{key_of(settings(chosen), windows.key, seed, RECIPE, SWEEP)}"
    asked = dict(rates=rates) if at_rate(model) else dict(betas=[1.0])
    table = sweep(windows, out, preset=chosen, latent_dims=[d], seeds=[seed], progress=False, device="auto", **asked)
    for row in table.to_dict("records"):
        names = ("state", "beta", "rate_nats", "rmse_db_sampled", "rmse_db", "active_units", "idle_units", "information_nats")
        yield row["cell"].split()[0], {name: row[name] for name in names}


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--models", nargs="+", choices=[*CLOSED, *TRAINED], default=[*CLOSED, *TRAINED])
    parser.add_argument("--rates", type=float, nargs="+", default=[30.0, 100.0, 300.0, 1000.0])
    parser.add_argument("--latent-dim", type=int, default=512)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    corpus = load_corpus(args.data, on_fault="ignore") if args.data else made_corpus()
    name, d = Path(args.data).name if args.data else "made", args.latent_dim
    for seed in args.seeds:
        windows = mel_windows(split_clips(corpus, seed=seed), progress=False)
        x, x_test = (windows.select(s).tensor() for s in ("train", "test"))
        for model in args.models:
            epochs = args.epochs if model in TRAINED else 0
            wanted = [f"rate={rate!r}" for rate in args.rates] if at_rate(model) else ["beta=1.0"]

            def missing(asked, model=model, epochs=epochs, seed=seed, key=windows.key):
                labels = dict(data=name, model=model, asked=asked, latent_dim=d, epochs=epochs, seed=seed)
                return not LEDGER.has(labels, made_from(**labels), key)

            left = [asked for asked in wanted if missing(asked)]
            if not left:
                continue
            if model in TRAINED:
                rows = trained_rows(model, windows, args.rates, d, epochs, seed)
            else:
                row_of = pca_row if model == "PCA" else transform_row
                rows = ((f"rate={r!r}", row_of(x, x_test, r, d, windows.spec)) for r in args.rates)
            for asked, figures in rows:
                labels = dict(data=name, model=model, asked=asked, latent_dim=d, epochs=epochs, seed=seed)
                figures = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
                bits = round(figures["rate_nats"] / math.log(2) / windows.spec.seconds, 2)
                row = labels | dict(windows=len(x), unseen=len(x_test)) | figures | dict(bits_per_second=bits)
                LEDGER.add(row, made_from(**labels), data=windows.key, seeds=seed)
                print(row, flush=True)


if __name__ == "__main__":
    main()
