"""What each split is worth on real music, for `nbs/01b_split.ipynb`.

    python benchmarks/leakage_ladder.py --mini FOLDER --approximate FILE

FOLDER is GTZAN's first ten clips a genre (100 clips, real audio). FILE holds approximate mel spectrograms (see
`approximate.py`). About a minute on one core. Writes `nbs/results/leakage_ladder.csv`.
"""

import argparse
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from approximate import approximate_mels
from ledger import Ledger

from musevae.corpus import leakage_ladder, load_corpus, read_audio
from musevae.features import mel_statistics, mfcc_statistics

FEATURES = {"mel bands": mel_statistics, "MFCC": mfcc_statistics}


def from_pictures(file):
    "Approximate mels cut into five windows of 1 s a clip; the 602 clips that are in both published divisions."
    mel_db, facts = approximate_mels(file)
    keep = facts.foleiss_fold.notna().to_numpy()
    mel = mel_db[keep][:, :, :215].reshape(-1, 128, 5, 43).transpose(0, 2, 1, 3)
    return mel.reshape(-1, 128, 43), facts[keep].loc[lambda t: t.index.repeat(5)].reset_index(drop=True)


def from_audio(folder):
    "Windows of 5 s of real audio, 128 mel bands in dB below each window's maximum."
    mel, rows = [], []
    for clip in load_corpus(folder).itertuples():
        y = read_audio(clip.path)
        for cut in y[: len(y) // 110250 * 110250].reshape(-1, 110250):
            power = librosa.feature.melspectrogram(y=cut, sr=22050, n_fft=2048, hop_length=512, n_mels=128)
            mel.append(librosa.power_to_db(power, ref=np.max, top_db=80))
            rows.append(clip)
    return np.stack(mel), pd.DataFrame(rows)


LEDGER = Ledger("leakage_ladder", ["data", "features", "together"], packages=("librosa", "scikit-learn"))
MEASURE, SEEDS = 1, 5  # MEASURE goes up with what is measured, or how


def made_from(data, features, together):
    "The settings that a row of these labels is made from."
    return dict(measure=MEASURE, seeds=SEEDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini", type=Path, required=True)
    parser.add_argument("--approximate", type=Path, required=True)
    options = parser.parse_args()
    tables = []
    for name, (mel, windows) in {
        "1 s windows of approximate mels": from_pictures(options.approximate),
        "5 s windows of real audio": from_audio(options.mini),
    }.items():
        clips = windows.drop_duplicates("track")
        name = f"{len(clips)} clips, {clips.artist.nunique()} artists known, {name}"
        for kind, statistics in FEATURES.items():
            ladder = leakage_ladder(statistics(mel), windows, seeds=SEEDS)
            tables.append(ladder.assign(data=f"GTZAN: {name}", features=kind))
            print(tables[-1].round(3).to_string())
    table = pd.concat(tables)[["data", "features", *ladder.columns]]
    LEDGER.add(table.round(4).to_dict("records"), made_from("", "", ""), seeds=f"0-{SEEDS - 1}", whole=True)
