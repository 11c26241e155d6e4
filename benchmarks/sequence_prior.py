"""What a prior that reads a code from left to right saves, at equal distortion, and how its samples compare with music.

    python benchmarks/sequence_prior.py [--data made] [--models ...] [--seeds 0 1 2] [--clips 100] [--steps 800]
    python benchmarks/sequence_prior.py --data PATH/gtzan_mini

Size and time: `--models "transformer, 48 wide, 2 blocks"`, `--steps 200`, and so on.

Made music: trained on `--clips` clips a genre of seed 1 (rendered on first use: 100 a genre take some six minutes on a core),
judged on the 100 clips of the book, which are of seed 0. Other music: divided by clip, by the seed. Encoder and decoder are
the closed form of a `SeparableTransform` of contiguous places, the same for all models, so that every nat of rate saved is
saved at the same error.
Besides the network, which is judged with N(0, I) for the means, so that it is the order in time that is measured: N(0, I); one
Gaussian over the means; one Gaussian with full covariance; linear prediction from 12 slots back. Intervals are over the
unseen clips. Rows go to `nbs/results/sequence_prior.csv`; those that are there, made from the same, are skipped.
"""
import argparse
import math
from pathlib import Path

import numpy as np
import torch
from ledger import Ledger

from musevae.corpus import load_corpus, split_clips
from musevae.features import mel_statistics
from musevae.probes import probe
from musevae.pulse import pulse
from musevae.synth import made_corpus
from musevae.vae.beat import Beat, find_beat
from musevae.vae.joint import JointGaussian
from musevae.vae.linear import SeparableTransform
from musevae.vae.prior_sequence import SequencePrior
from musevae.vae.prior_training import codes_of, rate_of, train_sequence
from musevae.windows import mel_clips, mel_windows

LEDGER = Ledger("sequence_prior", ["data", "model", "clips", "steps", "seed"])
MEASURE = 2  # goes up with what is measured, or how; 2: places in an order of time without gaps
LATENT_DIM = 512
MODELS = {
    "transformer, beat in attention": {},
    "transformer, beat at input": dict(beat="input"),
    "transformer, no beat": dict(beat="nothing"),
    "GRU, beat at input": dict(network="gru", beat="input"),
    "GRU, no beat": dict(network="gru", beat="nothing"),
    "transformer, 48 wide, 2 blocks": dict(width=48, layers=2),
    "transformer, 144 wide, 4 blocks": dict(width=144, layers=4),
}
WITHOUT_TRAINING = ("N(0, I)", "Gaussian over the means", "full covariance", "linear prediction")
DRAWN = 200  # samples that are judged, or as many as there are unseen windows


def made_from(data, model, clips, steps, seed):
    "The settings that a row of these labels is made from."
    return dict(measure=MEASURE, data=data, model=model, d=LATENT_DIM, clips=int(clips), steps=int(steps), seed=int(seed))


class Linear:
    "The closed form as a model: `posterior`, and the prior of its codes."

    device = torch.device("cpu")

    def __init__(self, transform, prior):
        self.transform, self.prior = transform, prior

    def posterior(self, x, eps=None):
        mean, logvar = self.transform.mean_logvar(x)
        return mean, (logvar / 2).exp()


def find_beat_of(x):
    "Beats of many pictures."
    return Beat.of(torch.cat([find_beat(p.float()).cell for p in x.split(256)]))


def made_music(clips, cuts=2, draws=6):
    "Training pictures of the made corpus, whole windows and random cuts of every clip; the windows of the book's clips."
    corpus = made_corpus(clips=clips, seed=1, progress=False)
    windows, whole = mel_windows(corpus, progress=False), mel_clips(corpus, progress=False)
    rows = np.repeat(np.arange(len(whole)), cuts)
    x = [torch.from_numpy(np.array(windows.x)).unsqueeze(1)] + [whole.crops(rows, seed=s)[0].half() for s in range(draws)]
    return torch.cat(x), mel_windows(made_corpus(progress=False), progress=False), windows.key


