"""What the decoder in the book's pages takes of a reader's time, what it weighs, and how far it is from Python: chapter 9g.

    python benchmarks/live_page.py _build/html/nbs/09g_live.html _build/html/nbs/index.html [--before COMMIT]

The first page carries the decoder under the hand, the second the map; both are opened from the file system, without a network,
in a headless Chromium that has one core, and before each repetition the program waits for that core to be idle. Times are read in
the page itself: `picture, made`, `grain, made` and `window, made` are the worker's own; `seen` and `heard` run from the change of
a knob (on the map: of a place) until the picture is painted and the grain goes to the loudspeaker, `window, heard` from letting
go until the sound runs. The page is opened anew for the start: until what is stored can answer, until the decoder's first picture
and first window are there. On the map the decoder begins with the first press.

Parity, of the demo run on windows it was not trained on: root mean square of the picture's difference to Python's, of the
magnitude's where it is above 60 dB below its peak, and the log-spectral distance of two sounds that began with the same phases.
With `--before` the scripts of that commit make pictures in turns with those of the working tree, on one page.

A machine that others use makes times on the clock longer. So beside them stand processor times, of all threads of the page's
process, and with every row the machine's `load`: how many processes wanted a core in the last minute.

Columns: `page`, `quantity`, `unit`, `median`, `p95` (95th percentile), `n`, `load`. Some six minutes where it is quiet. Writes
`nbs/results/live_page.csv`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ledger import ROOT, Ledger
from mel_inversion import spectra
from playwright.sync_api import sync_playwright

sys.path.append(str(ROOT / "tests"))  # the browser's flags, and how the tests give a page its decoder
import chromium
from conftest import FLAGS
from test_live import carry

from musevae.demo import demo_run
from musevae.live import export_decoder
from musevae.vocoder import griffin_lim
from musevae.widgets.live import engine

LEDGER = Ledger("live_page", ["page", "quantity"], packages=("numpy", "playwright"))

SEEN = """globalThis.firstSeen = {};  // when an element first said what: ms since the navigation began
new MutationObserver((records) => { for (const { attributeName } of records) firstSeen[attributeName] ??= performance.now(); })
  .observe(document, { attributes: true, subtree: true, attributeFilter: ["data-mounted", "data-painted", "data-window"] });
