"""Mel spectrograms of real music that are approximations: the one reader of the file that two measurements are given.

The file is an .npz with `mel_db` (clips, 128, 216), in dB below each window's maximum, and `track`: the first 5 s of 638 clips
of GTZAN's fault-filtered split, rebuilt from published pictures of spectrograms (87 ms time resolution, about 5 dB mean
error). It cannot be distributed. What is measured on it is called approximate wherever it stands.
"""
from pathlib import Path

import numpy as np
import pandas as pd

from musevae.corpus import gtzan_tracks


def approximate_mels(file: str | Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Pictures in dB, `(clips, 128, 216)` float32, and a row a clip: what is known of GTZAN's, and `split` as published.

    Args:
        file: the .npz described above.
    """
    with np.load(file) as stored:
        mel_db, tracks = stored["mel_db"].astype(np.float32), stored["track"]
    facts = gtzan_tracks().loc[tracks].reset_index()
    return mel_db, facts.assign(split=facts["kereliuk"], sha256=facts["md5"])
