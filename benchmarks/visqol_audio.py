"""What a model of listeners says of the chains of the error budget: ViSQOL in audio mode, beside the spectral distances of 11e.

    pip install visqol-python
    python benchmarks/visqol_audio.py DATA

The clips and chains are those of `error_budget.py`. A window and what a chain makes of it are resampled to 48 kHz, where ViSQOL
compares their gammatone spectrograms and maps the likeness to an opinion, `moslqo`: 1 to about 4.73. Means over clips; `_ci`:
half a 95 % interval over clips (Student's t); where `quantity` is `against no network`, of each clip's difference to the chain
without a network. The package is for this table alone and no part of the project's lock. Some four minutes on one core. Writes
`nbs/results/visqol_audio.csv`.
"""

import argparse
from hashlib import sha256
from pathlib import Path

import soxr
import torch
from error_budget import PLAIN, SPEC, chains, sets_of, summary, windows_of
from ledger import Ledger

from musevae.vocoder.voice import SHIPPED

RATE = 48_000  # Hz, of ViSQOL's audio mode
LEDGER = Ledger("visqol_audio", ["data", "chain", "quantity"], packages=("numpy", "visqol-python"))


def opinions(paths, vae, api):
    "Chain -> the opinion of every clip, `(clips,)`."
    found = {}
    for y, x, ref_db in windows_of(paths):
        truth = soxr.resample(y[0].double().numpy(), SPEC.sample_rate, RATE)
        for name, make in chains(y, x, ref_db, vae).items():
            made = soxr.resample(make()[0].double().numpy(), SPEC.sample_rate, RATE)
            found.setdefault(name, []).append(api.measure_from_arrays(truth, made, RATE).moslqo)
    return found


def main():
    "Measure both sets and store the table."
    from visqol import VisqolApi

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=30, help="of DATA, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    api = VisqolApi()
    api.create(mode="audio")
    run, unseen, real = sets_of(options.data, options.clips)
    weights, rows = sha256(SHIPPED.read_bytes()).hexdigest()[:16], []
    for data, paths, vae in (("made", unseen, run.vae), (options.data.name, real, None)):
        found = opinions(paths, vae, api)
        for name, values in found.items():
            for quantity, less in (("value", {}), ("against no network", dict(moslqo=found[PLAIN]))):
                row = dict(data=data, chain=name, quantity=quantity) | summary(dict(moslqo=values), less, digits=4)
                rows.append(row | dict(clips=len(paths), weights=weights))
                print(rows[-1], flush=True)
    measured = [run.path.name, *(Path(p).stem for p in real)]
    LEDGER.add(rows, dict(spec=SPEC, rate=RATE, voice=weights), data=measured, seeds=0, whole=True)


if __name__ == "__main__":
    main()
