"One audio file: what a decoder does behind our back costs no music, is not printed, and is told in true words."

import io
import os
import random
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from musevae.corpus import audio, files, load_corpus, scan, verdict
from musevae.corpus.audio import hushed, read_audio
from musevae.corpus.files import FAULTS, AudioError, ChangedError, CorpusError, printable
from musevae.corpus.verdict import examine
from musevae.windows import mel_windows

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def swelling(rate, seconds=26, seed=0):
    "Noise, louder and louder from second to second: an MP3 of it borrows bits from frame to frame."
    y = 0.3 * np.random.default_rng(seed).standard_normal((seconds, rate)) * np.linspace(0, 1, seconds)[:, None]
    return y.ravel().astype("float32")


def look(path, **options):
    return examine(dict(path=str(path), track=path.stem, genre="blues"), **options)


@pytest.fixture(scope="module")
def mp3s(tmp_path_factory):
    "A folder blues/ with one MP3 a rate, stereo and mono in turn."
    folder = tmp_path_factory.mktemp("mp3") / "blues"
    folder.mkdir()
    for i, rate in enumerate(MP3_RATES):
        y = swelling(rate, seed=i)
        sf.write(folder / f"{rate}.mp3", np.stack([y, y[::-1]], axis=1) if i % 2 else y, rate)
    return folder


def whole(path):
    "All samples of a file in one reading, as mono, without a seek."
    with open(path, "rb") as file, hushed(), sf.SoundFile(file) as sound:
        return sound.read(sound.frames, dtype="float32", always_2d=True).mean(axis=1), sound.samplerate