globalThis.until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 1)); };"""

KNOB = """async (part) => {  // a knob is held, turned a little, let go
    const el = document.querySelector('.mv-live').closest('.mv'), live = el.mvLive, box = el.querySelector('.mv-turn input');
    const now = () => performance.now(), newest = (name) => el.dataset[name] === String(live.version);
    box.dispatchEvent(new PointerEvent('pointerdown'));
    delete el.dataset.played;
    box.value = part;
    const begun = now();
    box.dispatchEvent(new Event('input'));
    await until(() => newest('painted'));
    const seen = now() - begun;
    await until(() => newest('grain'));
    const heard = now() - begun, made = { ...live.times }, freed = now();
    box.dispatchEvent(new Event('change'));
    await until(() => newest('window') && el.dataset.played === 'decoded');
    return { 'picture, made': made.picture, 'picture, seen': seen, 'grain, made': made.grain, 'grain, heard': heard,
      'window, made': live.times.window, 'window, heard': now() - freed };
}"""

WORK = """async (kind, many) => {  // answers one after another; of pictures each of another code
    const { mvLive: live } = document.querySelector('.mv-live').closest('.mv'), { frames } = live.spec;
    if (kind === 'picture') for (let i = 0; i < many; i++) {
        live.version++;
        const job = live.job();
        await live.computer.run(kind, { ...job, z: job.z.map((v) => v + 0.001 * live.version) });
    } else for (let i = 0; i < many; i++) {
        live.asked = (live.asked ?? 0) + 1;
        await live.computer.run(kind, { ...live.job(), at: (37 * live.asked) % frames });
    }
}"""

PLACE = """async (part) => {  // a place without a clip is held, moved a little, let go
    const el = document.querySelector('.mv-map').closest('.mv'), map = el.mvMap, now = () => performance.now(), held = {};
    const { view } = map, place = view.back(view.width * (0.5 + 0.1 * part), view.height * 0.4), z = map.coordinates(place);
    map.take(held);
    delete el.dataset.played;
    const begun = now(), times = {};
    await map.decoder.pass(z, { axes: [...map.axes], second: 0,
      early: (answer) => { map.showPassed(answer); times.seen = now() - begun; },
      grain: (y, rate) => { map.grains.play(y, rate); times.heard = now() - begun; } });
    map.grains.stop();
    const freed = now();
    map.playPlace(place, true);
    await until(() => map.answer?.from === 'page' && map.answer.sound && el.dataset.played === 'decoded');
    return { 'picture, seen': times.seen, 'grain, heard': times.heard, 'window, heard': now() - freed };
}"""

FIRST = """async () => {  // the map's decoder begins with the first press
    const el = document.querySelector('.mv-map').closest('.mv'), map = el.mvMap, { view } = map, begun = performance.now();
    const own = map.present.bind(map), times = {};
    map.present = (answer) => {
        const what = answer.from === 'grid' ? 'stored answer' : answer.sound ? 'first window' : 'first picture';
        times[`${what}, after the press`] ??= performance.now() - begun;
        own(answer);
    };
    map.playPlace(view.back(view.width * 0.55, view.height * 0.4));
    await until(() => 'first window, after the press' in times);
    return times;
}"""

PARITY = """([z, x]) => {
    const picture = D.picture(z), { frames, samples } = V.spec, phase = V.phases(0, frames, 3);
    const m = V.magnitude(V.power(Float64Array.from(x), 0), frames, { iterations: 40 });
    const y = V.sound(m, samples, phase, { iterations: 32 });
    return [picture, m, phase, y].map((v) => Array.from(v));
}"""


def quiet(core, share=0.9, seconds=0.25, patience=1):
    "Wait until the others leave `core` alone: idle for that share of the time; give up after a while. Linux only."
    def times():
        [line] = [line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} ")]
        ticks = np.array(line.split()[1:9], int)
        return ticks[3] + ticks[4], ticks.sum()

    end = time.monotonic() + patience
    while time.monotonic() < end:
        (idle, whole), _ = times(), time.sleep(seconds)
        more, all_of_it = times()
        if more - idle >= share * (all_of_it - whole):
            return


def rows_of(page, measured, unit="ms"):
    "A row of each quantity, from a list of dicts."
    for quantity in measured[0]:
        load = round(os.getloadavg()[0], 1)
        values = np.array([one[quantity] for one in measured])
        yield dict(page=page, quantity=quantity, unit=unit, median=round(float(np.median(values)), 4),
                   p95=round(float(np.quantile(values, 0.95)), 4), n=len(values), load=load)


def sizes_of(file):
    "What a page weighs, `[(quantity, MB)]`: all of it, the decoder's weights as text in it, the scripts of its widgets."
    text = file.read_text(encoding="utf8")
    [state] = re.findall(r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', text, re.DOTALL)
    models = json.loads(state)["state"].values()
    weights = [b["data"] for model in models for b in model.get("buffers", []) if b["path"][0] in ("weights", "decoder_weights")]
    scripts = [model["state"].get("_esm", "") for model in models]
    if not weights:
        raise SystemExit(f"{file}: expected a page that carries a decoder, got none")
    sizes = {"whole page": [text], "weights, as text": weights, "scripts": scripts}
    return [(what, sum(len(part.encode()) for part in found) / 1e6) for what, found in sizes.items()]


def opened(window, file, selector, faults):
    "The page, once its widgets are there."
    page = window.new_context(offline=True, viewport=dict(width=1440, height=900)).new_page()
    page.set_default_timeout(60000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.add_init_script(SEEN)
    page.goto(file.resolve().as_uri())
    page.wait_for_selector(selector)
    page.wait_for_selector("html[data-widgets=mounted]")
    return page


def starts(window, file, selector, n, faults, calm, more=None):
    "The page opened `n` times: when it was able to answer, ms since the navigation began."
    for _ in range(n):
        calm()
        page = opened(window, file, selector, faults)
        if more:
            found = {"stored answer": page.evaluate("firstSeen['data-mounted']")} | page.evaluate(more)
        else:
            page.wait_for_function("() => 'data-window' in firstSeen")
            names = {"stored answer": "data-mounted", "first picture": "data-painted", "first window": "data-window"}
            found = {name: page.evaluate("(key) => firstSeen[key]", key) for name, key in names.items()}
        page.context.close()
        yield {f"start: {name}": value for name, value in found.items()}


def turns(window, file, selector, script, n, faults, calm):
    "A knob or a place moved `n` times on a warm page."
    page = opened(window, file, selector, faults)
    parts = np.resize([-1, 1], n + 3) * np.linspace(0.2, 1, n + 3)
    found = []
    for part in parts:
        calm()
        found.append(page.evaluate(script, float(part)))
    page.context.close()
    return found[3:]  # the first ones find scripts that are not compiled yet


def processor(window):
    "A function: ms that all threads of the browser's pages have had of a core so far. Linux only."
    session = window.new_browser_cdp_session()

    def used():
        pids = [one["id"] for one in session.send("SystemInfo.getProcessInfo")["processInfo"] if one["type"] == "renderer"]
        threads = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(file.read_text().split()[0]) for file in threads) / 1e6

    return used


def processor_times(window, file, n, faults):
    "Of the page's process, ms an answer: what an answer takes where nobody else wants the core."
    page, used, many = opened(window, file, ".mv-live", faults), processor(window), dict(picture=5, grain=5, window=1)
    page.wait_for_function("() => 'data-window' in firstSeen")
    for i in range(n + 3):
        found = {}
        for kind, times in many.items():
            begun = used()
            page.evaluate(f"([kind, many]) => ({WORK})(kind, many)", [kind, times])
            found[f"{kind}, processor time"] = (used() - begun) / times
        if i >= 3:  # the first ones find scripts that are not compiled yet
            yield found
    page.context.close()


def parity(window, vae, x):
    "Of each window of `x`: the page's picture, magnitude and sound beside Python's, dB."
    page, spec = window.new_page(), vae.spec
    page.add_script_tag(content=engine() + "globalThis.E = musevaeEngine();")
    assert carry(page, export_decoder(vae)) is None
    for one in x.split(1):
        z = vae.encode(one).mean
        there = vae.picture(z).clamp(0, 1)
        found = page.evaluate(PARITY, [z[0].tolist(), there.ravel().tolist()])
        picture, m, phase, y = (torch.tensor(v, dtype=torch.float64) for v in found)
        wanted = spec.stft_magnitude(there.double(), torch.zeros(1), iterations=40)
        m, phase = (v.view(spec.frames, -1).T[None] for v in (m, phase))
        loud = wanted > wanted.max() / 1000
        sound = griffin_lim(wanted.float(), spec, spec.samples, iterations=32, phase=phase.float())
        distance = (spectra(sound, 2048, 512) - spectra(y[None].float(), 2048, 512)).square().mean(1).sqrt().mean()
        yield {"picture": float(spec.top_db * (picture - there.ravel()).square().mean().sqrt()),
               "magnitude": float((20 * (m / wanted).log10())[loud].square().mean().sqrt()), "sound": float(distance)}
    page.close()


def before_and_now(window, commit, vae, z, n):
    "The scripts of a commit and of the working tree in turns: rows of the one, rows of the other."
    show = ["git", "-C", ROOT, "show", f"{commit}:musevae/static/decoder.js"]
    text = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    now = (ROOT / "musevae" / "static" / "decoder.js").read_text(encoding="utf8")
    page = window.new_page()
    page.add_script_tag(content="globalThis.decoders = [];")
    for script in (engine().replace(now, text), engine()):
        page.add_script_tag(content=f"{script}globalThis.E = musevaeEngine();")
        assert carry(page, export_decoder(vae)) is None
        page.evaluate("decoders.push(D)")
    used, found = processor(window), []
    for i in range(n + 20):
        times = []
        for which in (0, 1):
            begun = used()
            other = (z + 0.001 * i).tolist()
            page.evaluate("([z, which]) => { for (let i = 0; i < 5; i++) decoders[which].picture(z); }", [other, which])
            times.append({"picture, processor time": (used() - begun) / 5})
        found.append(times)
    page.close()
    for which, name in enumerate((f"scripts of {commit}", "scripts of now")):
        yield from rows_of(name, [times[which] for times in found[20:]])  # the first ones find scripts that are not compiled yet


@torch.no_grad()
def main():
    "Measure and store the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hand", type=Path, help="built page with the decoder under the hand")
    parser.add_argument("map", type=Path, help="built page with a map that decodes")
    parser.add_argument("--before", help="a commit whose scripts are timed beside today's")
    parser.add_argument("--n", type=int, default=30, help="repetitions")
    parser.add_argument("--core", type=int, default=0, help="that the browser is kept on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = demo_run(progress=False)
    x = run.windows("test").tensor()[::5][:10]
    calm = partial(quiet, options.core)
    mine, faults, rows = os.sched_getaffinity(0), [], []
    with sync_playwright() as playwright:
        os.sched_setaffinity(0, {options.core})  # the browser's processes keep it
        window = playwright.chromium.launch(executable_path=chromium.find(), args=FLAGS)
        os.sched_setaffinity(0, mine - {options.core} or mine)
        for name, file, selector, script, first in (("under the hand", options.hand, ".mv-live", KNOB, None),
                                                    ("map", options.map, ".mv-map", PLACE, FIRST)):
            rows += rows_of(name, turns(window, file, selector, script, options.n, faults, calm))
            rows += rows_of(name, list(starts(window, file, selector, options.n, faults, calm, first)))
            for quantity, size in sizes_of(file):
                rows += rows_of(name, [{quantity: size}], "MB")
        rows += rows_of("under the hand", list(processor_times(window, options.hand, options.n, faults)))
        rows += rows_of("parity with Python", list(parity(window, run.vae, x)), "dB")
        if options.before:
            rows += before_and_now(window, options.before, run.vae, run.vae.encode(x[:1]).mean[0], options.n)
        window.close()
    assert not faults, faults
    for row in rows:
        print("{page:28s} {quantity:34s} {median:10.2f} {p95:10.2f} {unit}  n = {n}".format(**row))
    LEDGER.add(rows, dict(n=options.n), data=[run.path.name, engine()], seeds=3, whole=True)


if __name__ == "__main__":
    main()
