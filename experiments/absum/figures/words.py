"""Names and norms as they are shown to readers, in figures and in tables."""

NORMS = {"linf": "L-infinity", "l2": "L2"}


def display(name: str) -> str:
    """A name of the table as it is shown to readers."""
    known = {"l1": "L1", "none": "no regulariser", "absum": "Absum", "absum_penalty": "Absum penalty"}
    return known.get(name, name.replace("_", " "))


def display_epsilon(epsilon: float) -> str:
    """A norm as it is shown to readers: in few digits, or in levels of 255 where only these are few.

    Example:
        >>> [display_epsilon(epsilon) for epsilon in (0.3, 8 / 255, 2.46, 0.12345)]
        ['0.3', '8/255', '2.46', '0.123']
    """
    levels = epsilon * 255
    is_of_levels = abs(levels - round(levels)) < 1e-3 and abs(epsilon - round(epsilon, 2)) > 1e-6
    return f"{round(levels)}/255" if is_of_levels else f"{epsilon:.3g}"
