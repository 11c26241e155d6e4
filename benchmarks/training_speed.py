"""Training speed: windows per second of a full step, side by side in one run, and what each step is made of.

    python benchmarks/training_speed.py [--rounds 5] [--batch 32] [--device cpu] [--store]

Rows take turns, round by round, so that a noisy machine disturbs all of them alike; in each turn a step is taken before
the one that counts, and each figure is the median over rounds. `of_matmul` is the rate of the step's operations
(`step_flops`) over that of a 2048 × 2048 float32 matrix product (in TF32 for the variant of that name), measured in the
same rounds. `loader` is the share of the step spent on choosing, gathering and widening the batch and drawing its noise.
Variants change one thing each: `tf32` the matrix products' precision, `bf16` the networks' (autocast), `compile` the
execution (torch.compile); on a GPU all are measured.
"""
import argparse
import contextlib
import copy
import os
import statistics
import time

import pandas as pd
import torch
from ledger import Ledger

from musevae.mel import MelSpec
from musevae.presets import preset as chosen
from musevae.training import adam, average_weights, batch_of, learn, noise_of, step_flops
from musevae.vae import ConvVAE

PRESETS = ("transform", "transform, deep", "demo", "gtzan", "paper")
VARIANTS = ["float32", "tf32", "bf16", "compile"]
LEDGER = Ledger("training_speed", ["preset", "latent_dim", "variant", "device"])


def made_from(preset, latent_dim, variant, device):
    "The settings that a row of these labels is made from."
    return dict(preset=named(preset, latent_dim=int(latent_dim)), variant=variant)


def named(name, **changes):
    "A preset, or `transform` with the filters and batches of `gtzan`; one noise scale."
    if name == "transform, deep":
        return chosen("transform", per_band=False, filter_blocks=4, filter_width=256, epochs=100, batch_size=64, **changes)
    return chosen(name, per_band=False, **changes)


@contextlib.contextmanager
def precision(variant):
    "The arithmetic of a variant, for as long as it is measured."
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if variant == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def now(device):
    "A clock that waits for the device."
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Step:
    "One training step of a preset, as `musevae.training.steps` takes it, in two parts."

    def __init__(self, name, latent_dim, variant, x, batch, device):
        torch.manual_seed(0)
        width = "bf16" if variant == "bf16" else "no"
        self.chosen = named(name, latent_dim=latent_dim, learning_rate=1e-4, mixed_precision=width)
        self.x, self.batch, self.device, self.n = x, batch, device, 0
        self.vae = ConvVAE(self.chosen.vae, MelSpec()).initialise(x[:64].float().cpu()).to(device).train()
        self.mean_vae = copy.deepcopy(self.vae) if self.chosen.train.average else None
        self.model = torch.compile(self.vae) if variant == "compile" else self.vae
        self.optimizer = adam(self.vae, self.chosen.train)
        self.optimizer.param_groups[0]["lr"] = self.chosen.train.learning_rate

    def load(self):
        rows = batch_of(self.n, len(self.x), self.batch, 0).to(self.device)
        self.n += 1
        return self.x[rows].float(), noise_of(self.n, (len(rows), self.chosen.vae.latent_dim), 0, self.device)

    def learn(self, x, eps):
        learn(self.vae, x, eps, self.optimizer, self.chosen.train, model=self.model)
        if self.mean_vae is not None:
            average_weights(self.mean_vae, self.vae, self.chosen.train.average)


def main():
    "Measure, print and store the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--latent-dims", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: float32 on a CPU, all on a GPU")
    parser.add_argument("--store", action="store_true", help="write nbs/results/training_speed.csv")
    args = parser.parse_args()
    device = torch.device(args.device)
    variants = args.variants or (["float32"] if device.type == "cpu" else VARIANTS)
    x = torch.rand(512, 1, *MelSpec().shape, generator=torch.Generator().manual_seed(0)).half().to(device)
    a = torch.randn(2048, 2048, device=device)
    rows = [(name, d, v) for v in variants for d in args.latent_dims for name in PRESETS]
    steps = {row: Step(*row, x, args.batch, device) for row in rows}
    flops = {row: args.batch * step_flops(step.vae, x[:4].float()) for row, step in steps.items()}
    times, loads, matmul = ({row: [] for row in rows} for _ in range(3))
    for turn in range(args.rounds + 1):
        for row, step in steps.items():
            with precision(row[2]):
                t = now(device)
                for _ in range(4):
                    a @ a
                rate = 4 * 2 * 2048**3 / (now(device) - t)
                step.learn(*step.load())  # memory and caches are this row's again, as in a training of its own
                t = now(device)
                given = step.load()
                loaded = now(device)
                step.learn(*given)
                took = now(device) - t
            if turn:  # the first round warms up
                for kept, value in ((matmul, rate), (times, took), (loads, (loaded - t) / took)):
                    kept[row].append(value)
    median = statistics.median
    table = []
    for name, d, variant in rows:
        row = (name, d, variant)
        seconds, rate = median(times[row]), median(matmul[row])
        pairs = zip(times["paper", d, variant], times[row], strict=True)
        table.append(dict(
            preset=name, latent_dim=d, variant=variant, windows_per_s=round(args.batch / seconds, 1),
            times_paper=round(median(p / s for p, s in pairs), 1), of_matmul=round(flops[row] / seconds / rate, 2),
            loader=round(median(loads[row]), 4),
            million_weights=round(sum(p.numel() for p in steps[row].vae.parameters()) / 1e6, 1),
            minutes_50_epochs_of_6000=round(50 * 6000 / args.batch * seconds / 60, 1), matmul_gflops=round(rate / 1e9)))
    about = dict(batch=args.batch, rounds=args.rounds, device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
                 threads=torch.get_num_threads(), load=round(os.getloadavg()[0], 1))
    table = pd.DataFrame(table)
    print(about)
    print(table.to_string(index=False))
    if args.store:
        for row in table.assign(**about).to_dict("records"):
            LEDGER.add(row, made_from(row["preset"], row["latent_dim"], row["variant"], row["device"]), seeds=0)


if __name__ == "__main__":
    main()
