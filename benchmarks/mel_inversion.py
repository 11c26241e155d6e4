"""What each step from a mel picture back to sound loses: the table of chapter 11.

    python benchmarks/mel_inversion.py DATA [--windows 10] [--store]

DATA: a folder genre/file of audio. One window a clip, clips spread evenly over the folder. Columns: `convergence_db`
spectral convergence, `lsd_db` log-spectral distance at n_fft 2048 and hop 512, `lsd_short_db` the same at 512 and 128
(attacks), `mel_l1` mean absolute error of the picture in parts of full scale, `level_db` mean gain, `cpu_s` processor
seconds a window. Means over windows; `mel_l1_sd` is the spread over windows.
"""

import argparse
import time
from pathlib import Path

import librosa
import numpy as np
import torch
from ledger import Ledger

from musevae.corpus import read_audio
from musevae.mel import MelSpec, mel_filterbank
from musevae.vocoder import get_inverter, griffin_lim, istft, stft

SPEC = MelSpec()


def spectra(y, n_fft, hop):
    "Level of the spectrum in dB `(batch, bins, frames)`, at most 80 dB below the window's peak."
    z = torch.stft(y, n_fft, hop, window=torch.hann_window(n_fft), pad_mode="constant", return_complex=True)
    level = 20 * z.abs().clamp_min(1e-8).log10()
    return level.maximum(level.amax((1, 2), keepdim=True) - 80)


def log_spectral_distance(y, y_hat, n_fft, hop):
    "Root mean square over bins, mean over frames and windows, dB."
    gap = spectra(y, n_fft, hop) - spectra(y_hat, n_fft, hop)
    return gap.square().mean(1).sqrt().mean().item()


def judge(y, y_hat, x, ref_db):
    "The columns of the table."
    wanted, got = stft(y, SPEC).abs(), stft(y_hat, SPEC).abs()
    ratio = (wanted - got).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
    level = SPEC.decibels(SPEC.mel_power(y_hat))
    again = (1 + (level - ref_db.view(-1, 1, 1, 1)) / SPEC.top_db).clamp(0, 1)
    error = (again - x).abs().mean((1, 2, 3))
    return dict(
        convergence_db=round((20 * ratio.log10()).mean().item(), 2),
        lsd_db=round(log_spectral_distance(y, y_hat, 2048, 512), 2),
        lsd_short_db=round(log_spectral_distance(y, y_hat, 512, 128), 2),
        mel_l1=round(error.mean().item(), 5),
        mel_l1_sd=round(error.std().item(), 5),
        level_db=round((20 * (y_hat.norm(dim=1) / y.norm(dim=1)).log10()).mean().item(), 2),
    )


def pinv_magnitude(power, bank):
    "Least squares by the pseudo-inverse, negative parts cut off; magnitude."
    return (torch.linalg.pinv(bank) @ power).clamp_min(0)


def librosa_magnitude(power):
    "librosa's non-negative least squares (L-BFGS-B), window by window."
    made = [librosa.feature.inverse.mel_to_stft(p.numpy(), sr=22050, n_fft=2048, power=2.0) for p in power]
    return torch.from_numpy(np.stack(made)).float()


def papers_sound(y, x):
    "The public code's chain, written anew: magnitude for power, HTK triangles without norm for Slaney's, level gained."
    bank = mel_filterbank(22050, 2048, 128, "htk")
    bank = torch.from_numpy(bank / bank.max(1, keepdims=True)).float()
    made = griffin_lim(pinv_magnitude(SPEC.magnitude_of(x)[:, 0], bank), SPEC, SPEC.samples, iterations=64)
    return made * (y.norm(dim=1) / made.norm(dim=1))[:, None]