def test_every_mp3_rate_goes_through_scan_and_mel(mp3s, tmp_path):
    found = scan(mp3s.parent, progress=False)
    assert len(found.clips) == found.found == len(MP3_RATES) and set(found.faults.fault) <= {"sample rate"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        windows = mel_windows(found.clips, cache=tmp_path, progress=False)
    assert windows.table.groupby("track").size().eq(5).all() and windows.table.track.nunique() == len(MP3_RATES)


@pytest.mark.parametrize("rate", MP3_RATES)
def test_what_is_read_from_the_middle_is_what_stands_there(mp3s, rate):
    y, _ = whole(mp3s / f"{rate}.mp3")
    assert np.array_equal(read_audio(mp3s / f"{rate}.mp3", sample_rate=rate), y)  # blocks leave no trace
    for start in (0.5, 5, 13.37, 20):
        part = read_audio(mp3s / f"{rate}.mp3", sample_rate=rate, start=start, seconds=5)
        assert np.array_equal(part, y[round(start * rate) :][: 5 * rate])


@pytest.mark.parametrize("name,options", [
    ("a.wav", {}), ("a.flac", {}), ("a.ogg", {}), ("a.opus", dict(format="OGG", subtype="OPUS")), ("a.au", {}),
    ("ulaw.wav", dict(subtype="ULAW")), ("adpcm.wav", dict(subtype="MS_ADPCM")), ("gsm.wav", dict(subtype="GSM610")),
    ("g723.au", dict(subtype="G723_24"))])
def test_a_start_in_other_formats(tmp_path, name, options):
    rate = 48000 if name.endswith("opus") else 8000
    sf.write(tmp_path / name, swelling(rate), rate, **options)
    y, _ = whole(tmp_path / name)
    known = {"sample rate": rate < 22050, "8 bit": name == "ulaw.wav"}
    assert {kind for kind, _ in look(tmp_path / name)["findings"]} == {kind for kind, there in known.items() if there}
    for start in (3, 20.1):
        part = read_audio(tmp_path / name, sample_rate=rate, start=start, seconds=1)
        assert np.array_equal(part, y[round(start * rate) :][:rate])
    with pytest.raises(CorpusError, match="expected a start before its end"):
        read_audio(tmp_path / name, start=100)


class Moody:
    "Stands in for a decoder that is moved by its memory: each time a file is opened, one byte in its middle is another."

    def __init__(self, path):
        self.readings, self.path = 0, str(path)

    def __call__(self, path, mode):
        data = bytearray(Path(path).read_bytes())
        if str(path) == self.path:
            self.readings += 1
            data[len(data) // 2] = self.readings
        return io.BytesIO(data)


def test_a_file_that_decodes_differently_each_time_is_unsteady(mp3s):
    path = mp3s / "44100.mp3"
    sound, moody = look(path), Moody(path)
    assert sound["findings"] == []
    assert look(path, opener=moody)["findings"] == [("unsteady", "decoded twice, it gives two different sounds")]
    assert moody.readings == 2 and FAULTS["unsteady"]
    with pytest.raises(AudioError, match="expected the same samples at each reading, got sha256 .*, then") as caught:
        read_audio(path, sha256=sound["sha256"], opener=moody)
    assert caught.value.kind == "unsteady" and not isinstance(caught.value, ChangedError)


def test_an_unsteady_file_costs_itself(mp3s, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corpus = load_corpus(mp3s.parent)
    moody = partial(read_audio, opener=Moody(mp3s / "22050.mp3"))
    with pytest.warns(UserWarning, match="22050.mp3: left out: expected the same samples at each reading") as caught:
        windows = mel_windows(corpus, cache=tmp_path, progress=False, read=moody)
    assert len(caught) == 1 and windows.table.track.nunique() == len(MP3_RATES) - 1


def test_a_changed_file_is_told_from_an_unsteady_one(tmp_path):
    sf.write(tmp_path / "a.wav", swelling(8000), 8000)
    sha256 = look(tmp_path / "a.wav")["sha256"]
    sf.write(tmp_path / "a.wav", swelling(8000, seed=1), 8000)
    with pytest.raises(ChangedError, match="it has changed, scan it again") as caught:
        read_audio(tmp_path / "a.wav", sha256=sha256)
    assert caught.value.kind == "changed" and caught.value.path == tmp_path / "a.wav"
    assert str(caught.value) == f"{tmp_path / 'a.wav'}: {caught.value.reason}"


# --- twins, junk, chatter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp3", "wav", "flac", "ogg", "aiff"])
def test_a_twin_of_macos_does_not_cost_the_song(tmp_path, ending):
    sf.write(tmp_path / f"song.{ending}", swelling(22050), 22050)
    alone = look(tmp_path / f"song.{ending}")
    for junk in (b"\0\5\x16\7" + bytes(60), b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2\0\0\0\x09\0\0\0\x32" + b"\xff" * 4000):
        (tmp_path / f"._song.{ending}").write_bytes(junk)
        assert look(tmp_path / f"song.{ending}") == alone and alone["findings"] == []


@pytest.mark.parametrize("junk", [bytes(1000), b"APETAGEX" + bytes(56), b"ID3\3\0\0\0\0\0\x10" + bytes(200)])
def test_junk_before_the_first_frame_of_an_mp3_does_not_cost_the_song(mp3s, tmp_path, junk):
    (tmp_path / "song.mp3").write_bytes(junk + (mp3s / "44100.mp3").read_bytes())
    assert look(tmp_path / "song.mp3")["sha256"] == look(mp3s / "44100.mp3")["sha256"]


@pytest.mark.parametrize("data", [random.Random(1).randbytes(30000), b"hello world\n" * 3000, bytes(30000)])
def test_garbage_called_mp3_is_no_missing_file(tmp_path, data):
    (tmp_path / "garbage.mp3").write_bytes(data)
    (kind, reason), = look(tmp_path / "garbage.mp3")["findings"]
    assert kind == "unreadable" and "Format not recognised" in reason and "not exist" not in reason
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / "garbage.mp3")
    assert str(caught.value) == f"{tmp_path}/garbage.mp3: {reason}"


@pytest.mark.parametrize("name,hint", [("a.m4a", True), ("a.WMA", True), ("a.opus", True), ("a.aac", True), ("a.wav", False)])
def test_formats_that_a_player_knows_get_a_hint(tmp_path, name, hint):
    (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(5000))
    (kind, reason), = look(tmp_path / name)["findings"]
    assert kind == "unreadable" and ("convert it first: ffmpeg" in reason) == hint


def test_a_damaged_header_costs_no_memory(tmp_path):
    sf.write(tmp_path / "a.wav", swelling(8000), 8000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = (3).to_bytes(4, "little")  # "3 Hz": a day of sound, were it resampled
    (tmp_path / "a.wav").write_bytes(data)
    assert look(tmp_path / "a.wav")["findings"] == [("unreadable", "expected a sample rate of at least 1,000 Hz, got 3 Hz")]
    with pytest.raises(CorpusError, match="at least 1,000 Hz"):
        read_audio(tmp_path / "a.wav")


def test_a_stream_without_a_length_is_not_cut(tmp_path):
    sf.write(tmp_path / "a.flac", swelling(8000), 8000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21], data[22:26] = data[21] & 0xF0, bytes(4)  # STREAMINFO: number of samples unknown
    (tmp_path / "a.flac").write_bytes(data)
    seen = look(tmp_path / "a.flac")
    assert [kind for kind, _ in seen["findings"]] == ["sample rate"] and seen["frames"] == 26 * 8000


def test_names_are_one_line():
    assert printable("/a/b\nc\x1b[31m\u2028d é.wav") == r"/a/b\nc\x1b[31m\u2028d é.wav"
    assert printable(b"/a/caf\xe9.wav".decode("utf-8", "surrogateescape")) == r"/a/caf\xe9.wav"
    assert "\n" not in str(AudioError("a\nb.wav", "expected audio"))


NOISY = """
    import sys, threading
    import soundfile as sf
    from musevae.corpus.audio import hushed
    from musevae.corpus.verdict import examine
    def decode(path):
        if sys.argv[2] == "hushed":
            examine(dict(path=path, track="t", genre="blues"))
        else:
            sf.read(path)
    work = [threading.Thread(target=decode, args=[path]) for path in sys.argv[3:] * 3]
    [w.start() for w in work]
    with hushed():
        print("a line of Python's", file=sys.stderr, flush=True)
    [w.join() for w in work]
    import ctypes
    libc = ctypes.CDLL(None)
    libc.perror(b"a line of C's")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere C's stderr is not ours to set")
def test_decoders_are_not_heard_and_python_is(mp3s, tmp_path):
    rng, names = random.Random(0), []
    for rate in (11025, 22050, 44100):
        data = bytearray((mp3s / f"{rate}.mp3").read_bytes())
        for _ in range(200):
            data[rng.randrange(2000, len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / f"{rate}.mp3").write_bytes(data)
        names.append(str(tmp_path / f"{rate}.mp3"))
    script = "\n".join(line[4:] for line in NOISY.splitlines())

    def said(how):
        done = subprocess.run([sys.executable, "-c", script, "-", how, *names], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert len(said("loud").splitlines()) > 10  # or there is nothing to hush
    quiet = said("hushed").splitlines()
    assert len(quiet) == 2 and quiet[0] == "a line of Python's" and quiet[1].startswith("a line of C's")


def test_hushing_ends_with_the_last_of_many_threads():
    found = audio._c_stderr()
    if found is None:
        pytest.skip("this C library has no stderr to set")
    stderr, nowhere = found
    before, inside = stderr.value, []

    def decode():
        for _ in range(300):
            with hushed():
                inside.append(stderr.value == nowhere)

    threads = [threading.Thread(target=decode) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(inside) and len(inside) == 2400 and stderr.value == before and os.path.exists(os.devnull)


def test_the_old_address_serves_what_stood_there_and_tells_the_new_one():
    import musevae.files as old

    for room, names in ((files, "AudioError FAULTS find_files"), (audio, "read_audio read_tags"), (verdict, "examine")):
        for name in names.split():
            for address in {old, files} - {room}:
                with pytest.warns(DeprecationWarning, match=f"from {room.__name__} import {name}"):
                    assert getattr(address, name) is getattr(room, name)


def test_the_workshops_of_the_corpus_do_not_know_its_front_room():
    code = ("import sys, types; front = types.ModuleType('musevae.corpus'); front.__path__ = [sys.argv[1]]; "
            "sys.modules['musevae.corpus'] = front; import musevae.corpus.gtzan, musevae.corpus.split, musevae.corpus.sources; "
            "print(sorted(n for n in sys.modules if n.startswith('musevae.')))")
    done = subprocess.run([sys.executable, "-c", code, Path(files.__file__).parent], capture_output=True, text=True, check=True)
    rooms = ("audio", "files", "gtzan", "sources", "split", "verdict")
    assert done.stdout.strip() == str(["musevae.corpus", *(f"musevae.corpus.{room}" for room in rooms)])
