"""The checks of a network: nothing for a healthy one, a line and a number for what is wrong."""

import numpy as np
import pytest

from absum_jax import check_predictions
from experiments.absum.evaluations.checks import CHECKS, Checks
from experiments.absum.run import variables
from experiments.data.images import to_float
from tests.absum.evaluations.known_networks import known_network

SETTINGS = Checks(images=24)


def test_a_healthy_network_has_no_warnings(splits, capsys):
    trained = known_network(splits[2])
    numbers = CHECKS.measure(trained, SETTINGS, None).numbers
    assert numbers == {"images": 24, "findings": []}
    assert CHECKS.cells(numbers) == {"warnings": (0, "")}
    assert capsys.readouterr().err == ""


def test_a_network_without_gradients_is_warned_of(splits, capsys):
    trained = known_network(splits[2])
    trained.params["Dense_0"]["kernel"] = np.zeros_like(trained.params["Dense_0"]["kernel"])
    numbers = CHECKS.measure(trained, SETTINGS, None).numbers
    images, labels = trained.subject.images("test")
    (wanted,) = check_predictions(
        trained.subject.predict_fn, variables(trained), to_float(images[:24]), labels[:24]
    )
    (found,) = numbers["findings"]
    assert found == {"category": "zero_gradients", "value": 1.0, "advice": wanted.advice}
    assert CHECKS.cells(numbers) == {"warnings": (1, "zero_gradients")}
    assert capsys.readouterr().err == f"warning: none, seed 0: zero_gradients (1): {wanted.advice}\n"


@pytest.mark.parametrize(
    ("images", "message"),
    [(1, "--checks.images must be at least 2, got 1"), (41, "--checks.images must be at most the 40 test images")],
)
def test_settings_that_do_not_fit_are_refused(splits, images, message):
    with pytest.raises(ValueError, match=message):
        CHECKS.check(known_network(splits[2]).subject, Checks(images))
