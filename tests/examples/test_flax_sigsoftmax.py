"""The Flax example runs, and each of its models learns its one batch."""

import flax.linen as nn
import jax
import numpy as np

from examples import flax_sigsoftmax
from sigsoftmax_jax import cross_entropy_with_integer_labels


def test_every_model_learns(capsys):
    losses = flax_sigsoftmax.main(steps=15)
    assert set(losses) == {"linen, tied", "linen, untied", "nnx, tied", "nnx, untied"}
    for name, history in losses.items():
        assert np.all(np.isfinite(history)), name
        # Untrained models start near log 50 = 3.9 nats.
        assert 3 < history[0] < 5, name
        assert history[-1] < history[0] - 0.5, name
    assert "linen, tied" in capsys.readouterr().out


def test_the_replaced_lines_give_the_loss_of_the_logits():
    words, labels = jax.random.randint(jax.random.key(1), (2, 4, 8), 0, flax_sigsoftmax.VOCAB)
    model = flax_sigsoftmax.LinenModel(tied=True)
    params = model.init(jax.random.key(0), words, labels)
    table, dense = params["params"]["Embed_0"]["embedding"], params["params"]["Dense_0"]
    hidden = nn.tanh(table[words] @ dense["kernel"] + dense["bias"][None, None])
    expected = cross_entropy_with_integer_labels(hidden @ table.T, labels).mean()
    # Two orders of the same sums near 4.
    np.testing.assert_allclose(model.apply(params, words, labels), expected, rtol=1e-6)
