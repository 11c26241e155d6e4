"""Training speed: windows per second of a full step, side by side in one run, and what each step is made of.

    python benchmarks/training_speed.py [--rounds 5] [--batch 32] [--device cpu]

Rows take turns, round by round, so that a noisy machine disturbs all of them alike; each figure is the median over
rounds. `of matmul` is the step's multiply-add rate over that of a 2048 × 2048 float32 matrix product, measured in the
same rounds. `loader` is the share of the step spent on choosing, gathering and widening the batch and drawing its noise.
"""
import argparse
import resource
import statistics
import time

import torch
from torch import nn

from musevae.elbo import calibrated_scale, elbo
from musevae.mel import MelSpec
from musevae.training import batch_of, noise_of, preset
from musevae.vae import ConvVAE


def now(device):
    "A clock that waits for the device."
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Step:
    "One training step of a preset, as `musevae.training.fit` takes it."

    def __init__(self, name, latent_dim, x, batch, device):
        torch.manual_seed(0)
        self.chosen, self.x, self.batch, self.device, self.n = preset(name, latent_dim=latent_dim), x, batch, device, 0
        self.vae = ConvVAE(self.chosen.vae, MelSpec()).initialise(x[:64].float().cpu()).to(device).train()
        self.optimizer = torch.optim.AdamW(self.vae.parameters(), 1e-4)

    def load(self):
        rows = batch_of(self.n, len(self.x), self.batch, 0).to(self.device)
        self.n += 1
        return self.x[rows].float(), noise_of(self.n, (len(rows), self.chosen.vae.latent_dim), 0, self.device)

    def learn(self, x, eps):
        x_hat, mean, std = self.vae(x, eps)
        q = torch.distributions.Normal(mean, std, validate_args=False)
        loss = elbo(x, x_hat, q, likelihood=self.vae.likelihood, scale=self.vae.scale).loss() / x[0].numel()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 0.5)
        self.optimizer.step()
        self.vae.calibrate(calibrated_scale(x, x_hat.detach(), likelihood=self.vae.likelihood), momentum=0.05)

    def flops(self):
        "Operations of a step: two a multiply-add, three passes (forward, and backward to inputs and to weights)."
        total = []

        def count(layer, inputs, output):
            spread = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d))
            total.append((inputs[0] if spread else output).numel() * layer.weight[0].numel())

        kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
        hooks = [m.register_forward_hook(count) for m in self.vae.modules() if isinstance(m, kinds)]
        self.learn(*self.load())
        for hook in hooks:
            hook.remove()
        return 2 * 3 * sum(total)


def main():
    "Measure and print the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    x = torch.rand(512, 1, *MelSpec().shape, generator=torch.Generator().manual_seed(0)).half().to(device)
    a = torch.randn(2048, 2048, device=device)
    rows = [(name, d) for d in (512, 1024) for name in ("demo", "gtzan", "paper")]
    steps = {row: Step(*row, x, args.batch, device) for row in rows}
    flops = {row: step.flops() for row, step in steps.items()}
    times = {row: [] for row in rows}
    loads, matmul = {row: [] for row in rows}, []
    for _ in range(args.rounds + 1):  # the first round warms up
        t = now(device)
        for _ in range(4):
            a @ a
        matmul.append(4 * 2 * 2048**3 / (now(device) - t))
        for row, step in steps.items():
            t = now(device)
            given = step.load()
            loaded = now(device)
            step.learn(*given)
            times[row].append(now(device) - t)
            loads[row].append((loaded - t) / times[row][-1])
    rate = statistics.median(matmul[1:])
    print(f"{device}, {torch.get_num_threads()} threads, batch {args.batch}; matmul {rate / 1e9:.0f} GFLOP/s")
    print(f"{'preset':>8} {'d':>5} {'windows/s':>10} {'times paper':>12} {'of matmul':>10} {'loader':>8} {'million weights':>16}")
    for name, d in rows:
        seconds = statistics.median(times[name, d][1:])
        ratio = statistics.median(p / s for p, s in zip(times["paper", d][1:], times[name, d][1:], strict=True))
        weights = sum(p.numel() for p in steps[name, d].vae.parameters()) / 1e6
        print(f"{name:>8} {d:>5} {args.batch / seconds:>10.1f} {ratio:>12.1f} {flops[name, d] / seconds / rate:>10.2f} "
              f"{statistics.median(loads[name, d][1:]):>8.1%} {weights:>16.1f}")
    print(f"peak resident memory of this whole run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
