"""The Flax example runs, and each of its models learns its one batch."""

import importlib.util
import pathlib

import flax.linen as nn
import jax
import numpy as np

from sigsoftmax_jax import cross_entropy_with_integer_labels

PATH = pathlib.Path(__file__).parents[2] / "examples" / "flax_sigsoftmax.py"


def load_example():
    spec = importlib.util.spec_from_file_location("flax_sigsoftmax", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_learns(capsys):
    losses = load_example().main(steps=15)
    assert set(losses) == {"linen, tied", "linen, untied", "nnx, tied", "nnx, untied"}
    for name, history in losses.items():
        assert np.all(np.isfinite(history)), name
        # Untrained models start near log 50 = 3.9 nats.
        assert 3 < history[0] < 5, name
        assert history[-1] < history[0] - 0.5, name
    assert "linen, tied" in capsys.readouterr().out


def test_the_replaced_lines_give_the_loss_of_the_logits():
    example = load_example()
    words, labels = jax.random.randint(jax.random.key(1), (2, 4, 8), 0, example.VOCAB)
    model = example.LinenModel(tied=True)
    params = model.init(jax.random.key(0), words, labels)
    table, dense = params["params"]["Embed_0"]["embedding"], params["params"]["Dense_0"]
    hidden = nn.tanh(table[words] @ dense["kernel"] + dense["bias"][None, None])
    expected = cross_entropy_with_integer_labels(hidden @ table.T, labels).mean()
    # Two orders of the same sums near 4.
    np.testing.assert_allclose(model.apply(params, words, labels), expected, rtol=1e-6)
