"""What each split is worth on real music, for `nbs/01b_split.ipynb`.

    python benchmarks/leakage_ladder.py --mini FOLDER --approximate FILE

FOLDER is GTZAN's first ten clips a genre (100 clips, real audio). FILE is an .npz with `mel_db` (clips, 128, 216) in dB and
`track`: mel spectrograms of the first 5 s of 638 clips of the fault-filtered split, rebuilt from published pictures of
spectrograms. These are approximations (87 ms time resolution, about 5 dB mean error) and are called so wherever they stand.
About a minute on one core. Writes `nbs/results/leakage_ladder.csv`.
"""

import argparse
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from ledger import Ledger
from scipy.fft import dct

from musevae.corpus import gtzan_tracks, leakage_ladder, load_corpus, read_audio


def statistics(mel_db):
    "Mean and standard deviation over time of 128 bands and of 20 MFCCs: dict of arrays, from (windows, 128, frames) in dB."
    mfcc = dct(mel_db, axis=1, norm="ortho")[:, :20]
    return {name: np.concatenate([v.mean(2), v.std(2)], axis=1) for name, v in (("mel bands", mel_db), ("MFCC", mfcc))}


def from_pictures(file):
    "Approximate mels cut into five windows of 1 s a clip; the 602 clips that are in both published divisions."
    stored = np.load(file)
    facts = gtzan_tracks().loc[stored["track"]].reset_index()
    keep = facts.foleiss_fold.notna().to_numpy()
    mel = stored["mel_db"][keep].astype(np.float32)[:, :, :215].reshape(-1, 128, 5, 43).transpose(0, 2, 1, 3)
    windows = facts[keep].loc[lambda t: t.index.repeat(5)].reset_index(drop=True)
    return mel.reshape(-1, 128, 43), windows.assign(sha256=windows.md5)


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
        for kind, features in statistics(mel).items():
            ladder = leakage_ladder(features, windows, seeds=SEEDS)
            tables.append(ladder.assign(data=f"GTZAN: {name}", features=kind))
            print(tables[-1].round(3).to_string())
    table = pd.concat(tables)[["data", "features", *ladder.columns]]
    LEDGER.add(table.round(4).to_dict("records"), made_from("", "", ""), seeds=f"0-{SEEDS - 1}", whole=True)
