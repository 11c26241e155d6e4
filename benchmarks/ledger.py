"""Stored results: the tables in `nbs/results/`, one a measurement, every row with the key of what made it and where it comes from.

A row is found by its *labels* (model, seed, ...) and believed by its *key*, the hash of the settings and of the data that made
it. If the settings change, a preset's learning rate for instance, the key does, and the row is measured again and replaced,
never kept beside the new ones. Five columns say the same in every table: the commit that measured (`+`: with changes not yet
committed), the date, the machine, the seeds and the command.
"""
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from musevae.store import key_of, write_text

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "nbs" / "results"
PROVENANCE = ["commit", "date", "machine", "seeds", "command"]
OFF = (None, False, 0, "none", "no", "normal")  # "normal": the prior that every model has unless it says otherwise


def settings(value):
    "Plain values of a configuration. A field that is off is left out, so that a new switch leaves the old keys alone."
    if hasattr(value, "identity"):  # it knows by which names its fields go into keys
        value = value.identity()
    elif is_dataclass(value) and hasattr(value, "to_dict"):  # it leaves out choices that came later, where they are the usual ones
        value = value.to_dict()
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value) if f.compare}  # a name that is not compared sets nothing
    if isinstance(value, dict):
        return {str(k): settings(v) for k, v in value.items() if not any(v is off or v == off for off in OFF)}
    if isinstance(value, (list, tuple)):
        return [settings(v) for v in value]
    if isinstance(value, float):  # JSON knows no infinity
        return repr(value)
    return value


def commit():
    "The commit that is checked out, with a + if the tree differs from it; `unknown` outside git."
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!nbs/results")
        return git("rev-parse", "--short=7", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(*packages):
    "Cores, processor and the versions of Python, torch and other `packages`."
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    versions = ", ".join(f"{p} {version(p)}" for p in ("torch", *packages))
    return f"{cores}, Python {platform.python_version()}, {versions}"


def command():
    "How this program was called, paths outside the project cut to their last part."
    def short(word):
        path = Path(word)
        if not path.is_absolute() and ".." not in path.parts:
            return word
        path = path.resolve()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name

    return "python " + shlex.join(short(word) for word in sys.argv)


class Ledger:
    "One table of stored results: `nbs/results/NAME.csv`."

    def __init__(self, name, labels, *, folder=RESULTS, packages=()):
        self.path, self.labels, self.packages = Path(folder) / f"{name}.csv", list(labels), packages

    def table(self):
        "All rows, as the text that stands in the file."
        if not self.path.exists():
            return pd.DataFrame(columns=[*self.labels, "key", *PROVENANCE])
        return pd.read_csv(self.path, dtype=str, keep_default_na=False)

    def key(self, made_from, data=""):
        "The key of a row: a hash of its settings and, behind a dash, one of its data."
        return key_of(settings(made_from)) + (f"-{key_of(data)[:8]}" if data else "")

    def has(self, labels, made_from, data=""):
        "Whether a row of these labels is there and was made from the same."
        rows = self.table()
        for name in self.labels:
            rows = rows[rows[name] == str(labels[name])]
        return bool((rows["key"] == self.key(made_from, data)).any())

    def add(self, rows, made_from, *, data="", seeds="", whole=False):
        "Store rows, a dict or a list of dicts; they replace those of the same labels or, if `whole`, all that were there."
        rows = [rows] if isinstance(rows, dict) else list(rows)
        about = dict(zip(PROVENANCE, (commit(), datetime.now(UTC).strftime("%Y-%m-%d"), machine(*self.packages), str(seeds),
                                      command()), strict=True))
        new = pd.DataFrame([row | dict(key=self.key(made_from, data)) | about for row in rows])
        old = self.table()
        if not whole:
            fresh = {tuple(map(str, row)) for row in new[self.labels].itertuples(index=False)}
            kept = [tuple(row) not in fresh for row in old[self.labels].itertuples(index=False)]
            new = pd.concat([old[kept], new]) if any(kept) else new
        columns = [*self.labels, *(c for c in new if c not in {*self.labels, "key", *PROVENANCE}), "key", *PROVENANCE]
        write_text(self.path, new[columns].to_csv(index=False, lineterminator="\n"))
