"Small things: pictures, a model, a `WindowSet` of noise with its splits; and what tests of training do to one another's runs."
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from musevae.mel import MelSpec
from musevae.vae import ConvVAE, VAEConfig
from musevae.windows import WindowSet

SMALL = dict(n_mels=16, seconds=0.7)
SPEC = MelSpec(**SMALL)  # pictures of 16 x 31
MODEL = dict(latent_dim=6, filter_blocks=1, filter_width=8)
TINY = MODEL | dict(preset="transform", batch_size=8, epochs=3, progress=False)
TWO_CODES = TINY | dict(preset="demo", latent_dim=12, global_dim=4, prior="normal", prior_steps=0)  # stage one alone


def pictures(n, spec=SPEC, seed=0):
    "Smooth random pictures in [0, 1]."
    g = torch.Generator().manual_seed(seed)
    low = torch.randn(n, 1, 4, 6, generator=g)
    x = torch.nn.functional.interpolate(low, spec.shape, mode="bilinear") + 0.1 * torch.randn(n, 1, *spec.shape, generator=g)
    return torch.sigmoid(x)


def model(n=40, **changes):
    "A small model at its closed form for `n` pictures, in eval mode."
    torch.manual_seed(1)
    return ConvVAE(VAEConfig(**MODEL | changes), SPEC).initialise(pictures(n)).eval()


def made_windows(n=40):
    "Twenty clips of two windows each, of rising noise: 30 windows to learn from, 10 to choose by."
    rng, spec = np.random.default_rng(0), MelSpec(**SMALL)
    x = rng.random((n, *spec.shape)).cumsum(2)
    x = (x / x.max((1, 2), keepdims=True)).astype(np.float16)
    table = pd.DataFrame(dict(track=[f"t{i // 2}" for i in range(n)], window=[i % 2 for i in range(n)], genre="a",
                              split=["train"] * 30 + ["valid"] * 10, artist=pd.NA, start_s=0.0, path="none"))
    return WindowSet(x, np.zeros(n, np.float32), table, spec, "made up")


# the same in a process of its own: what a script starts with
MAKE = f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\nfrom made import made_windows\nwindows = made_windows()\n"


def at(number, action):
    "For `train(on_step=...)`: does it after so many steps."
    return lambda step: action() if step.number == number else None


def power_cut():
    raise MemoryError


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def state(run):
    "All that a run ends with: the weights kept, the last weights and their average, Adam's moments."
    return {**run.vae.state_dict(), **load_file(run.path / "checkpoint.safetensors")}


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)
