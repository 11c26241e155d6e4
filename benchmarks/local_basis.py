"""Which basis of time a local code should stand in: error of unseen windows at equal rate, in closed form.

    python benchmarks/local_basis.py DATA [--seeds 0 1 2]

The linear VAE of every basis (frequency components × a basis of time), on the corpus DATA and on the made corpus, each divided
by clip with several seeds; its units are the places of largest variance, for bases that are local the same in every block.
Rate and error from the posterior's mean on the test windows at several numbers of units; the error at a rate is interpolated.
About half a minute a division on one core. Rows go to `nbs/results/local_basis.csv`, one a corpus, basis and seed; those that
are there, made from the same, are skipped.
"""
import argparse
import math

import numpy as np
import torch
from corpora import divided
from ledger import Ledger

from musevae.vae import SeparableTransform, cosine_basis

LEDGER = Ledger("local_basis", ["data", "basis", "seed"])
MEASURE = 1  # goes up with what is measured, or how
UNITS = (128, 256, 512, 1024, 2048)
RATES = (500, 1000, 1200)  # nats a window


def blocks(size, frames=216):
    "Cosines in blocks of `size` frames, as an orthonormal matrix: row b · size + j is cosine j of block b."
    return torch.block_diag(*[cosine_basis(size)] * (frames // size))


def lapped(size, frames=216):
    "A lapped orthogonal transform: blocks of cosines behind an orthogonal filter over every border between two blocks."
    half = size // 2
    i, j = torch.eye(half), torch.eye(half).flip(0)
    k = torch.arange(half, dtype=torch.float64) + 0.5
    fourth = (torch.cos(math.pi / half * torch.outer(k, k)) * math.sqrt(2 / half)).float()  # DCT-IV
    butterfly = torch.cat([torch.cat([i, j], 1), torch.cat([j, -i], 1)]) / math.sqrt(2)
    rotation = j @ cosine_basis(half).T @ fourth @ j  # of the odd halves: the fast transform of type II
    border = butterfly @ torch.block_diag(i, rotation) @ butterfly
    filters = torch.block_diag(i, *[border] * (frames // size - 1), i)
    return blocks(size, frames) @ filters


def windowed(size, frames=216):
    "The MDCT of a sine window as an orthonormal matrix: fold over every border, then DCT-IV in blocks."
    half, fold = size // 2, torch.eye(frames, dtype=torch.float64)
    for border in range(size, frames, size):
        for n in range(half):
            before, after = border - 1 - n, border + n
            angle = math.pi / 4 * (1 + (n + 0.5) / half)
            fold[after, after] = fold[before, before] = math.sin(angle)
            fold[after, before], fold[before, after] = math.cos(angle), -math.cos(angle)
    k = torch.arange(size, dtype=torch.float64) + 0.5
    fourth = torch.cos(math.pi / size * torch.outer(k, k)) * math.sqrt(2 / size)
    return (torch.block_diag(*[fourth] * (frames // size)) @ fold).float()


def contiguous(power, units, rates=None):
    "Places of the slowest cosines of every component, `(bands, frames)`: as many as among the largest, rounded to `rates`."
    bands, frames = power.shape
    largest = power.flatten().argsort(descending=True, stable=True)

    def counts(n):
        count = torch.bincount(largest[:n] // frames, minlength=bands)
        if rates is None:
            return count
        nearest = [min(rates, key=lambda r: abs(math.log((r + 0.3) / (c + 0.3)))) for c in count.tolist()]
        return torch.tensor(nearest)

    few, many = 1, power.numel()
    while many - few > 1:  # the level at which rounding leaves about as many units as wanted
        few, many = (half, many) if counts(half := (few + many) // 2).sum() <= units else (few, half)
    return torch.arange(frames) < counts(few).unsqueeze(1)


def free(power, units):
    "The places of largest variance, `(bands, frames)`."
    kept = torch.zeros(power.numel(), dtype=torch.bool)
    kept[power.flatten().argsort(descending=True, stable=True)[:units]] = True
    return kept.view_as(power)


def in_blocks(size):
    "A choice of places that is the same in every block of `size` frames."
    def places(power, units):
        bands, frames = power.shape
        mean = power.view(bands, frames // size, size).mean(1)
        kept = free(mean, round(units * size / frames))
        return kept.unsqueeze(1).expand(bands, frames // size, size).reshape(bands, frames)
    return places


COSINES = cosine_basis(216)
BASES = {  # name: basis of time, choice of places, frames of a block
    "cosines, free choice": (COSINES, free, 216),
    "cosines, contiguous": (COSINES, contiguous, 216),
    "cosines, rates 3·2ⁿ": (COSINES, lambda p, n: contiguous(p, n, (0, 1, 3, 6, 12, 24, 48, 96, 192)), 216),
    "cosines, rates of 27 slots": (COSINES, lambda p, n: contiguous(p, n, (0, 1, 9, 27, 54, 108, 216)), 216),
} | {f"{name} {size}": (basis(size), in_blocks(size), size)
     for name, basis in dict(blocks=blocks, lapped=lapped, MDCT=windowed).items() for size in (8, 12, 24)}


def curve(x, x_test, name):
    "Units, rate in nats and error in dB of the test windows at each of `UNITS`: three arrays."
    time, places, size = BASES[name]
    transform = SeparableTransform.fit(x, 0)
    train, test = (transform.bands @ (part[:, 0] - transform.profile) @ time.T for part in (x, x_test))
    power = train.square().mean(0)
    power = power.view(128, -1, size).mean(1, keepdim=True).expand(128, 216 // size, size).reshape(128, 216)
    points = []
    for units in UNITS:
        kept = places(power, units)
        noise = power[~kept].mean()
        variance, c = power[kept], test[:, kept]
        ratio, weight = (noise / variance).clamp_max(1), (variance - noise).clamp_min(0).sqrt()
        mean = c * weight / variance
        rate = (mean.square() + ratio - 1 - ratio.log()).sum(1).mean() / 2
        grid = torch.zeros_like(test)
        grid[:, kept] = mean * weight
        picture = (transform.bands.T @ grid @ time + transform.profile).clamp(0, 1)
        points.append((int(kept.sum()), rate.item(), 80 * (picture - x_test[:, 0]).square().mean().sqrt().item()))
    return np.array(points).T


def main():
    "Measure what is missing, row by row."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    for name, seed, windows in divided(args.data, args.seeds):
        x, x_test = (windows.select(s).tensor() for s in ("train", "test"))
        for basis in BASES:
            labels = dict(data=name, basis=basis, seed=seed)
            made_from = labels | dict(measure=MEASURE, units=UNITS, rates=RATES)
            if LEDGER.has(labels, made_from, windows.key):
                continue
            units, rate, error = curve(x, x_test, basis)
            row = dict(units=int(units[2]), rate=round(rate[2], 1), rmse_db=round(error[2], 4))
            row |= {f"rmse_db_at_{r}": round(float(np.interp(r, rate, error)), 4) for r in RATES}
            LEDGER.add(labels | row, made_from, data=windows.key, seeds=seed)
            print(labels | row, flush=True)


if __name__ == "__main__":
    main()
