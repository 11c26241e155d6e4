"""What moving the walls of the house cost: the same work done by two versions of the source, in turns.

    python benchmarks/house_speed.py [--before 8d590c3] [--after HEAD] [--rounds 9] [--store]
    python benchmarks/house_speed.py --book [--store]        the book's build instead: once each, many minutes

A version is anything git can check out, which is put into a worktree in a temporary folder, or a folder that holds the source.
Each version has a process of its own, kept warm, that does the same work on the same music: one task, then the other version
the same task, whoever went second going first in the next round. `speed` is the time before over the time after, the median
over rounds, with the quartiles beside it: above 1 the house has become faster, 0.95 is a twentieth slower. Tasks:

`mel, batch`: 32 windows to pictures; `mel, clip`: 30 s of sound, cut and to pictures; `cache`: the windows of 20
clips, from files into an empty folder; `step`: one training step of preset `transform` (once `demo`), as each version's own
`training_speed.py` takes it; `evaluate` and `map`: those commands on a small run of preset `linear`, figures and sounds
included; `import ...` and `help`: a new interpreter each time.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
STARTS = {"import musevae": "import musevae", "import musevae.training": "import musevae.training",
          "help": "from musevae.cli import main\nmain(['--help'])"}
BOOK = ("book: chapters", "book: pages", "book: chapters, each", "book: pages, each")
TASKS = ["mel, batch", "mel, clip", "cache", "step", "evaluate", "map", *STARTS]


# What a version's process does ------------------------------------------------------------------------------------------
def first_of(*places: str) -> object:
    "The first of some dotted names that this version has: names have moved between modules."
    for place in places:
        module, _, name = place.rpartition(".")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise ImportError(f"expected one of {', '.join(places)}")


def command(*words: object) -> None:
    "One line of the `musevae` command, in silence."
    from musevae.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main([str(word) for word in words])
    if code:
        raise RuntimeError(f"musevae {words[0]}: exit code {code}: {out.getvalue()}")


def tasks(tree: Path, music: Path, work: Path, batch: int, latent_dim: int) -> dict[str, Callable[[], object]]:
    "The work by name, each ready to be done again and again: whatever it needs is made here, outside the clock."
    import torch

    from musevae.corpus import load_corpus, split_clips
    from musevae.mel import MelSpec

    sys.path.insert(0, str(tree / "benchmarks"))  # for its own `training_speed` and whatever that imports
    spec, mel_windows, noise = MelSpec(), first_of("musevae.windows.mel_windows", "musevae.mel.mel_windows"), torch.Generator()
    waves, clip = (torch.randn(shape, generator=noise.manual_seed(0)) * 0.1 for shape in ((batch, spec.samples), (30 * 22050,)))
    corpus, run = load_corpus(music), work / "run"
    first_of("musevae.runs.train", "musevae.training.train")(
        split_clips(corpus), run, preset="linear", latent_dim=latent_dim, progress=False)
    presets = first_of("musevae.presets.PRESETS", "musevae.training.PRESETS")
    step = importlib.import_module("training_speed").Step(
        "transform" if "transform" in presets else "demo", latent_dim, "float32",
        torch.rand(256, 1, *spec.shape, generator=noise).half(), batch, torch.device("cpu"))

    def cache() -> None:
        with tempfile.TemporaryDirectory(dir=work) as empty:
            mel_windows(corpus.head(20), spec, cache=empty, progress=False)

    return {
        "mel, batch": lambda: spec.forward(waves),
        "mel, clip": lambda: spec.forward(spec.windows(clip)),
        "cache": cache,
        "step": lambda: step.learn(*step.load()),
        "evaluate": lambda: command("evaluate", run, music, "--pairs", 1),
        "map": lambda: command("map", run, music, "--out", work / "map.html", "--places", 6),
    }


def serve(options: argparse.Namespace) -> None:
    "Do the tasks that are named on standard input, a line each; answer with the seconds each took."
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != BENCHMARKS]
    answers, sys.stdout = sys.stdout, sys.stderr
    ready = tasks(options.tree, options.music, options.work, options.batch, options.latent_dim)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name, many = json.loads(line)
        start = time.perf_counter()
        for _ in range(many):
            ready[name]()
        print(json.dumps((time.perf_counter() - start) / many), file=answers, flush=True)


# What the measuring process does ----------------------------------------------------------------------------------------
def git(*words: object) -> str:
    return subprocess.run(["git", "-C", BENCHMARKS, *map(str, words)], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def source(version: str, at: Path) -> Iterator[tuple[Path, str]]:
    "The folder of a version of the source, and what it is called: a folder as it is, anything else checked out at `at`."
    if Path(version).is_dir():
        yield Path(version).resolve(), "a folder"
        return
    commit = git("rev-parse", "--short=7", f"{version}^{{commit}}")
    git("worktree", "add", "--detach", at, commit)
    try:
        yield at, commit
    finally:
        git("worktree", "remove", "--force", at)


def environment(tree: Path, home: Path) -> dict[str, str]:
    return os.environ | dict(PYTHONPATH=str(tree), MUSEVAE_HOME=str(home), MPLBACKEND="Agg")


class Version:
    "A version of the source with its process; `version(task, many)` does a task many times and says how long one took."

    def __init__(self, tree: Path, work: Path, music: Path, options: argparse.Namespace):
        work.mkdir()
        self.tree, self.env = tree, environment(tree, work / "home")
        words = ["--tree", tree, "--music", music, "--work", work, "--batch", options.batch, "--latent-dim", options.latent_dim]
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", *map(str, words)], cwd=tree, env=self.env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()

    def _answer(self):
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.tree}: its process ended with exit code {self.process.wait()}")
        return json.loads(line)

    def __call__(self, task: str, many: int = 1) -> float:
        if task in STARTS:
            start = time.perf_counter()
            words = [sys.executable, "-c", STARTS[task]]
            subprocess.run(words, cwd=self.tree, env=self.env, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start
        print(json.dumps((task, many)), file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compared(times: list[tuple[float, float]]) -> dict[str, float]:
    "Seconds before and after, medians over rounds; and the speed, the median of before over after, with its quartiles."
    before, after = (statistics.median(t) for t in zip(*times, strict=True))
    ratios = [b / a for b, a in times]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    shown = dict(before_s=before, after_s=after, speed=statistics.median(ratios), speed_low=low, speed_high=high)
    return {name: float(f"{value:.4g}") for name, value in shown.items()} | dict(rounds=len(times))


def measured(before: Callable, after: Callable, names: list[str], rounds: int, seconds: float) -> Iterator[dict]:
    "A row a task; in each turn a task is repeated for about so many `seconds`, the same number of times by both."
    for name in names:
        before(name), after(name)  # memory, caches and compiled code are there
        many = max(1, round(seconds / max(before(name), after(name))))
        times = []
        for turn in range(rounds):
            order = (before, after) if turn % 2 == 0 else (after, before)
            took = {version: version(name, many) for version in order}
            times.append((took[before], took[after]))
        yield dict(work=name) | compared(times)


def book(tree: Path, home: Path) -> tuple[float, ...]:
    """Seconds that chapters and pages of the book take, together and for one of them: a book may have grown.

    Corpus and demo run of that source are made first, outside the clock.
    """
    env, took = environment(tree, home), []
    ready = f"""import sys