def other_music(path, seed, cuts=10, draws=3):
    "The same of a corpus of files, divided by clip: training pictures, windows of the other clips."
    corpus = split_clips(load_corpus(path, on_fault="ignore"), seed=seed)
    windows = mel_windows(corpus, progress=False)
    whole = mel_clips(corpus[corpus["split"] == "train"], progress=False)
    rows = np.repeat(np.arange(len(whole)), cuts)
    x = [windows.select("train").tensor().half()] + [whole.crops(rows, seed=s)[0].half() for s in range(draws)]
    return torch.cat(x), windows.select(windows.table["split"] != "train"), windows.key


def over_clips(values, tracks):
    "Mean of windows and half of its 95 % interval over clips."
    clips = np.array([values[tracks == t].mean() for t in sorted(set(tracks))])
    return float(values.mean()), float(1.96 * clips.std(ddof=1) / math.sqrt(len(clips)))


def normal_rate(mean, std):
    "KL(q ‖ N(0, I)) of every window, nats."
    return (mean.square() + std.square() - 1 - 2 * std.log()).sum(1) / 2


def entropy(std):
    "Of the posterior, the same for every window, nats."
    return (std.log() + math.log(2 * math.pi) / 2 + 0.5).sum().item()


def full_covariance(train, mean, std):
    "Rate of every window under one Gaussian with the covariance of the training codes, nats; exact."
    c = (train.mT @ train / len(train)).double() + torch.diag(std.square().double())
    root = torch.linalg.cholesky(c)
    flat = torch.linalg.solve_triangular(root, mean.double().T, upper=False).square().sum(0)
    noise = (torch.linalg.inv(c).diagonal() * std.square()).sum()
    nats = (flat + noise + len(c) * math.log(2 * math.pi)) / 2 + root.diagonal().log().sum()
    return nats.float() - entropy(std)


def linear_prediction(prior, train, mean, std, lags=12, ridge=30.0):
    """Rate of every window if each number is predicted from the `lags` slots before it, and from g, by a straight line with
    Gaussian errors (of its column, slot by slot in a round of six): nats, from one sample of the posterior."""
    def rows(codes):
        g, slots = prior.slots.split(codes + std * torch.randn_like(codes))
        past = torch.cat([torch.nn.functional.pad(slots, (0, 0, k, 0))[:, : slots.shape[1]] for k in range(1, lags + 1)], -1)
        return g, slots, torch.cat([past, g.unsqueeze(1).expand(-1, slots.shape[1], -1), torch.ones(*slots.shape[:2], 1)], -1)

    (_, s, h), (g_test, s_test, h_test) = rows(train[:6000]), rows(mean)
    total = torch.zeros(len(mean))
    for lane in range(6):
        a, y = h[:, lane::6].flatten(0, 1), s[:, lane::6].flatten(0, 1)
        weights = torch.linalg.solve((a.T @ a + ridge * torch.eye(a.shape[1])).double(), (a.T @ y).double()).float()
        variance = (y - a @ weights).square().mean(0).clamp_min(1e-6)
        e = s_test[:, lane::6] - h_test[:, lane::6] @ weights
        nats = (e.square() / variance + variance.log() + math.log(2 * math.pi)) / 2 * prior.slots.mask[lane::6]
        total += nats.sum((1, 2))
    return total + (g_test.square() + math.log(2 * math.pi)).sum(1) / 2 - entropy(std)


def steadiness(x, apart=8, width=9):
    "Correlation of fine structure over bands (what a mean over `width` bands leaves) with itself `apart` frames later."
    x = x[:, 0]
    smooth = torch.nn.functional.avg_pool1d(x.mT, width, 1, width // 2, count_include_pad=False).mT
    fine = x - smooth
    a, b = fine[..., :-apart].flatten(1), fine[..., apart:].flatten(1)
    return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp_min(1e-9)).mean().item()


def level_movement(x):
    "Deviation over time of the mean level of each picture, dB."
    return 80 * x[:, 0].mean(1).std(1).mean().item()


