"""What each part of the model is worth: nats and decibels on unseen windows as parts are added, and the pulse of what is drawn.

    python benchmarks/parts.py DATA [--seeds 0 1 2]

On the made corpus, divided by clip, and on the corpus DATA, divided by clip and by artist, with several seeds; a seed divides the
corpus, begins and trains. The first four models are closed forms: a Gaussian without a code under coloured noise; 512 units under
white noise, with one scale and with one a band; 480 units under coloured noise. Then preset `demo` without its filters and its
prior, `demo` without its prior, and `demo`; the last three are one training, judged under N(0, I), under what the prior has learnt
of the order in time, and under all that it has learnt. Of these, as many pictures as there are test windows are drawn, without
grain, and their pulse is measured. Five to ten minutes a division on two cores. Rows go to
`nbs/results/parts.csv`; those that are there, made from the same, are skipped.
"""
import argparse
import tempfile
from pathlib import Path

import torch
from ledger import Ledger

from musevae.corpus import load_corpus, split_clips
from musevae.evaluation import judge
from musevae.generation import sample
from musevae.presets import preset
from musevae.pulse import pulse
from musevae.runs import RECIPE, train
from musevae.synth import made_corpus
from musevae.vae import ColouredGaussian
from musevae.vae.joint import JointGaussian
from musevae.windows import mel_windows

LEDGER = Ledger("parts", ["data", "split", "seed", "model"])
MEASURE = 1  # goes up with what is measured, or how
CLOSED = {
    "512 units, white noise": preset("linear"),
    "512 units, white noise, a scale a band": preset("linear", per_band=True),
    "480 units, coloured noise": preset("demo", latent_dim=480, global_dim=0, filter_blocks=0, prior="normal", prior_steps=0),
}
WITHOUT_FILTERS = preset("demo", filter_blocks=0, prior="normal", prior_steps=0)
WHOLE = preset("demo")
MODELS = ("coloured noise alone", *CLOSED, "and a global code", "and filters", "and a prior that learns",
          "and what holds for a window together")


def made_from(data, split, seed, model):
    "The settings that a row of these labels is made from."
    chosen = CLOSED.get(model, WITHOUT_FILTERS if model == "and a global code" else WHOLE if model.startswith("and ") else None)
    return dict(measure=MEASURE, recipe=RECIPE, data=data, split=split, seed=int(seed), model=model, preset=chosen)


def figures(found, rate):
    "What is stored of a judgement, with the rate under one prior."
    return dict(elbo_nats=round(-(found.distortion_nats + rate), 1), rate_nats=round(rate, 1), rmse_db=round(found.rmse_db, 4))


def trained(corpus, chosen, seed):
    "The model of a preset, the best of its training by validation windows."
    with tempfile.TemporaryDirectory() as out:
        return train(corpus, Path(out) / "run", preset=chosen, seed=seed, progress=False, device="cpu").vae


def drawn_pulse(vae, n, spec):
    "Mean pulse of `n` pictures from the model's prior."
    return round(float(pulse(sample(vae, n).numpy(), spec).strength.mean()), 4)


def measure(corpus, windows, seed, missing):
    "Rows (model, figures) of one division, in the order of `MODELS`, of those that are `missing`."
    x, x_test = (windows.select(s).tensor() for s in ("train", "test"))
    alone, *_, unfiltered, filtered, learnt, together = MODELS
    if alone in missing:
        yield alone, dict(elbo_nats=round(ColouredGaussian.fit(x).log_evidence(x_test).mean().item(), 1))
    for model, chosen in CLOSED.items():
        if model in missing:
            found = judge(chosen.vae.build(windows.spec).initialise(x), x_test)
            yield model, figures(found, found.rate_nats)
    if unfiltered in missing:
        found = judge(trained(corpus, WITHOUT_FILTERS, seed), x_test)
        yield unfiltered, figures(found, found.rate_nats)
    if missing & {filtered, learnt, together}:  # one training
        vae, n = trained(corpus, WHOLE, seed), len(x_test)
        found = judge(vae, x_test)
        music = dict(music_pulse=round(float(pulse(x_test.float().numpy(), windows.spec).strength.mean()), 4))
        rows = {together: figures(found, found.rate_nats) | dict(pulse=drawn_pulse(vae, n, windows.spec))}
        if vae.prior.trained:
            vae.prior.overall = JointGaussian(len(vae.prior.known))  # N(0, I)
        rows[learnt] = figures(found, judge(vae, x_test).rate_nats) | dict(pulse=drawn_pulse(vae, n, windows.spec))
        vae.prior.reset()
        rows[filtered] = figures(found, found.rate_normal_nats) | dict(pulse=drawn_pulse(vae, n, windows.spec))
        yield from ((model, rows[model] | music) for model in (filtered, learnt, together) if model in missing)


def divisions(data, seeds):
    "Names of corpus and split, seed, and clips with their splits."
    own, made = load_corpus(data, on_fault="ignore"), made_corpus()
    for seed in seeds:
        for name, corpus, split in (("made", made, "clip"), (Path(data).name, own, "clip"), (Path(data).name, own, "artist")):
            yield name, split, seed, split_clips(corpus, scheme=split, seed=seed)


def main():
    "Measure what is missing, division by division."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.manual_seed(0)
    for data, split, seed, corpus in divisions(args.data, args.seeds):
        windows = mel_windows(corpus, progress=False)
        labels = {model: dict(data=data, split=split, seed=seed, model=model) for model in MODELS}
        missing = {model for model, row in labels.items() if not LEDGER.has(row, made_from(**row), windows.key)}
        if not missing:
            continue
        counts = {s: int((windows.table["split"] == part).sum()) for s, part in (("windows", "train"), ("unseen", "test"))}
        for model, found in measure(corpus, windows, seed, missing):
            row = labels[model]
            LEDGER.add(row | counts | found, made_from(**row), data=windows.key, seeds=seed)
            print(row | found, flush=True)


if __name__ == "__main__":
    main()
