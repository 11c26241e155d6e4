"""A folder of damaged music through scan, mel and train: every file comes out, or is reported; nothing breaks.

    python benchmarks/mutations.py [--files 1000] [--seed 0] [--keep FOLDER]

The files are noise and tones, made here in every format, at rates from 8 to 192 kHz, with one, two or six channels, and
then spoiled: cut, bits flipped, headers damaged, stretches zeroed, dropped or replaced, NaN and huge numbers, foreign
endings, twins of macOS, and names that a terminal, a page or a shell could stumble over. A fifth is left whole. Then come
the three commands, each a process of its own, and what they must show:

- the exit code is the one that is documented, and nothing that they print is a traceback or a decoder's;
- scan: files = clips + files left out, each by its path; every whole file is a clip, unless its name is none;
- mel: clips = clips with windows + clips left out, by name;
- train: the windows of its splits are the windows of mel, and its numbers are finite;
- no command takes more than `MEMORY`, nor more than a second a file.

Printed are the counts, and seconds and peak memory of each command. The same seed makes the same bytes, but for the serial
numbers that Ogg draws.
"""
import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from musevae.corpus.files import printable

GENRES = ("jazz", "rock", "pop", "<b>polka</b>")
LOSSLESS = (8000, 11025, 22050, 44100, 48000, 96000, 192000)  # Hz
MP3 = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
FORMATS = [(ending, rate, "PCM_16") for ending in ("wav", "flac") for rate in LOSSLESS]
FORMATS += [("wav", 22050, subtype) for subtype in ("PCM_24", "FLOAT", "DOUBLE", "ULAW", "GSM610")]
FORMATS += [("au", 22050, "PCM_16"), ("aiff", 44100, "PCM_24"), ("caf", 44100, "ALAC_16"), ("opus", 48000, "OPUS")]
FORMATS += [("ogg", rate, "VORBIS") for rate in (8000, 22050, 48000)] + [("mp3", rate, None) for rate in MP3]
NAMES = ["{}", "{}", "{}\n", '{}"', "{}'", "<b>{}", "-{}", "--{}", " {} ", "{}é", "{}曲", "{}%s", "$({})", "`{}`", "\x1b[31m{}",
         "*{}?", "[{}", "{};", "{}\\", "{}" + "a" * 150, "{}.wav", "caf\udce9{}"]
MEMORY = 1500  # MB
CHATTER = ("Traceback", "libmpg123", "resync", "Illegal Audio", "Warning:")  # nobody should see these


def sound(rng, ending, rate, subtype):
    "The bytes of 5 to 7 s of tones and noise in some format."
    channels = int(rng.choice([1, 1, 2, 6])) if ending in ("wav", "flac") and subtype != "GSM610" else int(rng.integers(1, 3))
    channels = 1 if subtype == "GSM610" else channels
    t = np.arange(round(rng.uniform(5.1, 7) * rate)) / rate
    y = 0.1 * rng.standard_normal((len(t), channels))
    y += 0.3 * np.sin(2 * np.pi * rng.uniform(50, 3000) * t + rng.uniform(0, 6))[:, None]
    y *= 1 + np.sin(2 * np.pi * rng.uniform(0.5, 4) * t)[:, None]
    file = io.BytesIO()
    sf.write(file, 0.5 * y, rate, format=dict(opus="OGG").get(ending, ending.upper()), subtype=subtype)
    return timeless(file.getvalue())


def timeless(data):
    "A WAV file of floats without the time of day, which libsndfile writes beside the peak."
    at = data.find(b"PEAK", 0, 200)
    return data if at < 0 else data[: at + 12] + bytes(4) + data[at + 16 :]


def spoil(rng, data):
    "What was done to `data`, and what came of it."
    ways = [cut, flip, head, zero, junk, drop, twice, numbers, garbage, empty]
    way = ways[rng.integers(len(ways))]
    spoilt = bytearray(data)
    spoilt = way(rng, spoilt)
    return way.__name__, bytes(spoilt)


def somewhere(rng, data, most=5000):
    "Two places in `data`, the second up to `most` bytes behind the first."
    first = int(rng.integers(len(data)))
    return first, min(len(data), first + int(rng.integers(1, most)))


def cut(rng, data):
    return data[: int(rng.integers(len(data)))]


def flip(rng, data):
    for place in rng.integers(len(data), size=int(rng.choice([1, 10, 100, 1000]))):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def head(rng, data):
    for place in rng.integers(min(64, len(data)), size=int(rng.integers(1, 6))):
        data[place] = int(rng.integers(256))
    return data


def zero(rng, data):
    first, last = somewhere(rng, data)
    data[first:last] = bytes(last - first)
    return data


def junk(rng, data):
    first, last = somewhere(rng, data)
    data[first:last] = rng.bytes(last - first)
    return data


def drop(rng, data):
    first, last = somewhere(rng, data)
    del data[first:last]
    return data


def twice(rng, data):
    return data + data[int(rng.integers(len(data))) :]


def numbers(rng, data):
    "A WAV file of numbers that are none, or far from ±1."
    y = 0.1 * rng.standard_normal(6 * 22050).astype("float32")
    y[rng.integers(len(y), size=int(rng.integers(1, 100)))] = rng.choice([np.nan, np.inf, -np.inf, 1e30, 3e38, 1e-40, 300])
    file = io.BytesIO()
    sf.write(file, y, 22050, format="WAV", subtype="FLOAT")
    return timeless(file.getvalue())