def chains(y, x, ref_db):
    "Name -> a function that makes the sounds."
    z = stft(y, SPEC)
    power = SPEC.power(x, ref_db)[:, 0]
    bank = torch.from_numpy(mel_filterbank(22050, 2048, 128)).float()

    def phase(magnitude, name="fast-griffinlim", **options):
        return get_inverter(name, SPEC, **options).sound(magnitude, SPEC.samples)

    def ours():
        return SPEC.stft_magnitude(x, ref_db)

    return {
        "true magnitude, Griffin-Lim 32": lambda: phase(z.abs(), "griffinlim"),
        "true magnitude, fast Griffin-Lim 32": lambda: phase(z.abs()),
        "true magnitude, PGHI alone": lambda: phase(z.abs(), "pghi", iterations=0),
        "true magnitude, PGHI, fast Griffin-Lim 32": lambda: phase(z.abs(), "pghi"),
        "mel: the paper's chain, gain-aligned": lambda: papers_sound(y, x),
        "mel: pinv and clip, fast Griffin-Lim 32": lambda: phase(pinv_magnitude(power, bank).sqrt()),
        "mel: librosa's NNLS, fast Griffin-Lim 32": lambda: phase(librosa_magnitude(power)),
        "mel: KL NNLS, Griffin-Lim 32": lambda: phase(ours(), "griffinlim"),
        "mel: KL NNLS, fast Griffin-Lim 32 (default)": lambda: phase(ours()),
        "mel: KL NNLS, fast Griffin-Lim 64": lambda: phase(ours(), iterations=64),
        "mel: KL NNLS, PGHI, fast Griffin-Lim 32": lambda: phase(ours(), "pghi"),
        "mel: KL NNLS, true phase": lambda: istft(torch.polar(ours(), z.angle()), SPEC, SPEC.samples),
    }


def magnitudes(x, ref_db):
    "mel -> linear -> mel, no phase: ours against librosa's, error in the picture and processor seconds a window."
    power, bank = SPEC.power(x, ref_db)[:, 0], torch.from_numpy(mel_filterbank(22050, 2048, 128)).float()
    ways = {
        "mel -> linear -> mel: KL NNLS 100": lambda: SPEC.stft_magnitude(x, ref_db),
        "mel -> linear -> mel: librosa's NNLS": lambda: librosa_magnitude(power),
        "mel -> linear -> mel: pinv and clip": lambda: pinv_magnitude(power, bank).sqrt(),
    }
    for name, way in ways.items():
        start = time.process_time()
        linear = way()
        cpu = (time.process_time() - start) / len(x)
        level = SPEC.decibels((bank @ linear.square()).unsqueeze(1))
        error = ((1 + (level - ref_db.view(-1, 1, 1, 1)) / SPEC.top_db).clamp(0, 1) - x).abs().mean((1, 2, 3))
        yield name, dict(mel_l1=round(error.mean().item(), 5), mel_l1_sd=round(error.std().item(), 5), cpu_s=round(cpu, 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--store", action="store_true", help="write nbs/results/mel_inversion.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in options.data.glob("**/*") if p.suffix in (".flac", ".wav", ".au", ".mp3"))
    step = len(paths) / options.windows
    chosen = [paths[int((i + 0.35) * step)] for i in range(options.windows)]
    y = torch.stack([SPEC.windows(read_audio(p))[2] for p in chosen])
    x, ref_db = SPEC.forward(y)
    about = dict(
        windows=len(y),
        data=options.data.name,
        threads=1,
    )
    rows = []
    for name, values in magnitudes(x, ref_db):
        rows.append(dict(chain=name, **values, **about))
        print(f"{name:46s}", values, flush=True)
    for name, make in chains(y, x, ref_db).items():
        start = time.process_time()
        made = make()
        cpu = (time.process_time() - start) / len(y)
        rows.append(dict(chain=name, **judge(y, made, x, ref_db), cpu_s=round(cpu, 3), **about))
        print(f"{name:46s}", {k: v for k, v in rows[-1].items() if k not in about and k != "chain"}, flush=True)
    if options.store:
        Ledger("mel_inversion", ["chain"], packages=("librosa", "numpy")).add(rows, dict(spec=SPEC) | about, seeds=0, whole=True)


if __name__ == "__main__":
    main()
