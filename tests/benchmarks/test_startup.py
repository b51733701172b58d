"""The seconds until the first step, of a process that ends there."""

from benchmarks.startup import first_step


def test_a_command_is_run_to_its_first_step(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (row,) = first_step(tiny=True)
    assert 0 < row.value < 1000
    assert "s by the clock" in row.details
