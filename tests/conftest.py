"Where tests find sounds, made things, the built book and a browser."

import os
from pathlib import Path

import chromium
import pytest

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "_build" / "html"

os.environ.setdefault("MUSEVAE_HOME", str(ROOT / "_data"))  # as the Makefile has it
os.environ.setdefault("MPLBACKEND", "Agg")

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]
MEASURED = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def gtzan_mini() -> Path:
    "A hundred real GTZAN clips, ten a genre, where someone has put them (no licence lets us carry them)."
    places = [os.environ.get("MUSEVAE_GTZAN_MINI", ""), ROOT.parent / "shared" / "data" / "gtzan_mini"]
    path = next((Path(p) for p in places if p and Path(p).is_dir()), None)
    if path is None:
        pytest.skip("needs real clips: set MUSEVAE_GTZAN_MINI to a folder genre/*.flac")
    return path


@pytest.fixture(scope="session")
def book() -> Path:
    "The built book's folder."
    if not (BOOK / "index.html").is_file():
        pytest.fail("the book is not built: run `make book` first", pytrace=False)
    return BOOK


@pytest.fixture(scope="session")
def browser():
    "A headless Chromium (see `chromium.py`; nothing is installed here)."
    path = chromium.find()
    if path is None:
        pytest.fail(f"page tests need Chromium: {chromium.ADVICE}", pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield window
        window.close()


@pytest.fixture
def measure(request):
    "`measure(line)`: a figure to print below the tests."
    return request.config.stash.setdefault(MEASURED, []).append


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(line)
