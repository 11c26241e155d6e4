"The sweep: rows, resume to the byte, identity, bad cells, Ctrl-C; and where a cell begins."
import json
import math

import pytest
import torch
from made import ctrl_c, made_windows

from musevae.collapse.level import WaterLevel
from musevae.collapse.sweep import FIGURES, Cell, cells_of, read_sweep, start_at, sweep
from musevae.evaluation import judge
from musevae.presets import Preset, preset
from musevae.runs import RunError
from musevae.store import InUseError, locked
from musevae.training import TrainConfig, steps
from musevae.vae import ConvVAE, VAEConfig

PLAIN = Preset(VAEConfig(likelihood="gaussian", global_dim=0, contiguous=False), TrainConfig())  # whatever the presets are called
TINY = dict(latent_dims=[6], epochs=2, filter_blocks=1, filter_width=8, batch_size=8, progress=False, device="cpu", preset=PLAIN)


@pytest.fixture(scope="module")
def windows():
    return made_windows()


@pytest.fixture(scope="module")
def whole(windows, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "sweep"
    return out, sweep(windows, out, betas=[1, 30], rates=[4.0], seeds=[0, 1], **TINY)


def test_a_row_a_cell_with_figures_and_words(whole, windows):
    _, table = whole
    assert table["cell"].tolist() == [c.name for c in cells_of([1, 30], [4.0], [6], [0, 1])]
    assert (table["state"] == "done").all() and table[list(FIGURES)].notna().all(axis=None)
    assert (table["windows"] == 10).all()  # no test windows: the validation windows
    assert table["verdict"].str.contains("of 6 units active").all()
    bits = table["rate_nats"] / math.log(2) / windows.spec.seconds
    assert table["bits_per_second"].to_numpy() == pytest.approx(bits.to_numpy())


def test_rate_falls_and_error_rises_with_the_price(whole):
    _, table = whole
    cheap, dear = (table[table["cell"].str.startswith(f"beta={b} ")] for b in ("1.0", "30.0"))
    assert (dear["rate_nats"].to_numpy() < cheap["rate_nats"].to_numpy()).all()
    assert (dear["rmse_db_sampled"].to_numpy() > cheap["rmse_db_sampled"].to_numpy()).all()


def test_a_rate_is_held(windows, tmp_path):
    table = sweep(windows, tmp_path, rates=[4.0], **(TINY | dict(epochs=20)))
    x = windows.select("train").tensor()
    assert table["rate_nats"][0] == pytest.approx(4.0, rel=0.3)  # on windows it has not met
    vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=1, filter_width=8), windows.spec)
    assert table["beta"][0] != start_at(vae, x, rate=4.0)  # the price was corrected


def test_under_coloured_noise_a_rate_is_held_at_a_price_near_1(windows, tmp_path):
    changes = TINY | dict(latent_dims=[12], global_dim=2, epochs=40, preset=preset("demo", prior="normal", prior_steps=0))
    table = sweep(windows, tmp_path, rates=[6.0, 12.0], **changes)
    assert table["rate_nats"].to_numpy() == pytest.approx([6.0, 12.0], rel=0.4)
    assert table["beta"].to_numpy() == pytest.approx([1.0, 1.0], rel=0.5)  # it is the noise that was set to the rate


@pytest.mark.parametrize("cells", [1, 4])
def test_a_sweep_that_was_cut_ends_with_the_same_bytes(cells, whole, windows, tmp_path):
    seen = []

    def power_cut(row):
        seen.append(row)
        if len(seen) == cells:
            raise MemoryError

    asked = dict(betas=[1, 30], rates=[4.0], seeds=[0, 1], **TINY)
    with pytest.raises(MemoryError):
        sweep(windows, tmp_path, on_cell=power_cut, **asked)
    assert len(read_sweep(tmp_path)) == cells
    again = []
    table = sweep(windows, tmp_path, on_cell=again.append, **asked)
    assert len(again) == 6 - cells  # what was done is not done again
    assert (tmp_path / "sweep.csv").read_bytes() == (whole[0] / "sweep.csv").read_bytes()
    assert table.equals(whole[1])


def test_ctrl_c_keeps_what_is_done(windows, tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"stopped in cell 2 of 3; those before it are kept in .*sweep.csv"):
        sweep(windows, tmp_path, betas=[1, 2, 3], on_cell=lambda row: ctrl_c(), **TINY)
    assert read_sweep(tmp_path)["cell"].tolist() == ["beta=1.0 latent_dim=6 seed=0"]


def test_more_of_an_axis_may_come_and_a_question_is_answered_alone(whole, windows, tmp_path):
    sweep(windows, tmp_path, betas=[1], **TINY)
    table = sweep(windows, tmp_path, betas=[30], seeds=[0, 1], **TINY)
    assert len(table) == 2 and len(read_sweep(tmp_path)) == 3
    other = whole[1][whole[1]["cell"].isin(table["cell"])].reset_index(drop=True)
    assert table.equals(other)  # a cell does not depend on its company


@pytest.mark.parametrize("change, name", [
    (dict(epochs=3), "train.epochs: expected 2, got 3"), (dict(filter_width=9), "vae.filter_width: expected 8, got 9"),
    (dict(preset="linear"), "preset: expected own, got linear"), (dict(anneal="cosine"), "train.anneal"),
])
def test_another_setting_is_refused_by_name(change, name, whole, windows):
    with pytest.raises(RunError, match=name):
        sweep(windows, whole[0], betas=[1], **(TINY | change))