sys.path.append({str(BENCHMARKS)!r})
from house_speed import first_of
first_of("musevae.demo.demo_run", "musevae.training.demo_run")()"""
    subprocess.run([sys.executable, "-c", ready], cwd=tree, env=env, check=True)
    pages = Path(sys.executable).with_name("jupyter-book")
    for words in ([sys.executable, "nbs/_book/execute.py"], [pages, "build", ".", "-W", "-n", "-q", "--keep-going"]):
        start = time.perf_counter()
        subprocess.run(words, cwd=tree, env=env, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - start)
    many = (tree / "_toc.yml").read_text().count("file: nbs/")
    return took[0], took[1], took[0] / many, took[1] / many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="8d590c3", help="the last version with every idea in one room")
    parser.add_argument("--after", default="HEAD")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn takes about so long")
    parser.add_argument("--clips", type=int, default=3, help="clips of each of the ten genres")
    parser.add_argument("--clip-seconds", type=float, default=30.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--latent-dim", type=int, default=512)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--book", action="store_true", help="measure the book's build instead")
    parser.add_argument("--store", action="store_true", help="write nbs/results/house_speed.csv")
    for name in ("--tree", "--music", "--work"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        at = Path(folder)
        trees, names = zip(*(stack.enter_context(source(getattr(options, which), at / f"{which}-source"))
                             for which in ("before", "after")), strict=True)
        if options.book:
            times = [book(tree, at / f"{tree.name}-home") for tree in trees]
            rows = [dict(work=work) | compared([pair])
                    for work, pair in zip(BOOK, zip(*times, strict=True), strict=True)]
        else:
            from musevae.synth import render

            render(at / "music", clips=options.clips, seconds=options.clip_seconds, progress=False)
            before, after = (stack.enter_context(contextlib.closing(Version(tree, at / which, at / "music", options)))
                             for which, tree in zip(("before", "after"), trees, strict=True))
            rows = []
            for row in measured(before, after, options.tasks, options.rounds, options.seconds):
                rows.append(row)
                print(*(f"{k} {v}" for k, v in row.items()), sep=", ", flush=True)
    about = dict(zip(("before", "after"), names, strict=True), threads=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    import pandas as pd

    print(about, pd.DataFrame(rows).to_string(index=False), sep="\n")
    if options.store:
        from ledger import Ledger

        sizes = {name: getattr(options, name) for name in ("clips", "clip_seconds", "batch", "latent_dim")}
        Ledger("house_speed", ["work"], packages=("numba",)).add([row | about for row in rows], sizes | about, seeds=0)


if __name__ == "__main__":
    main()