class Grain:
    "What the transform leaves out, drawn: Gaussian noise with the variance that each place has in the training pictures."

    def __init__(self, transform, x):
        self.whole = SeparableTransform.fit(x, x.shape[2:].numel())
        kept = torch.isin(self.whole.index, transform.index)
        self.std = torch.where(kept, transform.noise, self.whole.variance).sqrt()

    def add(self, x, generator):
        "Pictures with grain, clipped as data are."
        noise = self.whole.inverse(self.std * torch.randn(len(x), len(self.std), generator=generator)) - self.whole.profile
        return (x + noise).clamp(0, 1)


def features(x, spec):
    "What a classifier may tell samples from music by: band statistics, pulse, level, steadiness."
    beat = torch.from_numpy(pulse(x, spec).strength).unsqueeze(1)
    one = torch.tensor([[level_movement(p.unsqueeze(0)), steadiness(p.unsqueeze(0))] for p in x])
    return np.concatenate([mel_statistics(x[:, 0]), beat, one], 1)


def told_apart(x, music, tracks, spec):
    "Accuracy of a logistic regression between samples and music on folds of whole clips; 0.5: it cannot tell."
    groups = [f"sample {i}" for i in range(len(x))] + list(tracks)
    labels = ["sample"] * len(x) + ["music"] * len(music)
    return probe(np.concatenate([features(x, spec), features(music, spec)]), labels, groups, folds=8).score


def nearest(z, train):
    "Median over codes of the distance to the nearest training code."
    return torch.cdist(z, train).amin(1).median().item()


def judge(draw, bench, seed):
    "Measures of pictures of codes: `draw(generator) -> z`, for the windows `bench.rows`."
    generator = torch.Generator().manual_seed(100 + seed)
    z = draw(generator)
    x = torch.cat([bench.transform.mean_picture(p) for p in z.split(64)]).clamp(0, 1)
    grain = bench.grain.add(x, generator)
    strength = pulse(x, bench.spec).strength
    held = (find_beat(x).period / bench.beat.period[bench.rows]).log().abs() < math.log(1.04)
    return dict(pulse=round(float(strength.mean()), 3), pulse_interval=round(1.96 * float(strength.std()) / math.sqrt(len(x)), 3),
                tempo_kept=round(held.float().mean().item(), 3), level_db=round(level_movement(x), 2),
                steady=round(steadiness(x), 3), steady_with_grain=round(steadiness(grain), 3),
                told_apart=round(told_apart(grain, bench.music, bench.tracks[bench.rows], bench.spec), 3),
                nearest=round(nearest(z, bench.train.mean), 2))


class Bench:
    "The data of one corpus and division, coded once."

    def __init__(self, x, windows):
        self.transform, self.spec = SeparableTransform.fit(x, LATENT_DIM, contiguous=True), windows.spec
        model = Linear(self.transform, SequencePrior(self.transform, seconds=windows.spec.seconds))
        self.train, self.test = codes_of(model, x), codes_of(model, windows.tensor(), seed=1)
        self.x, self.beat = windows.tensor(), find_beat_of(windows.tensor())
        self.std = (self.transform.noise / self.transform.variance).clamp_max(1).sqrt()
        self.tracks = windows.table["track"].to_numpy(str)
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
        self.rows = order[:DRAWN].sort().values
        self.music, self.grain = self.x[self.rows], Grain(self.transform, x)
        smooth = torch.cat([self.transform.mean_picture(p) for p in self.test.mean.split(256)]).clamp(0, 1)
        self.rmse_db = 80 * (smooth - self.x).square().mean().sqrt().item()
        self.normal = normal_rate(self.test.mean, self.std)

    def music_row(self):
        "The measures of music itself, and of its reconstructions from samples of the posterior."
        sample = self.test.mean[self.rows]
        row = judge(lambda g: sample + self.std * torch.randn(sample.shape, generator=g), self, 0)
        strength = pulse(self.music, self.spec).strength
        row |= dict(pulse_of_music=round(float(strength.mean()), 3), level_of_music=round(level_movement(self.music), 2),
                    steady_of_music=round(steadiness(self.music), 3))
        return row

    def saved(self, rate):
        "What a rate per window saves beside N(0, I), nats and percent."
        rate_mean = rate.mean().item()
        gain, interval = over_clips((self.normal - rate).numpy(), self.tracks)
        return dict(rmse_db=round(self.rmse_db, 3), rate_normal=round(self.normal.mean().item(), 1), rate=round(rate_mean, 1),
                    saved=round(gain, 1), saved_interval=round(interval, 1),
                    saved_percent=round(100 * gain / self.normal.mean().item(), 1))


