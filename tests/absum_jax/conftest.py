"""A fixture for tests of the library's own errors."""

import jaxtyping
import pytest


@pytest.fixture
def no_shape_types():
    """Switch off the executed shape types, which would answer bad shapes before the library does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
