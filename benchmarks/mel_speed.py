"""Windows a second of the mel front end against librosa, in one run, on the same cores.

    python benchmarks/mel_speed.py [DATA] [--store]

DATA: a folder genre/file of audio; without it, ten minutes of noise. Every contender sees the same windows and as many
threads, for BLAS and FFT alike (without that limit librosa's BLAS takes all cores); rounds are interleaved and the median
is kept, so that other work on the machine falls on all alike. `cpu` is processor time, `wall` is the clock; `load` is what
else the machine was doing. torchaudio and nnAudio are measured where they are installed.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import torch
from ledger import Ledger
from threadpoolctl import threadpool_limits

from musevae.mel import MelSpec

SPEC = MelSpec()


def windows_of(data, count):
    "Windows of real clips, or of noise."
    if data is None:
        return torch.randn(count, SPEC.samples, generator=torch.Generator().manual_seed(0)) / 10
    from musevae.corpus import read_audio

    paths = sorted(p for p in Path(data).glob("**/*") if p.suffix in (".flac", ".wav", ".au", ".mp3"))
    paths = paths[:: max(1, len(paths) * 6 // count)]
    return torch.cat([SPEC.windows(read_audio(p)) for p in paths])[:count]


def librosa_log_mel(y):
    "librosa's road to the same picture."
    power = librosa.feature.melspectrogram(y=y, sr=22050, n_fft=2048, hop_length=512, n_mels=128)
    return librosa.power_to_db(power, ref=np.max)


def each(function, parts):
    "Make and forget: what was kept would have to be given memory, and that is not what is measured."
    for part in parts:
        function(part)


def contenders(y, threads):
    "Name -> a function that makes all the pictures."
    sound, pool = y.numpy(), ThreadPoolExecutor(threads)
    made = {
        "librosa, window by window": lambda: each(librosa_log_mel, sound),
        "librosa, a thread a window": lambda: each(len, pool.map(librosa_log_mel, sound)),
        "musevae, window by window": lambda: each(SPEC.forward, y),
        "musevae, batches of 32": lambda: each(SPEC.forward, y.split(32)),
    }
    try:
        import torchaudio

        mel = torchaudio.transforms.MelSpectrogram(
            22050, 2048, hop_length=512, n_mels=128, norm="slaney", mel_scale="slaney", pad_mode="constant"
        )
        made["torchaudio, batches of 32"] = lambda: each(lambda part: mel(part).clamp_min(1e-10).log10(), y.split(32))
    except (ImportError, OSError):  # OSError: a build for another torch
        pass
    try:
        from nnAudio.features.mel import MelSpectrogram

        net = MelSpectrogram(22050, 2048, n_mels=128, hop_length=512, pad_mode="constant", verbose=False)
        made["nnAudio, batches of 32"] = lambda: each(lambda part: net(part).clamp_min(1e-10).log10(), y.split(32))
    except (ImportError, OSError):  # OSError: a build for another torch
        pass
    return made


def measure(functions, rounds):
    "Median wall and processor seconds of each."
    times = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            time.sleep(0.2)  # BLAS threads of the one before spin for a while
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            if turn:  # the first round warms up
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: tuple(statistics.median(t) for t in zip(*took, strict=True)) for name, took in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--windows", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--store", action="store_true", help="write nbs/results/mel_speed.csv")
    options = parser.parse_args()
    y = windows_of(options.data, options.windows)
    about = dict(
        source="noise" if options.data is None else Path(options.data).name,
        load=round(os.getloadavg()[0], 1),
    )
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            took = measure(contenders(y, threads), options.rounds)
        base = took["librosa, window by window"]
        for name, (wall, cpu) in took.items():
            rows.append(
                dict(
                    contender=name,
                    threads=threads,
                    windows=len(y),
                    wall_ms_per_window=round(1e3 * wall / len(y), 3),
                    cpu_ms_per_window=round(1e3 * cpu / len(y), 3),
                    windows_per_s=round(len(y) / wall, 1),
                    ratio_wall=round(base[0] / wall, 2),
                    ratio_cpu=round(base[1] / cpu, 2),
                    **about,
                )
            )
            print(
                f"{threads} threads  {name:28s} {1e3 * wall / len(y):7.2f} ms wall {1e3 * cpu / len(y):7.2f} ms cpu a window"
                f"   {base[0] / wall:5.1f}x wall {base[1] / cpu:5.1f}x cpu"
            )
    if options.store:
        ledger = Ledger("mel_speed", ["contender", "threads"], packages=("numba", "librosa", "numpy"))
        ledger.add(rows, dict(spec=SPEC, windows=options.windows, rounds=options.rounds, source=about["source"]), whole=True)


if __name__ == "__main__":
    main()
