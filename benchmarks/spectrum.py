"""The bounds of a convolution's norm against its exact value."""

from collections.abc import Iterator

import jax

from absum_jax import conv_power_iteration, conv_spectral_norm
from benchmarks.measure import Row, paired_times


def conv_norms(tiny: bool = False) -> Iterator[Row]:
    """A warm power step, and Gram iteration, against the exact norm of 3x3 x 64 x 64 at 32 x 32."""
    channels, size = (4, 8) if tiny else (64, 32)
    kernel = jax.random.normal(jax.random.key(0), (3, 3, channels, channels))
    image_size = (size, size)
    _, vector = conv_power_iteration(kernel, jax.random.normal(jax.random.key(1), (*image_size, channels)))

    def exact() -> jax.Array:
        return conv_spectral_norm(kernel, image_size)

    def gram() -> jax.Array:
        return conv_spectral_norm(kernel, image_size, method="gram")

    def power() -> tuple[jax.Array, jax.Array]:
        return conv_power_iteration(kernel, vector)

    setting = f"3x3 x {channels} x {channels}, {size} x {size}"
    for name, bound, bar in (("warm power step", power, 1 / 30), ("Gram iteration", gram, 0.6)):
        times = paired_times(bound, exact, pairs=2 if tiny else 15)
        yield Row(f"{name} / exact norm, {setting}", times.ratio, bar, details=str(times))
