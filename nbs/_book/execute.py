"""Run the book's notebooks ahead of Sphinx: those whose code or dependencies changed, several at a time, with progress.

Sphinx would run them too, one after the other and in silence. This fills the same cache (jupyter-cache, under the
book's `_build`), through the same reader, so that Sphinx finds every notebook executed.

    python nbs/_book/execute.py [--jobs 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from nbconvert.filters import strip_ansi
from nbdev_book import ROOT, read_ipynb


def chapters(toc: dict) -> list[Path]:
    "Notebooks of the table of contents, in its order."
    def names(node):
        if isinstance(node, list):
            for child in node:
                yield from names(child)
        elif isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections"):
                yield from names(node.get(key, []))

    paths = ((ROOT / name).with_suffix(".ipynb") for name in names(toc))
    return [path for path in paths if path.is_file()]


def run(path: Path, timeout: int):
    "Execute the notebook at `path` in a kernel of its own."
    return single_nb_execution(read_ipynb(path.read_text(encoding="utf-8")), str(path.parent), timeout, False)


def main(jobs: int) -> int:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["execute"]
    cache = get_cache(str(ROOT / "_build" / ".jupyter_cache"))
    stale = []
    for path in chapters(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))):
        try:
            cache.match_cache_notebook(read_ipynb(path.read_text(encoding="utf-8")))
        except KeyError:
            stale.append(path)
    if not stale:
        print("chapters: all are up to date", flush=True)
        return 0
    print(f"chapters: {len(stale)} to run, {jobs} at a time", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    os.environ.pop("MPLBACKEND", None)  # kernels show figures inline unless told otherwise
    failed, start = 0, time.perf_counter()
    with ProcessPoolExecutor(jobs) as pool:
        runs = {pool.submit(run, path, config["timeout"]): path for path in stale}
        for done, future in enumerate(as_completed(runs), 1):
            path, result = runs[future], future.result()
            print(f"  {done:2}/{len(stale)}  {path.stem:<20} {result.time:6.1f} s"
                  + ("  FAILED" if result.err else ""), flush=True)
            if result.err:
                failed += 1
                print(strip_ansi(str(result.err)), file=sys.stderr, flush=True)
            else:
                bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    print(f"chapters: {len(stale) - failed} run in {time.perf_counter() - start:.0f} s, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    sys.exit(main(parser.parse_args().jobs))
