"""The networks of the table, in evaluation mode, pass the checks of a classifier that is to be attacked."""

import jax
import numpy as np
import pytest

from absum_jax import check_predictions
from experiments.absum.models import MODELS, LeNet, ResNet18

# Narrow ones of the same classes; the entry of the table itself where it is small.
NARROW = {"lenet": LeNet, "resnet18": lambda *statistics: ResNet18(*statistics, width=4)}


def test_every_network_of_the_table_is_checked():
    assert set(NARROW) == {name for name in MODELS if name != "narrow"}


@pytest.mark.parametrize("name", NARROW)
def test_a_healthy_network_has_no_findings(name, splits):
    images, labels = (array[:8] for array in splits[2:])
    images = images / np.float32(255)
    model = NARROW[name](10, (0.3,), (0.35,))
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    assert check_predictions(model.apply, variables, images, labels) == ()
