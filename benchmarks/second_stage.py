"""A voice's second stage: taught on what the demo run makes of pictures, paired with the true sound. And its ceiling.

    python benchmarks/second_stage.py DATA

The voice in the package goes on for `STEPS` steps on reconstructions of made clips that the demo run was not trained on; it may
change the picture before it looks for a sound of it. The training is kept beside the demo run, and taken up where it was stopped.

The ceiling: a voice says where the search for linear magnitudes begins, and multiplications then fit them to the picture; so here
the start is the true power spectrum, which no network knows better, and after 0, 3 (as in training) and 30 (as in use)
multiplications fast Griffin-Lim makes the sound. Beside both the shipped voice, and the chain without a network.

Clips, measures and intervals are those of `error_budget.py`; `mel_db` is the distance to the true picture, not to the blurred
one. The demo run was trained on none of these clips, nor was a voice. Columns: `start`, `fits` (multiplications), the measures,
half a 95 % interval as `_ci`; where `quantity` is `against the voice`, of each clip's difference to the shipped voice after 30.
Half an hour on one core, the training most of it.
"""

import argparse
from hashlib import sha256
from pathlib import Path

import torch
from error_budget import SPEC, judge, sets_of, summary, windows_of
from ledger import Ledger

from musevae.corpus import split_clips
from musevae.mel import kl_nnls
from musevae.synth import made_corpus
from musevae.vocoder import get_inverter, stft
from musevae.vocoder.teaching import VoiceTraining, train_voice
from musevae.vocoder.voice import SHIPPED, load_voice, save_voice

PLAIN, SHIPS, FITS, STEPS = ("smooth", 100), ("voice", 30), (0, 3, 30), 1000
LEDGER = Ledger("second_stage", ["data", "start", "fits", "quantity"], packages=("numpy",))


def second_stage(run):
    "The voice that was taught on what a run makes, as a file in a folder beside the run's."
    corpus = split_clips(made_corpus(clips=110, seed=1), fractions=(0.98, 0.02, 0), seed=0)
    out = run.path.parent / f"second-stage-{run.path.name}"
    net = train_voice(corpus, out, VoiceTraining(steps=STEPS, rate=1e-3, every=100), begin=load_voice(), through=run.vae)
    return save_voice(net, out / "voice.safetensors", data_name="made clips of seed 1, through the demo run")


def from_truth(y, x, ref_db, fits):
    "Magnitudes fitted to pictures `x (batch, 1, n_mels, frames)`, with a start at the true power of the sounds `y`."
    gain = 10 ** (ref_db.view(-1, 1, 1) / 10)
    power = stft(y, SPEC).abs().square() / gain
    mel = SPEC.power(x, torch.zeros_like(ref_db))[:, 0]
    return (kl_nnls(mel, SPEC, iterations=fits, start=power.clamp_min(1e-12)) * gain).sqrt()


def sounds(y, x, ref_db, taught):
    "(start, fits) -> sounds of pictures `x`, made of `y`; `taught`: file of the second stage."
    plain = get_inverter("fast-griffinlim", SPEC)
    found = {PLAIN: plain(x, ref_db)}
    for fits in FITS:
        found["voice", fits] = get_inverter("voice", SPEC, nnls_iterations=fits)(x, ref_db)
        found["second stage", fits] = get_inverter("voice", SPEC, weights=taught, nnls_iterations=fits)(x, ref_db)
        found["truth", fits] = plain.sound(from_truth(y, x, ref_db, fits), SPEC.samples)
    return found


def rows_of(data, paths, vae, taught):
    "The rows of a set of clips."
    found = {}
    for y, x, ref_db in windows_of(paths):
        for way, made in sounds(y, vae.reconstruct(x).clamp(0, 1), ref_db, taught).items():
            for measure, values in judge(y, made, x, ref_db).items():
                found.setdefault(way, {}).setdefault(measure, []).extend(values.tolist())
    for (start, fits), measures in found.items():
        for quantity, less in (("value", {}), ("against the voice", found[SHIPS])):
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
    with torch.enable_grad():
        taught = second_stage(run)
    weights = sha256(SHIPPED.read_bytes()).hexdigest()[:16]
    rows = []
    for data, paths in (("made", unseen), (options.data.name, real)):
        for row in rows_of(data, paths, run.vae, taught):
            rows.append(row | dict(weights=weights))
            print({k: v for k, v in row.items() if not k.endswith("_ci")}, flush=True)
    heard = [run.path.name, *(Path(p).stem for p in real)]
    LEDGER.add(rows, dict(spec=SPEC, voice=weights, steps=STEPS), data=heard, seeds=0, whole=True)


if __name__ == "__main__":
    main()
