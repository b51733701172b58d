"""What is read in the text of a compiled program, and the mistakes of the command."""

import functools
import importlib.util

import jax
import pytest

from experiments.compile.__main__ import main
from experiments.compile.report import collectives
from tests.command_line import error_line, read

fails = functools.partial(error_line, main)

TEXT = """
  %all-reduce.1 = f32[20,5]{1,0:T(8,128)} all-reduce(%a), channel_id=1, to_apply=%add
  %all-reduce-start = (f32[3]{0}, f32[3]{0}) all-reduce-start(%b), channel_id=2
  %all-reduce-done = f32[3]{0} all-reduce-done(%all-reduce-start)
  %both = (bf16[8]{0}, pred[2,2]{1,0}) all-reduce(%c, %d), channel_id=3
  ROOT %gather = s32[16]{0} all-gather(%e), channel_id=4, dimensions={0}
  %not-one = f32[4]{0} add(%all-reduce.1, %gather)
"""


def test_collectives_are_counted_with_their_bytes():
    assert collectives(TEXT) == {
        "all-reduce": {"count": 3, "bytes": 400 + 12 + 16 + 4},
        "all-gather": {"count": 1, "bytes": 64},
    }


def test_mistakes_are_one_line(capsys):
    assert "--topology must be a slice of v4, v5e" in fails(capsys, "--topology", "h100:8")
    assert "--programs must be of lenet" in fails(capsys, "--programs", "vgg")
    assert "--effort must lie in [-1, 1]" in fails(capsys, "--effort", "2")
    assert "--topology must be different names" in fails(capsys, "--topology", "v5e:2x2", "v5e:2x2")
    assert "--compute-dtype must be one of" in fails(capsys, "--compute-dtype", "float32", "int8")


def test_a_file_of_something_else_is_left_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.compile.__main__.slice_devices", lambda topology: jax.devices("cpu")[:1])
    path = tmp_path / "result.json"
    path.write_text('{"experiment": "absum"}')
    assert f"--out {path} is not a result of experiments.compile" in fails(capsys, "--out", str(path))
    assert path.read_text() == '{"experiment": "absum"}'


def test_a_missing_compiler_names_the_extra(capsys):
    if importlib.util.find_spec("libtpu") is None:
        assert "pip install '.[tpu]'" in fails(capsys, "--topology", "v5e:2x2")
    assert "--topology v5e:3x5 cannot be compiled for" in fails(capsys, "--topology", "v5e:3x5")


@pytest.mark.tpu
def test_small_programs_are_compiled_for_slices_once(tmp_path, capsys):
    out = tmp_path / "out.json"
    arguments = ["--programs", "lenet", "sweep_lenet", "--out", str(out), "--topology", "v5e:2x2"]
    main(arguments)
    step, sweep = read(out)["rows"]
    assert step["devices"] == sweep["devices"] == 4
    # The state is donated: all of the arguments but the batch.
    assert 0.9 < step["aliased_bytes"] / step["argument_bytes"] < 1
    assert set(step["collectives"]) == {"all-reduce"}
    assert step["collectives"]["all-reduce"]["count"] <= 2  # the metrics, and the gradient with all its arrays
    assert sweep["collectives"].keys() == {"all-gather"}
    assert sweep["unknown_loops"] == step["unknown_loops"] == step["loops"] == 0
    assert max(step["peak_bytes"], sweep["peak_bytes"]) < step["hbm_bytes"] / 10

    capsys.readouterr()
    main([*arguments, "v4:2x2x1"])
    assert capsys.readouterr().err.count("compiling for the 4 devices of v4:2x2x1") == 2
    rows = read(out)["rows"]
    assert (rows[:2], len(rows)) == ([step, sweep], 4)
