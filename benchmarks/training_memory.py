"""Peak resident memory of a training, a process of its own for each preset.

    python benchmarks/training_memory.py [--presets transform demo gtzan] [--steps 20] [--store]

The windows are random numbers of the real size, float16, mapped from a file as the cache of `mel_windows` maps them, and
read once, as it reads them; `transform` and `demo` get the 480 of the book's made corpus, the others GTZAN's 6,000; 80 % to learn
from, 10 % to choose by. A training as `musevae.runs.train` makes it: initialisation, evaluation and checkpoint at step 0, then
steps (of these more than an epoch, so that a second evaluation is among them), a Ctrl-C and the checkpoint it makes.
Peaks are the kernel's VmHWM (Linux), in GB of 10⁹ bytes: libraries and mapped pages count. Each column says how far the
peak had come when that stage was over.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

WINDOWS = {"transform": 480, "demo": 480}  # GTZAN's otherwise


def peak():
    "Most memory this process has had resident so far, GB (10⁹ bytes)."
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def made_from(preset):
    "The settings that a row of these labels is made from."
    from training_speed import named

    return dict(preset=named(preset), windows=WINDOWS.get(preset, 6000))


def windows_on_disk(path, n, shape):
    "Random windows in a file, written a few at a time."
    import numpy as np

    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(path, "w+", np.float16, (n, *shape))
    for i in range(0, n, 256):
        x[i : i + 256] = rng.random((min(256, n - i), *shape), np.float32)
    x.flush()


def train_once(name, path, steps):
    "Train in this process; prints a JSON object with the peak by each stage."
    import numpy as np
    import pandas as pd
    import torch
    from training_speed import named

    from musevae.fitting import fit
    from musevae.mel import MelSpec
    from musevae.vae import ConvVAE
    from musevae.windows import WindowSet

    stages = {"import": peak()}
    x = np.load(path, mmap_mode="r")
    for i in range(0, len(x), 256):
        x[i : i + 256].view(np.uint16).max()
    n, tenth = len(x), len(x) // 10
    table = pd.DataFrame(dict(track=np.arange(n) // 6, window=np.arange(n) % 6, genre="none", artist=pd.NA, path="none"))
    table["split"] = np.repeat(["train", "valid", "test"], [n - 2 * tenth, tenth, tenth])
    windows = WindowSet(x, np.zeros(n, np.float32), table, MelSpec(), "random")
    stages["windows"] = peak()
    settings = named(name) if steps else named(name, epochs=1)
    torch.manual_seed(0)
    vae = ConvVAE(settings.vae, windows.spec)
    x_train, x_valid = (torch.from_numpy(windows.select(split).x[:]).unsqueeze(1) for split in ("train", "valid"))
    vae.initialise(x_train)
    stages["initialise"] = peak()
    taken = 0

    def on_step(step):
        nonlocal taken
        taken = step.number
        if taken == steps:
            os.kill(os.getpid(), signal.SIGINT)

    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(vae, x_train, x_valid, settings.train, folder, progress=False, on_step=on_step,
                on_epoch=lambda row: stages.setdefault("evaluation", peak()))  # at step 0
        except KeyboardInterrupt:
            pass
    stages["training"] = peak()
    print(json.dumps(dict(stages=stages, steps=taken, threads=torch.get_num_threads(), torch=torch.__version__)))


def main():
    "Measure each preset in a process of its own; print and write the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["transform", "transform, deep", "demo", "gtzan"])
    parser.add_argument("--steps", type=int, default=20, help="Ctrl-C after so many; 0: one whole epoch")
    parser.add_argument("--store", action="store_true", help="write nbs/results/training_memory.csv")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return train_once(*args.child, args.steps)
    from musevae.mel import MelSpec

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.presets:
            path = Path(folder) / "x.npy"
            n = WINDOWS.get(name, 6000)
            windows_on_disk(path, n, MelSpec().shape)
            command = [sys.executable, __file__, "--child", name, str(path), "--steps", str(args.steps)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            stages = {f"{stage} GB": round(gb, 2) for stage, gb in told["stages"].items()}
            rows.append(dict(preset=name, windows=n, steps=told["steps"], **stages, threads=told["threads"]))
            print(json.dumps(rows[-1]), flush=True)
    if args.store:
        from ledger import Ledger

        for row in rows:
            Ledger("training_memory", ["preset"]).add(row, made_from(row["preset"]), seeds=0)


if __name__ == "__main__":
    main()