def without_training(model, bench):
    "A row of a model that is fitted in closed form."
    torch.manual_seed(0)
    prior = SequencePrior(bench.transform)
    if model == "N(0, I)":
        n = len(bench.rows)
        draw = judge(lambda g: torch.randn(n, LATENT_DIM, generator=g), bench, 0)
        return bench.saved(bench.normal) | draw
    if model == "Gaussian over the means":
        units = prior.known
        joint = JointGaussian(len(units)).fit(bench.train.mean[:, units], bench.train.std[:, units])
        return bench.saved(bench.normal - joint.saved(bench.test.z[:, units]).sum(1))
    if model == "full covariance":
        return bench.saved(full_covariance(bench.train.mean, bench.test.mean, bench.std))
    return bench.saved(linear_prediction(prior, bench.train.mean, bench.test.mean, bench.std))


def trained(model, bench, steps, seed):
    "A row of a network: its rate, its samples for g and beat of unseen windows, and its pulse when it draws those too."
    torch.manual_seed(seed)
    prior = SequencePrior(bench.transform, seconds=bench.spec.seconds, **MODELS[model])
    for _ in train_sequence(prior, bench.train, steps=steps, seed=seed):
        pass
    prior.overall = JointGaussian(len(prior.known))  # N(0, I)
    g, beat = prior.split(bench.test.mean[bench.rows])[0], bench.beat.rows(bench.rows)
    rate = torch.stack([rate_of(prior, bench.test, seed=sample)[0] for sample in range(2)]).mean(0)
    row = bench.saved(rate) | judge(lambda r: prior.sample(len(g), r, g=g, beat=beat), bench, seed)
    free = bench.transform.mean_picture(prior.sample(DRAWN, torch.Generator().manual_seed(seed))).clamp(0, 1)
    paid = 0.0 if prior.beat == "nothing" else -prior.log_beat[bench.test.beat.cell].mean().item()
    return row | dict(price_of_beat=round(paid, 2), pulse_free=round(float(pulse(free, bench.spec).strength.mean()), 3),
                      level_free=round(level_movement(free), 2),
                      weights=sum(p.numel() for p in prior.parameters() if p.requires_grad))


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="made")
    parser.add_argument("--models", nargs="+", default=[*WITHOUT_TRAINING, "music", *MODELS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--steps", type=int, default=800)
    args = parser.parse_args()
    name, bench, loaded = Path(args.data).name, None, None
    for seed in args.seeds:
        for model in args.models:
            plain = model not in MODELS
            if plain and seed and name == "made":  # nothing in it depends on the seed
                continue
            labels = dict(data=name, model=model, clips=args.clips if name == "made" else 0,
                          steps=0 if plain else args.steps, seed=seed)
            if LEDGER.has(labels, made_from(**labels)):
                continue
            if bench is None or (name != "made" and loaded != seed):
                x, windows, _ = made_music(args.clips) if name == "made" else other_music(args.data, seed)
                bench, loaded = Bench(x, windows), seed
            row = dict(windows=len(bench.train.mean), unseen=len(bench.test.mean))
            row |= (bench.music_row() if model == "music" else without_training(model, bench) if plain else
                    trained(model, bench, args.steps, seed))
            LEDGER.add(labels | row, made_from(**labels), seeds=seed)
            print(labels | row, flush=True)


if __name__ == "__main__":
    main()
