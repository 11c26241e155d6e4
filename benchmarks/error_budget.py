"""Where the loss between a sound and what its picture gives back comes from: the bars of chapter 11, the verdict of 11e.

    python benchmarks/error_budget.py DATA

Two sets of windows that nothing here was trained on: those clips of the made corpus that the demo run did not train on, and
clips of DATA, a folder genre/file, spread evenly; a window a clip, at 10 s. Each chain puts the truth in place of the steps
that it does not try; the last ones have no truth left. What the demo run makes of a window is heard on made clips only.

Columns: `lsd_db` log-spectral distance at n_fft 2048 and hop 512; `transient_db` the same at 512 and 128; `convergence_512`,
`_2048`, `_4096` spectral convergence in dB at three resolutions; `mel_db` mean absolute error of the picture, dB. Means over
clips, `_ci` half a 95 % interval over clips (Student's t); where `quantity` is `against no network`, of each clip's difference to
the chain without a network. `cpu_s`: processor seconds a window on one thread.
"""

import argparse
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from ledger import Ledger
from mel_inversion import spectra
from scipy.stats import t as student

from musevae.corpus import load_corpus, read_audio
from musevae.demo import demo_run
from musevae.mel import MelSpec
from musevae.vocoder import get_inverter, istft, stft
from musevae.vocoder.voice import SHIPPED

SPEC, PLAIN = MelSpec(), "mel: NNLS, guessed phase"
RESOLUTIONS = ((512, 128), (2048, 512), (4096, 1024))
LEDGER = Ledger("error_budget", ["data", "chain", "quantity"], packages=("numpy",))


def magnitudes(y, n_fft, hop):
    "Of windows `(batch, samples)`."
    z = torch.stft(y, n_fft, hop, window=torch.hann_window(n_fft), pad_mode="constant", return_complex=True)
    return z.abs()


def judge(y, made, x, ref_db):
    "The measures of each window, `{name: (batch,)}`."
    def distance(n_fft, hop):
        return (spectra(y, n_fft, hop) - spectra(made, n_fft, hop)).square().mean(1).sqrt().mean(1)

    found = dict(lsd_db=distance(2048, 512), transient_db=distance(512, 128))
    for n_fft, hop in RESOLUTIONS:
        wanted, got = magnitudes(y, n_fft, hop), magnitudes(made, n_fft, hop)
        found[f"convergence_{n_fft}"] = 20 * ((wanted - got).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))).log10()
    again = (1 + (SPEC.decibels(SPEC.mel_power(made)) - ref_db.view(-1, 1, 1, 1)) / SPEC.top_db).clamp(0, 1)
    found["mel_db"] = SPEC.top_db * (again - x).abs().mean((1, 2, 3))
    return found


def chains(y, x, ref_db, vae):
    "Name -> a function that makes the sounds."
    z, plain, voice = stft(y, SPEC), get_inverter("fast-griffinlim", SPEC), get_inverter("voice", SPEC)

    def true_phase(magnitude):
        return istft(torch.polar(magnitude, z.angle()), SPEC, SPEC.samples)

    ways = {
        "true magnitude, guessed phase": lambda: plain.sound(z.abs(), SPEC.samples),
        "mel: NNLS, true phase": lambda: true_phase(plain._magnitude(x, ref_db)),
        PLAIN: lambda: plain(x, ref_db),
        "mel: voice, true phase": lambda: true_phase(voice._magnitude(x, ref_db)),
        "mel: voice, guessed phase": lambda: voice(x, ref_db),
    }
    if vae is None:
        return ways
    blurred = vae.reconstruct(x).clamp(0, 1)
    return ways | {"demo run: NNLS, guessed phase": lambda: plain(blurred, ref_db),
                   "demo run: voice, guessed phase": lambda: voice(blurred, ref_db)}


def interval(each):
    "Mean over clips, and half a 95 % interval."
    return each.mean(), student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))


def windows_of(paths):
    "Sound, picture and reference of a window of each clip, a batch of one."
    for path in paths:
        y = torch.from_numpy(read_audio(path, start=10, seconds=SPEC.seconds))[None]
        yield y, *SPEC.forward(y)


def sets_of(data, clips):
    "The demo run, clips of its corpus that it was not trained on, and at most so many of DATA, spread evenly."
    run = demo_run(progress=False)
    real = load_corpus(data, on_fault="ignore").path.tolist()
    real = real[:: max(1, len(real) // clips)][:clips]
    return run, run.corpus[run.corpus.split != "train"].path.tolist(), real


def summary(measures, less, digits=3):
    "Mean and half a 95 % interval of each measure, less that of another chain on the same clip."
    row = {}
    for measure, values in measures.items():
        mean, half = interval(np.array(values) - np.array(less.get(measure, 0)))
        row |= {measure: round(float(mean), digits), f"{measure}_ci": round(float(half), digits)}
    return row


def rows_of(data, paths, vae):
    "The rows of a set of clips: of each chain its measures, and their differences to those of the chain without a network."
    found, seconds = {}, {}
    for y, x, ref_db in windows_of(paths):
        for name, make in chains(y, x, ref_db, vae).items():
            start = time.process_time()
            made = make()
            seconds[name] = seconds.get(name, 0) + (time.process_time() - start) / len(paths)
            for measure, values in judge(y, made, x, ref_db).items():
                found.setdefault(name, {}).setdefault(measure, []).extend(values.tolist())
    for name, measures in found.items():
        for quantity, less in (("value", {}), ("against no network", found[PLAIN])):
            row = dict(data=data, chain=name, quantity=quantity) | summary(measures, less)
            yield row | dict(cpu_s=round(seconds[name], 3), clips=len(paths))


def main():
    "Measure both sets and store the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=30, help="of DATA, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run, unseen, real = sets_of(options.data, options.clips)
    rows = [*rows_of("made", unseen, run.vae), *rows_of(options.data.name, real, None)]
    measured = [run.path.name, *(Path(p).stem for p in real)]
    weights = sha256(SHIPPED.read_bytes()).hexdigest()[:16]
    rows = [row | dict(weights=weights) for row in rows]
    LEDGER.add(rows, dict(spec=SPEC, resolutions=RESOLUTIONS, voice=weights), data=measured, seeds=0, whole=True)
    for row in rows:
        print({k: v for k, v in row.items() if not k.endswith("_ci")})


if __name__ == "__main__":
    main()
