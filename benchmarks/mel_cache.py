"""A corpus from files to the cached array: time, memory, and what the time goes into, at growing numbers of clips.

    python benchmarks/mel_cache.py DATA [--times 1 3 10] [--store]

DATA: a folder genre/file of audio, as GTZAN or gtzan_mini. Each run is a process of its own that makes a cache of DATA's
clips, so many times over (a hundred clips ten times are GTZAN's thousand: the files are read each time), in a folder that
is removed afterwards. `peak_mb` is the largest resident memory of the run beyond that of the imports; the array itself is
mapped from disk. `decode` (with the check that the samples are those that were scanned) and `mel` are the shares
of processor time that the two steps alone take, on every clip of DATA once, one after the other in one thread; `rest` is
what the run needs beyond them: queues, shards, hashes, the assembly.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd


def peak_mb():
    "Largest resident memory of this process so far, MB."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(table, times, workers):
    "Make the cache once; what it took."
    import torch

    from musevae.corpus import read_audio
    from musevae.mel import MelSpec
    from musevae.windows import mel_windows

    clips, spec = pd.read_csv(table), MelSpec()
    torch.set_num_threads(1)
    decode = mel = 0.0
    spec.forward(spec.windows(read_audio(clips.path[0])))  # warms up
    for clip in clips.itertuples():
        start = time.process_time()
        y = read_audio(clip.path, sha256=clip.sha256)
        middle = time.process_time()
        spec.forward(spec.windows(y))[0].half()
        decode, mel = decode + middle - start, mel + time.process_time() - middle
    many = pd.concat([clips.assign(track=clips.track + f"-{i}") for i in range(times)])
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wall, cpu = time.perf_counter(), time.process_time()
        windows = mel_windows(many.reset_index(drop=True), spec, cache=folder, workers=workers, progress=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        array = windows.x.nbytes / 2**20
    steps = dict(decode=decode * times, mel=mel * times)
    row = dict(clips=len(many), windows=len(windows), wall_s=wall, windows_per_s=len(windows) / wall, cpu_s=cpu)
    row |= {f"{k}_share": v / cpu for k, v in steps.items()}
    return row | dict(rest_share=1 - sum(steps.values()) / cpu, peak_mb=peak_mb() - before, array_mb=array)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--store", action="store_true", help="write nbs/results/mel_cache.csv")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run(options.data, options.child, options.workers)))
        return
    from musevae.corpus import load_corpus

    about = dict(source=Path(options.data).name, workers=options.workers)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "clips.csv"
        load_corpus(options.data, on_fault="ignore")[["track", "path", "sha256"]].to_csv(table, index=False)
        for times in options.times:
            command = [sys.executable, __file__, str(table), "--child", str(times), "--workers", str(options.workers)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout)
            rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} | about)
            print(rows[-1], flush=True)
    if options.store:
        from ledger import Ledger

        Ledger("mel_cache", ["clips"], packages=("numba",)).add(rows, dict(times=options.times) | about, whole=True)


if __name__ == "__main__":
    main()
