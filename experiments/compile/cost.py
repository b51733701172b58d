"""Arithmetic of a traced program: its matrix products and convolutions, loops counted as often as they run.

The compiler's own count takes the body of a loop once, whatever its length.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from jax.extend import core


@dataclasses.dataclass
class Cost:
    """What one device does in one call.

    Args:
        flops: products and sums of all matrix products and convolutions.
        bytes: of their operands and results, each read or written once: what memory moves at least if nothing
            stays on the chip between two of them.
        precisions: how many of them ask for which precision.
        unknown_loops: loops whose length is not known before they run; their bodies are counted once.
    """

    flops: float = 0.0
    bytes: float = 0.0
    precisions: Counter[str] = dataclasses.field(default_factory=Counter)
    unknown_loops: int = 0

    def add(self, other: "Cost", times: int = 1) -> None:
        """Add another cost so many times; what is counted in the text of the program, once."""
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        self.precisions.update(other.precisions)
        self.unknown_loops += other.unknown_loops


def program_cost(jaxpr: Any) -> Cost:
    """The cost of a jaxpr; under ``pmap`` and ``shard_map`` that of one device.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=10)[0]
        >>> cost = program_cost(jax.make_jaxpr(f)(jnp.ones((4, 4))).jaxpr)
        >>> cost.flops, dict(cost.precisions)
        (1280.0, {'default': 1})
    """
    total = Cost()
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            total.add(_product(eqn, _dot_flops(eqn)))
        elif name == "conv_general_dilated":
            total.add(_product(eqn, _conv_flops(eqn)))
        elif name == "cond":
            branches = [program_cost(branch.jaxpr) for branch in eqn.params["branches"]]
            total.add(max(branches, key=lambda cost: cost.flops))
        elif name == "while":
            total.add(program_cost(eqn.params["body_jaxpr"].jaxpr))
            total.unknown_loops += 1
        else:
            times = eqn.params["length"] if name == "scan" else 1
            for inner in _inner(eqn.params):
                total.add(program_cost(inner), times)
    return total


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs that an operation calls: of a custom derivative, what is called forward."""
    for name, value in params.items():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr) and name != "cond_jaxpr":
            yield value


def _product(eqn: Any, flops: float) -> Cost:
    arrays = [each.aval for each in (*eqn.invars, *eqn.outvars)]
    moved = sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in arrays)
    precision = eqn.params.get("precision")
    name = "default" if precision is None else str(precision[0] if isinstance(precision, tuple) else precision)
    return Cost(flops, float(moved), Counter([name.lower()]))


def _dot_flops(eqn: Any) -> float:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left, result = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    return 2.0 * math.prod(result) * math.prod(left[axis] for axis in contracted)


def _conv_flops(eqn: Any) -> float:
    """Each output element takes all taps of a filter; zeros between and around the input are counted as well."""
    numbers = eqn.params["dimension_numbers"]
    kernel, result = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
    taps = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])
    return 2.0 * math.prod(result) * taps
