"""What would bring the model further below the separable transform: more data, more training, or a larger network?

    python nbs/results/scaling.py DATA [--made-clips 40] [--seeds 1]

One factor is varied at a time, latent size 512. Data: the made corpus, 40 to 320 training clips, as many steps for each,
judged on the same 40 clips that no training saw. Training and network: the corpus DATA, split by clip as in `quality.py`,
preset `demo` for a quarter to three times its epochs, and preset `gtzan`'s deeper filters for 20 epochs. Appends to
`scaling.csv` beside this file, one row a training, and skips the rows that are there: a killed run goes on.
"""
import argparse
from pathlib import Path

import pandas as pd
from quality import trained

from musevae.corpus import load_corpus, split_clips
from musevae.mel import mel_windows
from musevae.reconstruction import errors
from musevae.synth import made_corpus
from musevae.training import PRESETS
from musevae.vae import SeparableTransform

OUT = Path(__file__).with_name("scaling.csv")
STEPS = 450  # of the data curve, as the demo run has


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--made-clips", type=int, default=40, help="clips a genre of the made corpus")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    rows = pd.read_csv(OUT, dtype={"value": str}).to_dict("records") if OUT.exists() else []

    def add(factor, value, seed, parts, name="demo", **changes):
        key = dict(factor=factor, value=value, seed=seed)
        if any(all(r[k] == v for k, v in key.items()) for r in rows):
            return
        x, x_valid, x_test = parts
        transform = SeparableTransform.fit(x, 512)
        separable = errors(x_test, transform.reconstruct(x_test)).rmse_db
        result = trained(name, x, x_valid, x_test, seed, **changes)
        rows.append(key | dict(windows=len(x), unseen=len(x_test), separable_rmse_db=separable) | result)
        print(rows[-1], flush=True)
        pd.DataFrame(rows).round(4).to_csv(OUT, index=False)

    real = load_corpus(args.data, on_fault="ignore")
    epochs = PRESETS["demo"].train.epochs
    for seed in range(args.seeds):
        windows = mel_windows(split_clips(real, seed=seed), progress=False)
        parts = [windows.select(s).tensor() for s in ("train", "valid", "test")]
        for share in (0.25, 1, 3):
            add("epochs", str(round(share * epochs)), seed, parts, epochs=round(share * epochs))
        add("network", "gtzan", seed, parts, "gtzan", epochs=20, batch_size=32)
    made = split_clips(made_corpus(clips=args.made_clips), seed=0)
    windows = mel_windows(made)
    x_valid, x_test = (windows.select(s).tensor() for s in ("valid", "test"))
    train = windows.select("train")
    clip = train.table.groupby("genre").track.transform(lambda t: pd.factorize(t)[0]).to_numpy()  # number within genre
    for seed in range(args.seeds):
        for clips in (40, 120, 320):
            x = train.select(clip < clips // 10).tensor()
            add("clips", str(clips), seed, (x, x_valid, x_test), epochs=max(1, round(STEPS * 32 / len(x))))


if __name__ == "__main__":
    main()
