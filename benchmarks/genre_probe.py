"""What a line reads of the genre from a global code, and from tables that cost nothing, on approximate mels with real artists.

    python benchmarks/genre_probe.py --approximate FILE [--seeds 0 1 2] [--epochs 12 48 150] [--units 32] [--share 1.0]

FILE holds approximate mel spectrograms (see `approximate.py`). Artists are divided into five folds, by genre; for each fold a
global code is trained without labels on the artists of the other four, or a `--share` of their clips (preset `demo` without
local units and filters), and a logistic regression reads the genre from each space on all clips of these artists, and is
judged on the artists of the fold. Its strength is chosen, for each space alone, by folds of artists inside the four. Every
space is scored on every clip once a seed; differences are taken clip by clip, their intervals by drawing artists. Twelve
epochs of three seeds take some seven minutes on one core, and the rest in proportion. Writes `nbs/results/genre_probe.csv`.

The spaces: g, the means of the global code; "statistics", the 336 numbers that its encoder makes g from, and "statistics, PCA",
as many principal components of them as g has units; MFCC, raw mel and picture PCA as in chapter 9b; and "shuffled g", where the
clips of a fold have changed places: the chance level as measured.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
from approximate import approximate_mels
from ledger import Ledger

from musevae.features import feature_spaces
from musevae.geometry import groups_of
from musevae.latent import encode_corpus
from musevae.mel import MelSpec
from musevae.presets import preset
from musevae.probes import Probe, bootstrap_groups, probe, probe_gap
from musevae.training import steps
from musevae.windows import WindowSet

LEDGER = Ledger("genre_probe", ["space", "epochs", "units", "share", "seed"], packages=["scikit-learn"])
MEASURE = 2  # goes up with what is measured, or how; 2: strengths up to 10
FOLDS, STRENGTHS = 5, (0.001, 0.01, 0.1, 1.0, 10.0)
MODEL = preset("demo", filter_blocks=0, prior="normal", prior_steps=0)


def made_from(space, epochs, units, share, seed):
    "The settings that a row of these labels is made from."
    chosen = preset(MODEL, latent_dim=int(units), global_dim=int(units), epochs=int(epochs))
    return dict(measure=MEASURE, preset=chosen, share=float(share), folds=FOLDS, strengths=STRENGTHS)


def trained(chosen, x, seed):
    "The average model of a preset after its training on windows `x`."
    import copy

    torch.manual_seed(seed)
    vae = chosen.vae.build(MelSpec()).initialise(x)
    average = copy.deepcopy(vae)
    for _ in steps(vae, x, chosen.train, seed=seed, average=average):
        pass
    return average.eval()


def standard(features, fit):
    "Columns in standard deviations of the rows `fit`."
    return (features - features[fit].mean(0)) / (features[fit].std(0) + 1e-9)


def spaces_of(vae, windows, fit, seed):
    "Name → features of every clip; what is fitted, is fitted to the rows `fit`."
    latents = encode_corpus(vae, windows)
    with torch.no_grad():
        table = torch.cat([vae.decoder.path.closed.code.statistics(x) for x in windows.batches(64)]).double().numpy()
    table = standard(table, fit)
    _, s, v = np.linalg.svd(table[fit] - table[fit].mean(0), full_matrices=False)
    few = (table - table[fit].mean(0)) @ v[: latents.mean.shape[1]].T
    free = feature_spaces(latents, windows)
    shuffled = latents.mean[np.random.default_rng(seed).permutation(len(latents))]
    return {"g": free.pop("latent"), "statistics": table, "statistics, PCA": few, **free, "shuffled g": shuffled}


def read(features, genre, artist, fit, seed):
    "Answers for the rows that are not `fit`, by the strength that reads best on artists inside `fit`."
    def inside(strength):
        return probe(features[fit], genre[fit], artist[fit], folds=4, seed=seed, strength=strength, standardise=False,
                     bootstrap=1).score

    best = max(STRENGTHS, key=inside)
    return probe(features, genre, artist, test=~fit, seed=seed, strength=best, standardise=False, bootstrap=1).predicted, best


def folds_of(genre, artist, seed):
    "Masks of the rows to learn from, one a fold; every artist is left out once."
    from sklearn.model_selection import StratifiedGroupKFold

    for fit, _ in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(genre, genre, artist):
        yield np.isin(np.arange(len(genre)), fit)


def some_of(fit, share, seed):
    "A `share` of the rows that the mask `fit` has, drawn with `seed`: a mask."
    rows = np.flatnonzero(fit)
    chosen = np.random.default_rng(seed).permutation(rows)[: round(share * len(rows))]
    return np.isin(np.arange(len(fit)), chosen)


def main():
    "Measure and store."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--approximate", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", default=[12])
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--share", type=float, default=1.0)
    args = parser.parse_args()
    (mel_db, table), spec = approximate_mels(args.approximate), MelSpec()
    x = (1 + mel_db / spec.top_db).clip(0, 1).astype(np.float16)
    genre, artist, data = table["genre"].to_numpy(str), groups_of(table), sorted(table["track"].tolist())
    for epochs, seed in product(args.epochs, args.seeds):
        labels = dict(epochs=epochs, units=args.units, share=args.share, seed=seed)
        about = made_from("g", **labels)
        if LEDGER.has(dict(space="g") | labels, about, data):
            continue
        answers, strengths, widths = {}, {}, {}
        for fit in folds_of(genre, artist, seed):
            windows = WindowSet(x, np.zeros(len(x), np.float32), table.assign(split=np.where(fit, "train", "test")), spec)
            vae = trained(about["preset"], windows.select(some_of(fit, args.share, seed)).tensor(), seed)
            for name, features in spaces_of(vae, windows, fit, seed).items():
                predicted, best = read(np.asarray(features), genre, artist, fit, seed)
                whole = answers.setdefault(name, np.full(len(x), None, dtype=object))
                whole[~fit] = predicted[~fit]
                strengths.setdefault(name, []).append(best)
                widths[name] = np.shape(features)[1]
            print(seed, {name: round(float((a[~fit] == genre[~fit]).mean()), 3) for name, a in answers.items()}, flush=True)
        rows = []
        chance = float(np.unique(genre, return_counts=True)[1].max() / len(genre))
        probes = {}
        for name, predicted in answers.items():
            right = (predicted == genre).astype(float)
            interval, n = bootstrap_groups(artist, [right, np.ones_like(right)], lambda hit, all_: hit / all_, 2000, seed)
            probes[name] = Probe(float(right.mean()), interval, chance, n, predicted)
        for name, found in probes.items():
            gap, (low, high) = probe_gap(probes["g"], found, genre, artist, bootstrap=2000, seed=seed)
            row = dict(space=name) | labels | dict(features=widths[name], accuracy=found.score, low=found.interval[0],
                       high=found.interval[1], chance=chance, clips=len(x), artists=found.groups, gap=gap, gap_low=low,
                       gap_high=high, strength=float(np.median(strengths[name])))
            rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            print(rows[-1], flush=True)
        LEDGER.add(rows, about, data=data, seeds=seed)


if __name__ == "__main__":
    main()
