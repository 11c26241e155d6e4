"""How far does the made corpus stand for real music? Chapter 2 shows the tables that this script writes.

    python benchmarks/synth_likeness.py GTZAN [--mels MELS.npz] [--made NAME=FOLDER ...]

GTZAN is a folder of real clips, `genre/file`. MELS.npz may hold more of them as pictures (see `approximate.py`): those of split
"valid" are one reference; the others, from which the spectra of the style tables come,
are another, and show how near real music by other artists comes to the first. Each made corpus is a rendered folder;
NAMEs that end in a digit are seeds of one version (`now1`, `now2`). Without --made, seeds 1, 2 and 3 are rendered. Writes
`synth_probe.csv`, `synth_likeness.csv`, `synth_dynamics.csv` and `synth_pca.csv` in `nbs/results`; rows of other corpora that
they hold already are kept: `first` is the first generator, which is not in this repository, and
`tuned` a version of the tables that was given up.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pandas as pd
from approximate import approximate_mels
from ledger import Ledger

from musevae.corpus import GENRES, load_corpus
from musevae.features import mfcc_statistics
from musevae.mel import MelSpec
from musevae.probes import probe
from musevae.synth import made_corpus
from musevae.windows import mel_windows

SPEC = MelSpec()


def decibels(windows):
    "Log-mel of windows in dB, level included: (n, 128, 216) float32."
    x = np.asarray(windows.x, "f4").reshape(-1, *SPEC.shape[-2:])
    return 80 * (x - 1) + np.asarray(windows.ref_db, "f4").reshape(-1, 1, 1)


def coarse(db, frames=4):
    "The same pictures without their level and at a quarter of the time resolution, 93 ms."
    power = 10 ** ((db - db.max((1, 2), keepdims=True)) / 10)
    power = power[:, :, : db.shape[2] // frames * frames]
    return 10 * np.log10(power.reshape(*power.shape[:2], -1, frames).mean(3) + 1e-8)


def accuracy_of(features, labels, clips):
    "Accuracy by window of a linear classifier, clips kept together; and its standard error over clips."
    right = probe(features, labels, clips, bootstrap=1).predicted == np.asarray(labels, str)
    by_clip = pd.Series(right).groupby(np.asarray(clips)).mean()
    return right.mean(), by_clip.std() / np.sqrt(len(by_clip))


def departures(features, genres):
    "Where each genre lies from the mean of all, in units of the corpus's own spread: (10, features)."
    z = (features - features.mean(0)) / features.std(0)
    return np.stack([z[genres == g].mean(0) for g in GENRES])


def likeness(made, made_genres, real, real_genres):
    "Cosine, per genre, between the made departure and the real one: 1 alike, 0 unrelated."
    a, b = departures(made, made_genres), departures(real, real_genres)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def dynamics(db):
    "Per window: range of the frame level (95th less 5th percentile, dB) and tilt of the spectrum (dB per octave)."
    level = 10 * np.log10((10 ** (db / 10)).sum(1))
    hz = SPEC.mel_frequencies
    band = (hz > 100) & (hz < 8000)
    octaves = np.log2(hz[band]) - np.log2(hz[band]).mean()
    tilt = (db[:, band].mean(2) * octaves).sum(1) / (octaves**2).sum()
    return np.subtract(*np.percentile(level, (95, 5), axis=1)), tilt


def pca_spectrum(db, windows=590, components=128, seed=0):
    "Share of the variance of log-mel windows that each principal component explains."
    x = coarse(db)[np.random.default_rng(seed).permutation(len(db))[:windows]].reshape(min(windows, len(db)), -1)
    x = x - x.mean(0)
    values = np.linalg.eigvalsh(x @ x.T)[::-1]
    return values[:components] / values.sum()


def save(table, name, labels, keys, digits):
    "Store what was measured, corpus by corpus; rows of corpora that were not measured now are kept."
    ledger = Ledger(name, labels, packages=("scikit-learn",))
    for corpus, rows in table.round(digits).groupby("corpus", sort=False):
        ledger.add(rows.to_dict("records"), dict(spec=SPEC), data=keys.get(corpus.removeprefix("real or "), ""), seeds=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gtzan", type=Path)
    parser.add_argument("--mels", type=Path)
    parser.add_argument("--made", nargs="*", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()
    tables = {"real": load_corpus(args.gtzan)}
    for item in args.made:
        name, folder = item.split("=", 1)
        tables[name] = load_corpus(folder)
    if not args.made:
        tables |= {f"now{seed}": made_corpus(seed=seed) for seed in (1, 2, 3)}
    sets = {name: mel_windows(table, SPEC) for name, table in tables.items()}
    db = {name: decibels(w) for name, w in sets.items()}
    genres = {name: w.table.genre.to_numpy(str) for name, w in sets.items()}
    clips = {name: w.table.track.to_numpy(str) for name, w in sets.items()}
    keys = {name: w.key for name, w in sets.items()}

    rows = []
    for name in sets:
        accuracy, error = accuracy_of(mfcc_statistics(db[name]), genres[name], clips[name])
        rows.append(dict(corpus=name, windows=len(db[name]), clips=len(set(clips[name])), accuracy=accuracy, error=error))
    for name in sets:  # can a linear classifier tell real from made?
        if name != "real":
            both = mfcc_statistics(np.concatenate([db["real"], db[name]]))
            side = np.repeat([0, 1], [len(db["real"]), len(db[name])])
            accuracy, error = accuracy_of(both, side, np.concatenate([clips["real"], np.char.add("made ", clips[name])]))
            rows.append(dict(corpus=f"real or {name}", windows=len(side), clips=len(set(clips["real"])) * 2,
                             accuracy=accuracy, error=error))
    save(pd.DataFrame(rows), "synth_probe", ["corpus"], keys, 4)

    features = {name: mfcc_statistics(coarse(x)) for name, x in db.items()}
    references = {"real clips": (features["real"], genres["real"])}
    if args.mels:
        mel_db, clips_of = approximate_mels(args.mels)
        pictures = mfcc_statistics(coarse(mel_db))
        kinds, valid = clips_of["genre"].to_numpy(str), (clips_of["split"] == "valid").to_numpy(bool)
        references |= {"mel pictures": (pictures[valid], kinds[valid]), "training pictures": (pictures[~valid], kinds[~valid])}
        features["training pictures"], genres["training pictures"] = references["training pictures"]
    rows = [dict(reference=reference, corpus=name, genre=g, likeness=value)
            for reference, (f, g0) in references.items() for name in features
            if (name, reference) not in {("real", "real clips"), ("training pictures", "training pictures")}
            for g, value in zip(GENRES, likeness(features[name], genres[name], f, g0), strict=True)]
    save(pd.DataFrame(rows), "synth_likeness", ["reference", "corpus", "genre"], keys, 3)

    rows = []
    for name in sets:
        for genre, span, tilt in zip(genres[name], *dynamics(db[name]), strict=True):
            rows.append(dict(corpus=name, genre=genre, range_db=span, tilt_db_per_octave=tilt))
    quartiles = pd.DataFrame(rows).groupby(["corpus", "genre"]).quantile([0.25, 0.5, 0.75]).rename_axis(
        ["corpus", "genre", "quantile"]).reset_index()
    save(quartiles, "synth_dynamics", ["corpus", "genre", "quantile"], keys, 2)
    spectra = pd.DataFrame({name: pca_spectrum(x) for name, x in db.items()})
    shares = spectra.rename_axis("component").rename(lambda n: n + 1).reset_index().melt("component", None, "corpus", "share")
    save(shares, "synth_pca", ["corpus", "component"], keys, 6)


if __name__ == "__main__":
    main()
