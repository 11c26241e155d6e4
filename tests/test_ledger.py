"Stored results: found by their labels, believed by their key, and each with the same five columns of provenance."
import importlib
import sys
from dataclasses import dataclass, replace

import pandas as pd
import pytest
from conftest import ROOT

from musevae.presets import preset

sys.path.insert(0, str(ROOT / "benchmarks"))
from ledger import PROVENANCE, RESULTS, Ledger, settings  # noqa: E402

TABLES = sorted(RESULTS.glob("*.csv"))
SCRIPTS = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if "def made_from(" in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_every_stored_row_says_where_it_comes_from(path):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table.columns[-6:]) == ["key", *PROVENANCE]
    assert (table[["key", "commit", "date", "machine", "command"]] != "").all(axis=None)
    assert table["date"].str.fullmatch(r"20\d\d-\d\d-\d\d").all()
    assert table["command"].str.startswith("python ").all()
    assert not table["command"].str.contains(r"(?:^| )/|\.\./", regex=True).any(), "a path of some machine"


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_stored_row_is_older_than_the_settings_it_is_told_for(name):
    "Change a preset and not its tables: this fails until the rows are measured again or taken out."
    module = importlib.import_module(name)
    ledger = getattr(module, "LEDGER", None) or Ledger(name, ["preset"])
    stale = []
    for row in ledger.table().to_dict("records"):
        labels = {k: row[k] for k in ledger.labels}
        if row["key"].split("-")[0] != ledger.key(module.made_from(**labels)):
            stale.append(labels)
    assert not stale, f"{name}: {len(stale)} rows were made from other settings, such as {stale[0]}"


@pytest.fixture
def ledger(tmp_path):
    return Ledger("table", ["model", "seed"], folder=tmp_path)


def test_a_changed_preset_is_measured_again_and_leaves_no_old_row(ledger):
    labels, old = dict(model="demo", seed=0), preset("demo")
    new = replace(old, train=replace(old.train, learning_rate=1e-4))
    assert not ledger.has(labels, old)
    ledger.add(labels | dict(rmse_db=4.5), old, seeds=0)
    ledger.add(dict(model="PCA", seed=0, rmse_db=6.3), {}, seeds=0)
    assert ledger.has(labels, old) and not ledger.has(labels, new)
    ledger.add(labels | dict(rmse_db=4.4), new, seeds=0)
    table = ledger.table()
    assert ledger.has(labels, new) and not ledger.has(labels, old)
    assert sorted(table["rmse_db"]) == ["4.4", "6.3"] and len(table) == 2
    assert (table[["commit", "date", "machine", "command"]] != "").all(axis=None)


def test_other_data_is_another_row_s_key(ledger):
    labels = dict(model="demo", seed=0)
    ledger.add(labels, {}, data="these clips", seeds=0)
    assert ledger.has(labels, {}, "these clips") and not ledger.has(labels, {}, "those clips")


def test_what_is_kept_is_kept_to_the_letter(ledger):
    ledger.add(dict(model="a", seed=0, value=0.1 + 0.2, text="1.50", none=""), {})
    before = ledger.path.read_text()
    ledger.add(dict(model="b", seed=0, value=1), {})
    assert before.splitlines()[1] in ledger.path.read_text().splitlines()


def test_a_table_measured_whole_keeps_nothing(ledger):
    ledger.add(dict(model="a", seed=0), {})
    ledger.add([dict(model="b", seed=0)], {}, whole=True)
    assert list(ledger.table()["model"]) == ["b"]


def test_a_switch_that_is_off_is_no_setting_and_one_that_is_on_is():
    @dataclass
    class Before:
        width: int = 3

    @dataclass
    class After(Before):
        gate: bool = False

    assert settings(Before()) == settings(After()) != settings(After(gate=True))
    assert settings(After(width=4)) != settings(After())


def test_the_command_shows_no_path_of_this_machine(monkeypatch):
    import ledger as module

    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "quality.py"), "/some/where/gtzan_mini", "--seeds", "3"])
    assert module.command() == "python benchmarks/quality.py gtzan_mini --seeds 3"


def test_two_versions_take_turns_and_the_speed_is_before_over_after():
    from house_speed import compared, first_of, measured

    said = []

    def version(name, seconds):
        return lambda task, many=1: said.append((name, task, many)) or seconds

    rows = list(measured(version("before", 0.2), version("after", 0.1), ["mel", "map"], rounds=3, seconds=0.8))
    assert [row["work"] for row in rows] == ["mel", "map"]
    assert all((row["before_s"], row["after_s"], row["speed"], row["rounds"]) == (0.2, 0.1, 2.0, 3) for row in rows)
    turns = [name for name, task, many in said if task == "mel" and many == 4]
    assert turns == ["before", "after", "after", "before", "before", "after"]
    noisy = compared([(1.0, 1.0), (4.0, 2.0), (3.0, 1.0)])
    assert noisy["speed"] == 2.0 and noisy["speed_low"] == 1.5 and noisy["speed_high"] == 2.5
    assert first_of("musevae.nowhere.CACHE", "musevae.store.key_of").__name__ == "key_of"
    with pytest.raises(ImportError, match="expected one of musevae.store.nothing"):
        first_of("musevae.store.nothing")