def garbage(rng, data):
    return rng.bytes(int(rng.integers(1, 30000)))


def empty(rng, data):
    return b""


def write(folder, files, seed):
    "Write a folder of so many files below the genres' folders; a table of path and what was done to it."
    rng = np.random.default_rng(seed)
    pool = [(f[0], sound(rng, *f)) for _ in range(1 + files // 400) for f in FORMATS]
    rows = []
    while len(rows) < files:
        ending, data = pool[rng.integers(len(pool))]
        how, data = ("whole", data) if rng.random() < 0.2 else spoil(rng, data)
        if rng.random() < 0.1:
            how, ending = f"{how}, renamed", str(rng.choice(["wav", "mp3", "flac", "ogg", "m4a", "MP3", "au"]))
        name = NAMES[rng.integers(len(NAMES))].format(f"{len(rows):05d}") + f".{ending}"
        path = folder / GENRES[rng.integers(len(GENRES))] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(dict(path=str(path), how=how))
        if rng.random() < 0.03 and len(rows) < files:  # what a Mac leaves beside it
            twin = path.with_name(f"._{path.name}")
            twin.write_bytes(b"\0\5\x16\7" + rng.bytes(100))
            rows.append(dict(path=str(twin), how="twin"))
    return pd.DataFrame(rows)


def process(words, home, seconds):
    "Exit code, output, complaints, seconds and peak memory (MB) of a `musevae` command, which is killed after `seconds`."
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        environment = os.environ | dict(PYTHONWARNINGS="ignore", MUSEVAE_HOME=str(home))
        child = subprocess.Popen([sys.executable, "-m", "musevae", *words], stdout=out, stderr=err, env=environment)
        clock = threading.Timer(seconds, child.kill)
        clock.start()
        _, status, usage = os.wait4(child.pid, 0)
        clock.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
    return child.returncode, *texts, time.perf_counter() - start, usage.ru_maxrss / 1024


def expect(what, condition, *found):
    if not condition:
        raise AssertionError(f"{what}: {' '.join(map(str, found))[-3000:]}")


def trial(folder, files, seed, run=process):
    "Make the files, run the three commands, check what they must show; a dictionary of counts and costs."
    folder = Path(folder)
    data, made, costs = folder / "DATA", write(folder / "DATA", files, seed), {}

    def call(*words, code):
        got, out, err, seconds, megabytes = run([*map(str, words)], folder / "home", 60 + files)
        costs[words[0]] = f"{seconds:.0f} s, {megabytes:.0f} MB"
        expect(f"{words[0]}: exit code {code}", got == code, got, err)
        expect(f"{words[0]}: memory", megabytes < MEMORY, megabytes)
        expect(f"{words[0]}: no chatter", not any(word in err for word in CHATTER), err)
        return out, [line.removeprefix("musevae: warning: ") for line in err.splitlines()]

    call("scan", data, "--csv", folder / "scan.csv", code=1)
    table = pd.read_csv(folder / "scan.csv", keep_default_na=False)
    clips, out = table[table.fault == ""], table[table.excluded.astype(str) == "True"]
    paths = Counter(made.path.map(printable))
    expect("scan: files = clips + left out", Counter([*clips.path.map(printable), *out.path]) == paths)
    whole = made[made.how.str.startswith("whole")].path.map(printable)
    fine = set(clips.path.map(printable)) | set(out.path[out.fault == "bad name"])
    expect("scan: whole files are clips", set(whole) <= fine, set(whole) - fine)

    printed, complaints = call("mel", data, "--out", folder / "cache", code=0)
    windows, used = map(int, re.search(r"(\d+) windows of .* from (\d+) clips", printed).groups())
    lost = [line for line in complaints if ": left out: " in line]
    expect("mel: clips = clips with windows + left out", len(clips) == used + len(lost), len(clips), used, lost)
    expect("mel: each is named", all(any(line.startswith(printable(p)) for p in clips.path) for line in lost), lost)

    printed, _ = call("train", data, "--out", folder / "run", "--epochs", 1, "--latent-dim", 8, code=0)
    parts = [int(n) for n in re.findall(r"\((\d+) windows\)", printed)]
    metrics = pd.read_csv(folder / "run" / "metrics.csv").select_dtypes("number")
    expect("train: all windows", len(parts) == 3 and sum(parts) == windows and all(parts), parts, windows)
    expect("train: finite", np.isfinite(metrics.to_numpy()).all() and len(metrics) == 2, metrics)
    remarks = table[(table.fault != "") & (table.excluded.astype(str) == "False")]
    return dict(
        files=len(made), done=counts(made.how), clips=len(clips), left_out=len(out), faults=counts(out.fault),
        remarks=counts(remarks.fault), windows=windows, clips_with_windows=used, left_out_by_mel=len(lost),
        reasons=sorted({re.sub(r"[\d.,]+", "#", line.split(": left out: ")[1])[:60] for line in lost}), costs=costs)


def counts(column):
    return column.value_counts().to_dict()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="make the files in this new folder, and leave them there")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, value in trial(options.keep or folder, options.files, options.seed).items():
            print(f"{name:20}", value, flush=True)


if __name__ == "__main__":
    main()
