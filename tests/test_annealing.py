"""Properties of musevae.annealing at and between its corners."""

import dataclasses
import itertools
import json
import math
import pickle

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from musevae.annealing import (
    SCHEDULES,
    constant,
    cosine,
    cyclical,
    free_bits,
    linear,
    rate_penalty,
    schedule,
    sigmoid,
    target_rate,
)
from musevae.elbo import ELBO

RAMPS = {"linear": linear, "sigmoid": sigmoid, "cosine": cosine}
lengths = st.one_of(st.integers(1, 10**6), st.floats(1e-3, 1e6))
betas = st.floats(0, 1e3)
steps = st.one_of(st.integers(0, 2 * 10**6), st.floats(0, 2e6))


@st.composite
def ramps(draw, names=tuple(SCHEDULES)):
    name = draw(st.sampled_from(names))
    if name == "constant":
        return constant(draw(betas))
    options = {"start": draw(betas), "end": draw(betas)}
    if name == "sigmoid":
        options["steepness"] = draw(st.floats(1e-3, 1e3))
    if name == "cyclical":
        options |= {"cycles": draw(st.integers(1, 50)), "ramp": draw(st.floats(1e-3, 1))}
    return SCHEDULES[name](draw(lengths), **options)


@given(ramps(), steps)
def test_beta_stays_between_its_ends_and_is_a_float(s, step):
    low, high = (s.beta, s.beta) if isinstance(s, constant) else sorted((s.start, s.end))
    assert type(s(step)) is float
    assert low * (1 - 1e-12) <= s(step) <= high * (1 + 1e-12)


@given(ramps(names=("linear", "sigmoid", "cosine")), st.lists(st.floats(0, 2), min_size=2, max_size=20))
def test_ramps_are_monotone(s, fractions):
    values = [s(f * s.steps) for f in sorted(fractions)]
    slack = 1e-12 * max(s.start, s.end)
    signs = [b - a for a, b in itertools.pairwise(values)]
    assert all(d >= -slack for d in signs) if s.end >= s.start else all(d <= slack for d in signs)


@given(ramps(names=("linear", "sigmoid", "cosine", "cyclical")))
@example(schedule("cyclical", 671089.5957566816, cycles=25, ramp=1.0))  # its place in the last cycle rounds to just below 1
def test_ends_are_exact_and_held(s):
    assert s(0) == s.start
    assert s(s.steps) == s(math.nextafter(s.steps, math.inf)) == s(2 * s.steps) == s(1e300) == s.end


@given(ramps(), steps)
def test_a_schedule_is_a_value(s, step):
    twin = schedule(**json.loads(json.dumps(s.to_dict())))
    assert twin == s and hash(twin) == hash(s) and twin(step) == s(step)
    assert pickle.loads(pickle.dumps(s)) == s
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.beta = 2.0


@given(st.sampled_from(list(RAMPS)), st.floats(0, 1))
def test_ramps_are_symmetric_about_their_middle(name, u):
    s = RAMPS[name](1.0)
    assert abs(s(u) + s(1 - u) - 1) < 1e-9


def test_middles_by_hand():
    assert [s(25) for s in (linear(50), sigmoid(50), cosine(50))] == [0.5, 0.5, pytest.approx(0.5)]
    assert cosine(50)(12.5) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    logistic = [1 / (1 + math.exp(-10 * (u - 0.5))) for u in (0.0, 0.3, 1.0)]
    stretched = (logistic[1] - logistic[0]) / (logistic[2] - logistic[0])
    assert sigmoid(1.0, steepness=10.0)(0.3) == pytest.approx(stretched, rel=1e-12)
    assert linear(10, start=2, end=1)(2.5) == 1.75


@given(st.integers(1, 40), st.integers(2, 50))
def test_cycles_are_counted(cycles, per_cycle):
    s = cyclical(cycles * per_cycle, cycles=cycles)
    values = [s(t) for t in range(cycles * per_cycle + per_cycle)]
    starts = [t for t, b in enumerate(values) if b == 0]
    assert starts == list(range(0, cycles * per_cycle, per_cycle))


@given(st.integers(1, 20), st.integers(1, 200))
def test_every_cycle_is_the_same(cycles, per_cycle):
    s = cyclical(cycles * per_cycle, cycles=cycles, ramp=0.3)
    for t in range(per_cycle):
        assert all(s(t + c * per_cycle) == pytest.approx(s(t), abs=1e-9) for c in range(cycles))


def test_one_full_cycle_is_the_linear_ramp():
    for t in (0, 0.5, 3, 7, 10, 11):
        assert cyclical(10, cycles=1, ramp=1.0)(t) == pytest.approx(linear(10)(t))


