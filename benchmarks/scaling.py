"""What would bring the model further below the separable transform: more data, more training, or a larger network?

    python benchmarks/scaling.py DATA [--made-clips 40] [--seeds 1]

One factor is varied at a time, latent size 512. Data: the made corpus, 40 to 320 training clips, as many steps for each,
judged on the same 40 clips that no training saw. Training and network: the corpus DATA, split by clip as in `quality.py`,
preset `transform` for a quarter to three times its epochs, and `gtzan`'s deeper filters for 20 epochs; one noise scale for
all bands. Rows go to
`nbs/results/scaling.csv`, one a training; those that are there, made from the same, are skipped: a killed run goes on.
"""
import argparse
from dataclasses import replace

import pandas as pd
from ledger import Ledger
from quality import trained

from musevae.corpus import load_corpus, split_clips
from musevae.presets import preset
from musevae.reconstruction import errors
from musevae.synth import made_corpus
from musevae.vae import SeparableTransform
from musevae.windows import mel_windows

LEDGER = Ledger("scaling", ["factor", "value", "seed"])
MEASURE = 1  # goes up with what is measured, or how
STEPS = 450  # of the data curve, as preset transform has on the made corpus


def made_from(factor, value, seed):
    "The settings that a row of these labels is made from."
    if factor == "network":
        filters = preset(value).vae
        chosen = preset("transform", latent_dim=512, per_band=False, epochs=20, batch_size=32,
                        filter_blocks=filters.filter_blocks, filter_width=filters.filter_width)
    else:
        chosen = preset("transform", latent_dim=512, per_band=False, **({"epochs": int(value)} if factor == "epochs" else {}))
    return dict(measure=MEASURE, factor=factor, value=value, seed=int(seed), steps=STEPS, preset=chosen)


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--made-clips", type=int, default=40, help="clips a genre of the made corpus")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()

    def add(factor, value, seed, parts, data, **changes):
        labels = dict(factor=factor, value=value, seed=seed)
        made = made_from(**labels)
        if LEDGER.has(labels, made, data):
            return
        x, x_valid, x_test = parts
        transform = SeparableTransform.fit(x, 512)
        separable = errors(x_test, transform.reconstruct(x_test)).rmse_db
        result = trained(replace(made["preset"], train=replace(made["preset"].train, **changes)), x, x_valid, x_test, seed)
        row = dict(windows=len(x), unseen=len(x_test), separable_rmse_db=separable) | result
        LEDGER.add(labels | {k: round(v, 4) for k, v in row.items()}, made, data=data, seeds=seed)
        print(labels | row, flush=True)

    real = load_corpus(args.data, on_fault="ignore")
    epochs = preset("transform").train.epochs
    for seed in range(args.seeds):
        windows = mel_windows(split_clips(real, seed=seed), progress=False)
        parts = [windows.select(s).tensor() for s in ("train", "valid", "test")]
        for share in (0.25, 1, 3):
            add("epochs", str(round(share * epochs)), seed, parts, windows.key)
        add("network", "gtzan", seed, parts, windows.key)
    made = split_clips(made_corpus(clips=args.made_clips), seed=0)
    windows = mel_windows(made)
    x_valid, x_test = (windows.select(s).tensor() for s in ("valid", "test"))
    train = windows.select("train")
    clip = train.table.groupby("genre").track.transform(lambda t: pd.factorize(t)[0]).to_numpy()  # number within genre
    for seed in range(args.seeds):
        for clips in (40, 120, 320):
            x = train.select(clip < clips // 10).tensor()
            add("clips", str(clips), seed, (x, x_valid, x_test), windows.key, epochs=max(1, round(STEPS * 32 / len(x))))


if __name__ == "__main__":
    main()
