"""Ratios, bars and peaks."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure
from benchmarks.measure import (
    PairedTimes,
    Row,
    compiled_extra_bytes,
    median_seconds,
    paired_times,
    peak_extra_bytes,
)


def test_a_bar_is_an_upper_or_a_lower_bound():
    assert Row("x", 1.0, 1.0).holds
    assert not Row("x", 1.1, 1.0).holds
    assert Row("x", 1.1, 1.0, higher_is_better=True).holds
    assert "MISSED" in str(Row("x", 0.9, 1.0, higher_is_better=True))


def test_the_ratio_is_the_median_of_the_pairs():
    # The machine becomes ten times slower in the middle: the ratio of medians would be 11.
    assert PairedTimes([2.0, 22.0, 22.0], [1.0, 10.0, 11.0]).ratio == 2.0


def test_waiting_costs_no_cpu_seconds(monkeypatch):
    assert measure.seconds(lambda: time.sleep(0.2)) >= 0.2
    monkeypatch.setattr(measure.Clock, "counts_cpu_seconds", True)
    assert measure.seconds(lambda: time.sleep(0.2)) < 0.2


def test_both_are_called_in_turn_and_neither_always_first(monkeypatch):
    calls, ticks = [], itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    times = paired_times(lambda: calls.append("a"), lambda: calls.append("b"), pairs=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert times == PairedTimes([1.0] * 3, [1.0] * 3)


def test_after_a_pause_one_call_more_is_not_counted(monkeypatch):
    calls = []
    monkeypatch.setattr(time, "sleep", lambda seconds: calls.append("-"))
    monkeypatch.setattr(time, "perf_counter", lambda: float(len(calls)))
    times = paired_times(lambda: calls.append("a"), lambda: calls.append("b"), pairs=2, pause=0.3)
    assert "".join(calls) == "ab" + "-aa-bb" + "-bb-aa"
    assert times == PairedTimes([1.0] * 2, [1.0] * 2)


def test_the_first_call_is_not_counted(monkeypatch):
    lasting = iter([100.0, 3.0, 1.0, 2.0])
    monkeypatch.setattr(measure, "seconds", lambda function: next(lasting))
    assert median_seconds(lambda: None, repeats=3) == 2.0


def test_the_peak_within_a_call_is_seen():
    size = 2**26

    def function():
        # Written to, or the pages would not exist; gone when the call ends.
        return float(np.ones(size, np.uint8)[-1])

    extra, result = peak_extra_bytes(function)
    assert result == 1.0
    assert size * 0.9 < extra < size * 1.5


def test_on_an_accelerator_the_compiler_says_what_a_program_needs(monkeypatch):
    x = jnp.ones((2**12, 256))
    compiled = jax.jit(lambda x: jnp.tanh(x @ x.T) @ x).lower(x).compile()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    # The product, of which nothing is argument or result, is 64 MiB.
    assert 2**26 <= compiled_extra_bytes(compiled, x) < 2**27


@pytest.mark.parametrize(("backend", "expected"), [("cpu", 1.3), ("gpu", 1.1), ("tpu", 1.1)])
def test_bars_by_machine(monkeypatch, backend, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert measure.bar(cpu=1.3, accelerator=1.1) == expected
