"""How much a voice could mend of what the demo run blurs: its search begins at the truth, which no network knows better.

    python benchmarks/second_stage.py DATA

A voice says where the search for linear magnitudes begins, and multiplications then fit them to the picture. Where the picture
is the demo run's reconstruction they fit them to the blur. So before a voice is taught on such pictures, paired with the true
sound: here the start is the true power spectrum, and after 0, 3 (as in training) and 30 (as in use) multiplications fast
Griffin-Lim makes the sound. Beside it the shipped voice, taught on true pictures, and the chain without a network.

Clips, measures and intervals are those of `error_budget.py`; `mel_db` is the distance to the true picture, not to the blurred
one. The demo run was trained on none of these clips. Columns: `start`, `fits` (multiplications), the measures, half a 95 %
interval as `_ci`; where `quantity` is `against no network`, of each clip's difference. Some five minutes on one core.
"""

import argparse
from hashlib import sha256
from pathlib import Path

import torch
from error_budget import SPEC, judge, sets_of, summary, windows_of
from ledger import Ledger

from musevae.mel import kl_nnls
from musevae.vocoder import get_inverter, stft
from musevae.vocoder.voice import SHIPPED

PLAIN, FITS = ("smooth", 100), (0, 3, 30)
LEDGER = Ledger("second_stage", ["data", "start", "fits", "quantity"], packages=("numpy",))


def from_truth(y, x, ref_db, fits):
    "Magnitudes fitted to pictures `x (batch, 1, n_mels, frames)`, with a start at the true power of the sounds `y`."
    gain = 10 ** (ref_db.view(-1, 1, 1) / 10)
    power = stft(y, SPEC).abs().square() / gain
    mel = SPEC.power(x, torch.zeros_like(ref_db))[:, 0]
    return (kl_nnls(mel, SPEC, iterations=fits, start=power.clamp_min(1e-12)) * gain).sqrt()


def sounds(y, x, ref_db):
    "(start, fits) -> sounds of pictures `x`, made of `y`."
    plain = get_inverter("fast-griffinlim", SPEC)
    found = {PLAIN: plain(x, ref_db)}
    for fits in FITS:
        found["voice", fits] = get_inverter("voice", SPEC, nnls_iterations=fits)(x, ref_db)
        found["truth", fits] = plain.sound(from_truth(y, x, ref_db, fits), SPEC.samples)
    return found


def rows_of(data, paths, vae):
    "The rows of a set of clips."
    found = {}
    for y, x, ref_db in windows_of(paths):
        for way, made in sounds(y, vae.reconstruct(x).clamp(0, 1), ref_db).items():
            for measure, values in judge(y, made, x, ref_db).items():
                found.setdefault(way, {}).setdefault(measure, []).extend(values.tolist())
    for (start, fits), measures in found.items():
        for quantity, less in (("value", {}), ("against no network", found[PLAIN])):
            yield dict(data=data, start=start, fits=fits, quantity=quantity) | summary(measures, less) | dict(clips=len(paths))


@torch.no_grad()
def main():
    "Measure both sets and store the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=30, help="of DATA, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run, unseen, real = sets_of(options.data, options.clips)
    weights = sha256(SHIPPED.read_bytes()).hexdigest()[:16]
    rows = []
    for data, paths in (("made", unseen), (options.data.name, real)):
        for row in rows_of(data, paths, run.vae):
            rows.append(row | dict(weights=weights))
            print({k: v for k, v in row.items() if not k.endswith("_ci")}, flush=True)
    LEDGER.add(rows, dict(spec=SPEC, voice=weights), data=[run.path.name, *(Path(p).stem for p in real)], seeds=0, whole=True)


if __name__ == "__main__":
    main()
