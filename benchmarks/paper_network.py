"""The paper's network, trained until its error on unseen clips stands still: the curve of error against arithmetic.

    python benchmarks/paper_network.py DATA --work DIR [--epochs 200] [--rates 1e-4 3e-4 1e-3] [--patience 30]

Preset `paper` with 512 units, and with what the other candidates of chapter 4 get: it decodes around the mean spectrum, its
noise scale is calibrated, β = 1, batches of 32, a running average of the weights is judged. DATA is split by clip, seed 0.
Each learning rate is tried for three epochs; the best of them, by the validation windows, is trained anew: a warm-up over two
per cent of the steps, then a constant rate, until the validation error has not fallen by 0.01 dB for `--patience` epochs. DIR
keeps the rows and a checkpoint: a killed run goes on. Each new row is stored in `nbs/results/paper_network.csv` at once; so a
run may be stopped at any time, and the table says by its last row how far it came.
"""
import argparse
import copy
import json
from pathlib import Path

import torch
from ledger import Ledger

from musevae.corpus import load_corpus, split_clips
from musevae.evaluation import judge
from musevae.presets import preset
from musevae.training import average_weights, batch_of, learn, noise_of, step_flops
from musevae.vae import ConvVAE
from musevae.windows import mel_windows

CHOSEN = preset("paper", latent_dim=512, profile=True)
SEED, BATCH, TRIAL = 0, 32, 3  # the last: epochs a learning rate is tried for
CHECKPOINT = 10  # epochs from one to the next
LEDGER = Ledger("paper_network", ["phase", "learning_rate", "epoch"])
MEASURE = 1  # goes up with what is measured, or how


def made_from(phase, learning_rate, epoch):
    "The settings that a row of these labels is made from."
    return dict(measure=MEASURE, preset=CHOSEN, batch=BATCH, seed=SEED, rate=float(learning_rate), trial=phase == "trial")


class Training:
    "A network, its running average and its optimizer, on the way."

    def __init__(self, x, rate, epochs):
        torch.manual_seed(SEED)
        self.x, self.rate, self.per_epoch, self.epoch = x, rate, -(-len(x) // BATCH), 0
        self.warmup = max(5, round(0.02 * epochs * self.per_epoch))
        self.vae = ConvVAE(CHOSEN.vae).initialise(x)
        self.kept = copy.deepcopy(self.vae)
        self.optimizer = torch.optim.AdamW(self.vae.parameters(), rate, (0.9, 0.95), fused=True,
                                           weight_decay=CHOSEN.train.weight_decay)

    def go(self):
        "One epoch."
        for step in range(self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch):
            rows = batch_of(step, len(self.x), BATCH, SEED)
            eps = noise_of(step, (len(rows), CHOSEN.vae.latent_dim), SEED)
            self.optimizer.param_groups[0]["lr"] = self.rate * min(1, (step + 1) / self.warmup)
            learn(self.vae, self.x[rows], eps, self.optimizer, CHOSEN.train)
            average_weights(self.kept, self.vae, min(0.99, (step + 1) / (step + 10)))
        self.epoch += 1

    def save(self, path):
        "All of it into a file."
        state = dict(epoch=self.epoch) | {name: getattr(self, name).state_dict() for name in ("vae", "kept", "optimizer")}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path):
        "Put back what `save` wrote."
        state = torch.load(path, weights_only=True)
        self.epoch = state["epoch"]
        for name in ("vae", "kept", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


def judged(vae, parts):
    "Error, bound and rate of a model on all kinds of windows, as columns."
    row = {}
    for name, x in parts.items():
        found = judge(vae, x).figures()
        row |= {f"{name}_{k}": round(found[k], 4) for k in ("rmse_db", "elbo_nats", "rate_nats")}
    return row


def stands(rows, patience):
    "Whether the validation error has not fallen by 0.01 dB in the last `patience` epochs."
    before = [r["valid_rmse_db"] for r in rows if r["epoch"] <= rows[-1]["epoch"] - patience]
    return bool(before) and min(r["valid_rmse_db"] for r in rows) > min(before) - 0.01


def main():
    "Try the rates, train with the best, store the curve."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--patience", type=int, default=30)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    log, checkpoint = args.work / "rows.json", args.work / "checkpoint.pt"
    windows = mel_windows(split_clips(load_corpus(args.data, on_fault="ignore"), seed=SEED), progress=False)
    x, x_valid, x_test = (windows.select(s).tensor().float() for s in ("train", "valid", "test"))
    parts = dict(train=x[:: -(-len(x) // len(x_valid))], valid=x_valid, test=x_test)
    flops = step_flops(ConvVAE(CHOSEN.vae), x[:4]) * len(x)
    rows = json.loads(log.read_text()) if log.exists() else []
    counts = dict(windows=len(x), unseen=len(x_test), data=Path(args.data).name)

    def store(row):
        labels = {name: row[name] for name in LEDGER.labels}
        if not LEDGER.has(labels, made_from(**labels), windows.key):
            LEDGER.add(row | counts, made_from(**labels), data=windows.key, seeds=SEED)

    def add(training, phase):
        row = dict(phase=phase, learning_rate=training.rate, epoch=training.epoch, tflop=round(flops * training.epoch / 1e12, 2))
        rows.append(row | judged(training.kept, parts))
        print(rows[-1], flush=True)
        log.write_text(json.dumps(rows, indent=1))
        store(rows[-1])

    for row in rows:
        store(row)
    for rate in args.rates:
        if not any(r["phase"] == "trial" and r["learning_rate"] == rate for r in rows):
            trial = Training(x, rate, TRIAL)
            for _ in range(TRIAL):
                trial.go()
            add(trial, "trial")
    training = Training(x, min((r for r in rows if r["phase"] == "trial"), key=lambda r: r["valid_rmse_db"])["learning_rate"],
                        args.epochs)
    if checkpoint.exists():
        training.load(checkpoint)
    rows[:] = [r for r in rows if r["phase"] == "trial" or r["epoch"] <= training.epoch]
    while True:
        curve = [r for r in rows if r["phase"] == "curve"]
        if training.epoch <= 10 or training.epoch % 2 == 0:
            if not curve or curve[-1]["epoch"] < training.epoch:
                add(training, "curve")
        if training.epoch >= args.epochs or curve and stands(curve, args.patience):
            break
        training.go()
        if training.epoch % CHECKPOINT == 0:
            training.save(checkpoint)


if __name__ == "__main__":
    main()
