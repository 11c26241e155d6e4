"""How close genres are on real music with real artists, for chapter 9.

    python benchmarks/genre_ranks.py --approximate FILE

FILE holds approximate mel spectrograms (see `approximate.py`). The linear VAE is fitted in closed form to the clips of the
training split, without labels; the other spaces need no model. About half a minute on one core. Writes
`nbs/results/genre_ranks.csv`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from approximate import approximate_mels
from ledger import Ledger

from musevae.features import feature_spaces
from musevae.geometry import genre_distances, groups_of
from musevae.latent import encode_corpus, unit_effects
from musevae.mel import MelSpec
from musevae.vae import ConvVAE, VAEConfig
from musevae.windows import WindowSet

LEDGER = Ledger("genre_ranks", ["space", "a", "b"])
MODEL = VAEConfig(filter_blocks=0, per_band=False)
MEASURE = 1  # goes up with what is measured, or how


def made_from(space, a, b):
    "The settings that a row of these labels is made from."
    return dict(measure=MEASURE, vae=MODEL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--approximate", type=Path, required=True)
    (mel_db, table), spec = approximate_mels(parser.parse_args().approximate), MelSpec()
    x = (1 + mel_db / spec.top_db).clip(0, 1).astype(np.float16)
    windows = WindowSet(x, np.zeros(len(x), np.float32), table, spec)
    vae = ConvVAE(MODEL, spec).initialise(windows.select("train").tensor()).eval()
    latents = encode_corpus(vae, windows)
    spaces = feature_spaces(latents, windows, unit_effects(vae, latents.mean))
    tables = []
    for name, z in spaces.items():
        name = name.replace("latent", "linear VAE")
        tables.append(genre_distances(z, table["genre"], groups_of(table)).assign(space=name))
        print(tables[-1].head(3).round(3).to_string(), tables[-1].tail(2).round(3).to_string(header=False), sep="\n")
    columns = ["space", "a", "b", "groups_a", "groups_b", "rank", "rank_low", "rank_high", "relative", "p_holm"]
    rows = pd.concat(tables)[columns].round(4).to_dict("records")
    LEDGER.add(rows, made_from("", "", ""), data=sorted(table["track"].tolist()), seeds=0, whole=True)
