"Damaged music through scan, mel and train, a small number of files: the harness in `benchmarks/` does a thousand."

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import mutations  # noqa: E402

from musevae.cli import main  # noqa: E402


@pytest.mark.skipif(sys.platform == "win32", reason="these names are no names there")
def test_every_damaged_file_comes_out_or_is_reported(tmp_path, monkeypatch, capfd, measure):
    def run(words, home, seconds):
        monkeypatch.setenv("MUSEVAE_HOME", str(home))
        start = time.perf_counter()
        code = main(words)
        out, err = capfd.readouterr()
        return code, out, err, time.perf_counter() - start, 0

    found = mutations.trial(tmp_path, 60, 0, run)
    assert found["files"] == 60 and found["left_out"] > 10 and found["clips_with_windows"] > 10
    measure(f"60 damaged files: {found['costs']}")


def test_the_same_seed_makes_the_same_bytes(tmp_path):
    made = [mutations.write(tmp_path / str(i), 30, 7) for i in range(2)]
    assert made[0].how.equals(made[1].how)
    for paths in zip(*(table.path for table in made), strict=True):
        one, two = (Path(path).read_bytes() for path in paths)
        assert len(one) == len(two) and (one == two or b"OggS" in one)
    assert len({Path(path).read_bytes() for path in made[0].path}) > 20


@pytest.mark.parametrize("said,memory,why", [
    ("", 0, "files = clips"), ("Note: Trying to resync...", 0, "no chatter"), ("", 9999, "memory")])
def test_the_harness_sees_a_lie(tmp_path, said, memory, why):
    "A file that vanishes, a decoder's words on the terminal, memory without a bound."
    def faked(words, home, seconds):
        (tmp_path / "scan.csv").write_text("path,fault,excluded\n")
        return 1, "", said, 0, memory

    with pytest.raises(AssertionError, match=why):
        mutations.trial(tmp_path, 3, 0, faked)