def test_other_music_is_refused(whole):
    other = made_windows()
    object.__setattr__(other, "key", "other")
    with pytest.raises(RunError, match="data: expected made up, got other"):
        sweep(other, whole[0], betas=[1], **TINY)


def test_a_bad_cell_says_so_and_the_rest_goes_on(windows, tmp_path):
    asked = TINY | dict(latent_dims=[6, 10**6])
    table = sweep(windows, tmp_path / "a", betas=[1], **asked)
    assert table["state"].tolist() == ["done", table["state"][1]] and "latent_dim: expected 0 to" in table["state"][1]
    assert table.loc[1, list(FIGURES)].isna().all()
    wild = sweep(windows, tmp_path / "b", betas=[1], **(TINY | dict(learning_rate=1e30, warmup_steps=0, clip_norm=1e30)))
    assert wild["state"][0].startswith("diverged: ") and math.isnan(wild["rate_nats"][0])
    lines = []
    sweep(windows, tmp_path / "a", betas=[1], on_cell=lines.append, **asked)
    assert not lines  # a cell that failed is done too


def test_one_sweep_at_a_time(windows, tmp_path):
    with locked(tmp_path), pytest.raises(InUseError):
        sweep(windows, tmp_path, betas=[1], **TINY)


@pytest.mark.parametrize("options, message", [
    (dict(betas=[0.0]), "betas: expected finite numbers > 0, got 0.0"),
    (dict(rates=[math.inf]), "rates: expected finite"),
    (dict(betas=[1, 1]), "betas: expected each once"), (dict(seeds=[]), "at least one price or rate"),
    (dict(latent_dims=[0]), "latent_dims: expected whole numbers"), (dict(seeds=[0.5]), "seeds: expected whole numbers"),
    (dict(beta=2.0), "beta: expected prices as betas"),
    (dict(rates=[3.0], anneal="linear"), "rates: expected a constant schedule"),
    (dict(crops=True), "TrainConfig.crops: expected false"),
])
def test_what_is_no_sweep_is_refused_before_anything_is_written(options, message, windows, tmp_path):
    with pytest.raises(ValueError, match=message):
        sweep(windows, tmp_path / "none", **(TINY | options))
    assert not (tmp_path / "none").exists()


def test_a_cell_s_name_tells_it_apart():
    cells = cells_of([1, 0.1], [1.0], [6, 7], [0, 1])
    assert len({c.name for c in cells}) == len(cells) == 12
    assert cells[0] == Cell(6, 0, 1.0, None) and cells[0].name == "beta=1.0 latent_dim=6 seed=0"


def test_a_cell_begins_at_the_optimum_of_its_price(windows):
    x = windows.select("train").tensor()
    for beta in (0.5, 1.0, 20.0):
        vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=0), windows.spec)
        assert start_at(vae, x, beta=beta) == beta
        water = WaterLevel.of(vae.transform)
        level = vae.transform.noise.item()
        assert level == pytest.approx(water.level(beta), rel=1e-5)
        assert judge(vae.eval(), x).rate_nats == pytest.approx(water.rate(level), rel=0.01, abs=1e-3)


def test_a_fixed_scale_is_kept_and_sets_the_level(windows):
    x = windows.select("train").tensor()
    vae = ConvVAE(VAEConfig(latent_dim=6, filter_blocks=0, per_band=False), windows.spec)
    start_at(vae, x, beta=3.0, scale=0.2)
    assert vae.scale.item() == pytest.approx(0.2) and vae.transform.noise.item() == pytest.approx(3 * 0.04, rel=1e-5)


@pytest.mark.parametrize("name", ["demo", "linear"])
def test_every_kind_of_model_can_be_swept(name, windows, tmp_path):
    changes = TINY | dict(latent_dims=[8]) | (dict(global_dim=3) if name == "demo" else dict(filter_blocks=0))
    table = sweep(windows, tmp_path, betas=[1], rates=[3.0], **(changes | dict(preset=preset(name))))
    assert (table["state"] == "done").all()


def test_a_network_without_a_linear_path_starts_with_a_guess(windows):
    x = windows.select("train").tensor()
    vae = ConvVAE(VAEConfig(latent_dim=6, linear=False, filter_blocks=0, network="time"), windows.spec)
    dear, cheap = (start_at(vae, x, rate=r) for r in (1.0, 20.0))
    assert dear > cheap > 0
    with pytest.raises(ValueError, match="beta, rate: expected one of the two"):
        start_at(vae, x)


def test_the_price_of_a_step_may_answer_to_the_steps_before(windows):
    x = windows.select("train").tensor()
    vae = ConvVAE(VAEConfig(latent_dim=4, filter_blocks=0), windows.spec).initialise(x)
    seen, price = [], [1.0]
    for step in steps(vae, x, TrainConfig(epochs=1, batch_size=8), beta=lambda number: price[0] + number):
        seen.append(step.beta)
        price[0] *= 2
    assert seen == [1.0, 3.0, 6.0, 11.0]
    assert torch.isfinite(vae.scale).all()


def test_the_shared_settings_stand_beside_the_table(whole):
    about = json.loads((whole[0] / "sweep.json").read_text())
    assert about["preset"] == "own" and about["vae"]["latent_dim"] is None and about["train"]["beta"] is None
    assert about["windows"] == {"train": 30, "valid": 10, "judged": 10}
