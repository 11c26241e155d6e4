"""How fast the decoder in a page answers, what the page weighs, and how far it is from Python: the table of chapter 9g.

    python benchmarks/live_page.py

The demo run's decoder in a headless Chromium (`tests/chromium.py` finds one), the page opened from the file system, browser and
all on one core. Asked as the widget asks: a message to the worker, its answer, and for a picture the painting of it. Each time of
another code, drawn from N(0, I), after a few that nobody counts. `opened`: from the beginning of the navigation until the page
shows the stored picture, and until its own decoder has painted.

Parity: what the page makes of a code against what Python makes of it, with the weights as Python has them, not rounded; magnitude
and sound of the same picture, the sound from the same phases.

Columns: `what`, `unit`, `median`, `most` (95th percentile of the times; of the others the largest), `n`. Two minutes.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from ledger import ROOT, Ledger
from mel_inversion import spectra
from playwright.sync_api import sync_playwright

from musevae.demo import demo_run
from musevae.live import decoder_steps, export_decoder, live
from musevae.vocoder import griffin_lim
from musevae.widgets.live import Live, engine
from musevae.widgets.page import scripts, standalone_html

sys.path.append(str(ROOT / "tests"))
import chromium

TIMES, CODES, ITERATIONS = 60, 20, dict(nnls=40, iterations=32)
LEDGER = Ledger("live_page", ["what"], packages=("playwright",))


def row(what, values, unit, worst=np.max):
    "One quantity's row."
    median, most = (round(float(of(values)), 3) for of in (np.median, worst))
    return dict(what=what, unit=unit, median=median, most=most, n=len(values))


def timed(what, values):
    "A row of milliseconds."
    return row(what, values, "ms", lambda v: np.percentile(v, 95))


def answers(page, carried, codes):
    "Milliseconds of pictures, grains and windows, asked of a worker one after another."
    return page.evaluate("""async ([manifest, data, codes, times]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), canvas = document.createElement("canvas");
        const desk = computer(manifest, bytes), { n_mels: bands, frames } = manifest.spec, found = {};
        document.body.append(canvas);
        await desk.ready;
        let version = 0;
        for (const [kind, many] of [["picture", times], ["grain", times], ["window", Math.ceil(times / 6)]]) {
            found[kind] = [];
            for (let i = -3; i < many; i++) {
                const z = codes[(i + 3) % codes.length], start = performance.now();
                const { x } = await desk.run(kind, { version: ++version, z, how: "mean", seed: 0, at: 7 * i + 30 });
                if (x) paintPicture(canvas, x, bands, frames);
                if (i >= 0) found[kind].push(performance.now() - start);
            }
        }
        return { ...found, where: desk.where() };
    }""", [carried.manifest, carried.weights_text, codes.tolist(), TIMES])


def made(page, carried, codes, phase_seed=3):
    "What the page makes of codes: pictures; magnitude, phase and sound of the first."
    return page.evaluate("""([manifest, data, codes, { nnls, iterations }, seed]) => {
        const { Decoder, Vocoder } = musevaeEngine(), bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const decoder = new Decoder(manifest, bytes), vocoder = new Vocoder(manifest.spec), { frames, samples } = vocoder.spec;
        const pictures = codes.map((z) => decoder.picture(z)), phase = vocoder.phases(0, frames, seed);
        const m = vocoder.magnitude(vocoder.power(pictures[0], 0), frames, { iterations: nnls });
        const y = vocoder.sound(m, samples, phase, { iterations });
        return { pictures: pictures.map((x) => Array.from(x)), m: Array.from(m), phase: Array.from(phase), y: Array.from(y) };
    }""", [carried.manifest, carried.weights_text, codes.tolist(), ITERATIONS, phase_seed])


def parity(page, carried, vae, codes):
    "Rows: the page against Python, from code to picture, from picture to magnitude, from magnitude to sound."
    found, spec = made(page, carried, codes), vae.spec
    there = decoder_steps(vae, codes)["picture"].flatten(1).numpy()
    off = spec.top_db * np.sqrt(np.mean((np.array(found["pictures"]) - there) ** 2, axis=1))
    x = torch.tensor(found["pictures"][0], dtype=torch.float64).view(1, 1, *spec.shape)
    wanted = spec.stft_magnitude(x, torch.zeros(1, dtype=torch.float64), iterations=ITERATIONS["nnls"])
    got = torch.tensor(found["m"], dtype=torch.float64).view(spec.frames, -1).T[None]
    gap = (20 * (got / wanted).log10())[wanted > wanted.max() * 1e-4].abs().numpy()
    phase = torch.tensor(found["phase"]).view(spec.frames, -1).T[None].float()
    y = griffin_lim(wanted.float(), spec, spec.samples, iterations=ITERATIONS["iterations"], phase=phase)
    heard = torch.tensor(found["y"])[None]
    distance = (spectra(y, 2048, 512) - spectra(heard, 2048, 512)).square().mean(1).sqrt().mean(1).numpy()
    return [row("picture off Python's", off, "dB"), row("magnitude off Python's", gap, "dB"),
            row("sound's spectral distance to Python's", distance, "dB")]


def opened(browser, file):
    "Milliseconds until the stored picture shows and until the decoder has painted, the page opened six times."
    found = []
    for _ in range(6):
        page = browser.new_context(offline=True).new_page()
        page.add_init_script("""addEventListener("DOMContentLoaded", () => {
            const look = () => {
                const el = document.querySelector(".mv"), canvas = document.querySelector(".mv-live canvas");
                if (canvas?.width > 300 || canvas?.width === 216) window.stored ??= performance.now();
                if (el?.dataset.painted) window.painted ??= performance.now(); else requestAnimationFrame(look);
            };
            look();
        });""")
        page.goto(file.as_uri())
        page.wait_for_function("() => window.painted")
        found.append(page.evaluate("() => [window.stored, window.painted]"))
        page.context.close()
    return np.array(found[1:])


@torch.no_grad()
def main():
    "Measure, print and store the table."
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # what is started from here on stays on that core, too
    torch.set_num_threads(1)
    run = demo_run(progress=False)
    hand, carried = live(run, title="the decoder of this page"), Text(run.vae)
    codes = torch.randn(CODES, run.vae.latent_dim, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(standalone_html(hand, title="live"), encoding="utf8")
        browser = playwright.chromium.launch(executable_path=chromium.find())
        first = opened(browser, file)
        page = browser.new_page()
        page.goto("about:blank")
        page.add_script_tag(content=engine() + scripts("core.js", "computer.js"))
        ms = answers(page, carried, codes)
        assert ms.pop("where") == "worker"
        rows = [timed(f"{kind} answered", values) for kind, values in ms.items()]
        rows += [timed("opened, stored picture", first[:, 0]), timed("opened, own picture", first[:, 1])]
        rows += parity(page, carried, run.vae, codes)
        sizes = {"page": file.stat().st_size, "weights": len(carried.weights), "scripts": len(Live._esm.encode())}
        rows += [row(what, [size / 1e6], "MB") for what, size in sizes.items()]
        browser.close()
    for found in rows:
        print(found)
    LEDGER.add(rows, dict(times=TIMES, codes=CODES, **ITERATIONS), data=[carried.manifest["fingerprint"]], seeds=0, whole=True)


class Text:
    "A carried decoder, its weights as a page has them."

    def __init__(self, vae):
        import base64

        self.manifest, self.weights = export_decoder(vae)
        self.weights_text = base64.b64encode(self.weights).decode()


if __name__ == "__main__":
    main()