def test_cyclical_holds_for_the_rest_of_the_cycle():
    s = cyclical(100, cycles=4, ramp=0.5)
    assert s(12.5) == s(20) == s(24.999) == 1.0 and s(25) == 0.0 and s(6.25) == 0.5


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: linear(0), ["steps", "> 0", "0"]),
        (lambda: linear(None), ["steps", "None"]),
        (lambda: linear("50"), ["steps", "'50'"]),
        (lambda: linear(math.inf), ["steps", "finite", "inf"]),
        (lambda: linear(5, start=-1), ["start", "-1"]),
        (lambda: linear(5, end=math.nan), ["end", "nan"]),
        (lambda: sigmoid(5, steepness=0), ["steepness", "0"]),
        (lambda: cyclical(5, cycles=0), ["cycles", "0"]),
        (lambda: cyclical(5, cycles=2.5), ["cycles", "whole", "2.5"]),
        (lambda: cyclical(5, cycles=True), ["cycles", "True"]),
        (lambda: cyclical(5, ramp=0), ["ramp", "(0, 1]", "0"]),
        (lambda: cyclical(5, ramp=1.1), ["ramp", "1.1"]),
        (lambda: constant(-0.1), ["beta", "-0.1"]),
        (lambda: linear(5)(-1), ["step", "-1"]),
        (lambda: cyclical(5)(math.nan), ["step", "nan"]),
        (lambda: constant()(math.inf), ["step", "inf"]),
        (lambda: schedule("step", 5), ["name", "linear", "step"]),
        (lambda: schedule("linear", 5, cycles=3), ["linear", "start, end", "cycles"]),
        (lambda: schedule("linear"), ["steps", "None"]),
        (lambda: free_bits(torch.ones(3), -1), ["lam", "-1"]),
        (lambda: target_rate(0.0, 1.0, 1.0), ["beta", "0.0"]),
        (lambda: target_rate(1.0, math.nan, 1.0), ["rate", "nan"]),
        (lambda: target_rate(1.0, 1.0, 0), ["target", "0"]),
        (lambda: target_rate(1.0, 1.0, 1.0, bounds=(2, 1)), ["bounds", "(2, 1)"]),
        (lambda: rate_penalty(torch.tensor(1.0), -3), ["target", "-3"]),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert "expected" in str(error.value) and "got" in str(error.value) and "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_a_constant_needs_no_steps():
    assert schedule("constant", 100, beta=0.5) == schedule("constant", beta=0.5) == constant(0.5)


# --- free bits ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.floats(0, 5))
def test_free_bits_is_the_floored_sum(kl, lam):
    kl = torch.tensor(kl, dtype=torch.float64)
    floored = free_bits(kl, lam)
    assert floored.item() == pytest.approx(sum(max(k, lam) for k in kl.tolist()))
    assert floored >= kl.sum() - 1e-12 and free_bits(kl, 0.0).item() == pytest.approx(kl.sum().item())
    assert ELBO(torch.zeros(()), kl.sum(), kl).loss(3.0, lam).item() == pytest.approx(3 * floored.item())


def test_free_bits_averages_before_it_floors():
    kl = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert free_bits(kl, 0.8).item() == pytest.approx(1.0 + 0.8)


def test_free_bits_pulls_only_above_the_floor():
    kl = torch.tensor([0.1, 0.5, 2.0], requires_grad=True)
    free_bits(kl, 0.3).backward()
    assert kl.grad.tolist() == [0.0, 1.0, 1.0]


# --- target rate -------------------------------------------------------------------------------------------------


@given(st.floats(1e-3, 1e3), st.floats(0, 1e4), st.floats(1e-2, 1e4), st.floats(1e-3, 1))
def test_target_rate_pushes_the_right_way_within_bounds(beta, rate, target, gain):
    new = target_rate(beta, rate, target, gain=gain, bounds=(1e-3, 1e3))
    assert 1e-3 <= new <= 1e3
    assert new >= beta * (1 - 1e-12) if rate >= target else new <= beta * (1 + 1e-12)
    assert abs(math.log(new / beta)) <= gain * (1 + 1e-9)
    assert target_rate(beta, target, target, gain=gain) == beta


@pytest.mark.parametrize("target", [0.5, 5.0, 20.0])
def test_target_rate_finds_the_closed_forms_beta(target):
    variances = [2.0 ** (3 - i) for i in range(24)]

    def rate(beta):
        return sum(max(0.0, math.log(v / (beta * 0.01))) for v in variances) / 2

    beta = 1.0
    for _ in range(3000):
        beta = target_rate(beta, rate(beta), target)
    assert rate(beta) == pytest.approx(target, rel=1e-3)


def test_rate_penalty_is_even_about_the_target_and_pulls_back():
    for value, slope in ((7.0, 2.0), (3.0, -2.0)):
        rate = torch.tensor(value, requires_grad=True)
        penalty = rate_penalty(rate, 5.0, 2.0)
        penalty.backward()
        assert penalty.item() == 4.0 and rate.grad.item() == slope
