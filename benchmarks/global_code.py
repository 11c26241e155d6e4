"""What a global code that moves the colour of the noise is worth, in nats a window, on clips and artists it has not met.

    python benchmarks/global_code.py DATA [--approximate MELS.npz] [--seeds 0 1 2]

Trains the global code of preset `demo` (32 units, no local units, no filters, 12 epochs, the best by its bound on validation
windows) on the made corpus, on the corpus DATA, each divided by clip with several seeds, and on approximate mels divided by
artist (70, 10 and 20 % of them). `floor` says how bins at -80 dB count: as a density, or charged for lying there. Beside the
bound stands the evidence of the coloured Gaussian without a code in the same count, and a landmark: the best scale of 80 groups
of places, chosen window by window, ½ log n nats paid for the scale of a group of n places, where it is worth that. Then 480
local units are put below the code, in closed form: rate and error in dB of both, and the linear code's error at that rate. Half
a minute to a minute a row on one core. Rows go to `nbs/results/global_code.csv`; those that are there, made from the same, are
skipped.
"""
import argparse
import copy
import math

import numpy as np
import torch
from approximate import approximate_mels
from corpora import divided
from ledger import Ledger

from musevae.evaluation import judge
from musevae.mel import MelSpec
from musevae.presets import preset
from musevae.store import key_of
from musevae.training import steps
from musevae.vae import ColouredGaussian, SeparableTransform
from musevae.vae.coloured import Coloured

LEDGER = Ledger("global_code", ["data", "model", "floor", "seed"])
MEASURE = 1  # goes up with what is measured, or how
TAILS = dict(density=0.0, charged=0.015)  # the second: the best of 0.005, 0.015 and 0.04 for the Gaussian without a code


def corpora(data, approximate, seeds):
    "Name, seed, key and the windows to learn from, choose by and judge, of every division."
    for name, seed, windows in divided(data, seeds):
        yield name, seed, windows.key, [windows.select(s).tensor() for s in ("train", "valid", "test")]
    for seed in seeds if approximate else ():
        mel_db, clips = approximate_mels(approximate)
        artist = clips["artist"].astype(object).where(clips["artist"].notna(), clips["track"]).to_numpy(str)
        x = (torch.from_numpy(mel_db).unsqueeze(1) / 80 + 1).clamp(0, 1)
        names = np.random.default_rng(seed).permutation(np.unique(artist))
        parts = np.split(names, [round(0.7 * len(names)), round(0.8 * len(names))])
        yield "approximate mels", seed, key_of(clips["track"].tolist()), [x[torch.from_numpy(np.isin(artist, p))] for p in parts]


def no_code(x, x_test, tail):
    "Evidence of the coloured Gaussian on test windows, bins at the floor counted as `tail` says: nats a window."
    if not tail:
        return ColouredGaussian.fit(x).log_evidence(x_test).mean().item()
    transform = SeparableTransform.fit(torch.where(x <= 0, -tail, x), 0)
    noise = Coloured(x.shape[2:], tail=tail).colour(transform)
    noise.settle(noise.optimum(x, transform.profile.expand_as(x)))
    return -noise.nll(x_test, transform.profile.expand_as(x_test)).mean().item()


def best_scale(x, x_test, groups=(10, 8)):
    "What scales chosen window by window are worth, the price of naming them paid: nats a window."
    transform = SeparableTransform.fit(x, 0)
    variance = Coloured(x.shape[2:]).smooth(transform.power)
    energy = (transform.bands @ (x_test[:, 0] - transform.profile) @ transform.cosines.T).square() / variance
    edges = [np.unique(np.round(np.geomspace(1, n + 1, k + 1)).astype(int) - 1) for n, k in zip(x.shape[2:], groups, strict=True)]
    worth = torch.zeros(len(x_test))
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            n = int((bottom - top) * (right - left))
            mean = energy[:, top:bottom, left:right].mean((1, 2)).clamp_min(1e-6)
            worth += (n * (mean - 1 - mean.log()) / 2 - math.log(n) / 2).clamp_min(0)
    return worth.mean().item()


def trained(chosen, x, x_valid, seed):
    "The model of a preset, trained; of the averages at the ends of epochs the one with the best bound on `x_valid`."
    torch.manual_seed(seed)
    vae = chosen.vae.build(MelSpec()).initialise(x)
    average = copy.deepcopy(vae)
    kept, best = copy.deepcopy(vae), judge(vae, x_valid).elbo_nats
    for step in steps(vae, x, chosen.train, seed=seed, average=average):
        if step.number % (step.of // chosen.train.epochs) == 0:
            bound = judge(average, x_valid).elbo_nats
            if bound > best:
                kept, best = copy.deepcopy(average), bound
    return kept.eval()


def rate_and_error(vae, x, x_test):
    "Rate and error in dB with 480 local units below the global code of `vae`, and the linear code's error at that rate."
    whole = preset("demo", global_dim=vae.config.global_dim, filter_blocks=0, prior="normal").vae.build(MelSpec()).initialise(x)
    whole.decoder.path.closed.code.load_state_dict(vae.decoder.path.closed.code.state_dict())
    here = judge(whole, x_test)
    linear = []
    for units in (384, 512, 640):
        beside = judge(preset("linear", latent_dim=units).vae.build(MelSpec()).initialise(x), x_test)
        linear.append((beside.rate_nats, beside.rmse_db))
    at = float(np.interp(here.rate_nats, *zip(*linear, strict=True)))
    return dict(rate=round(here.rate_nats, 1), rmse_db=round(here.rmse_db, 4), linear_db=round(at, 4))


@torch.no_grad()
def judged(vae, x, draws=4):
    "Bound and rate of g on windows `x`, over a few draws of g: nats a window."
    rows = [judge(vae, x, seed=seed) for seed in range(draws)]
    return [float(np.mean([getattr(row, name) for row in rows])) for name in ("elbo_nats", "rate_nats")]


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--approximate", metavar="MELS.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--floors", nargs="+", choices=TAILS, default=list(TAILS))
    args = parser.parse_args()
    for name, seed, key, (x, x_valid, x_test) in corpora(args.data, args.approximate, args.seeds):
        for floor in args.floors:
            chosen = preset("demo", latent_dim=args.units, global_dim=args.units, filter_blocks=0, epochs=12,
                            learning_rate=1.5e-3, weight_decay=0.03, prior="normal", prior_steps=0,
                            floor_tail=TAILS[floor])
            labels = dict(data=name, model=f"g, {args.units} units", floor=floor, seed=seed)
            made_from = labels | dict(measure=MEASURE, preset=chosen)
            if LEDGER.has(labels, made_from, key):
                continue
            without = no_code(x, x_test, TAILS[floor])
            vae = trained(chosen, x, x_valid, seed)
            bound, rate = judged(vae, x_test)
            row = dict(windows=len(x), unseen=len(x_test), floor_bins=round((x_test <= 0).float().sum().item() / len(x_test), 1),
                       no_code=round(without, 1), bound=round(bound, 1), gain=round(bound - without, 1), rate_g=round(rate, 2),
                       best_scale=round(best_scale(x, x_test), 1))
            if floor == "density" and name != "approximate mels":  # these are not for errors of reconstruction
                row |= rate_and_error(vae, x, x_test)
            LEDGER.add(labels | row, made_from, data=key, seeds=seed)
            print(labels | row, flush=True)


if __name__ == "__main__":
    main()
