"""How the attacks of a sweep are dealt out: to the devices, to the steps of the compiled loop, and to parts.

The attacks are numbered. Number 0 is the clean pass, an attack of size zero; number 1 + (f P + p) E + e is
frequency f of F in phase p of P at epsilon e of E, so that consecutive attacks complete consecutive frequencies.
Attack i goes to device i mod D, as its slot i // D, and a device works off its slots from the first to the last,
several at once in a step::

               step 0       step 1       last, smaller step
    device 0   0  2  4      6  8  10     12
    device 1   1  3  5      7  9  11     13                    D = 2, three attacks in a step, 14 in all
"""

from typing import NamedTuple

_PADDING = 0.05  # of the attacks: what may be computed beyond them to save compiling a smaller step
_PARTS = 32  # of a sweep: its progress is seen in steps of 3 %, and the calls cost nothing beside their work


class Steps(NamedTuple):
    """The steps of one call; all of it is compiled in.

    Args:
        num_devices: D, which share the attacks.
        attacks_per_step: attacks that one device evaluates at once.
        num_steps: steps of that size.
        last_size: attacks at once in a smaller step that ends the sweep; 0 if it ends with a whole one.
    """

    num_devices: int
    attacks_per_step: int
    num_steps: int
    last_size: int

    @property
    def num_slots(self) -> int:
        """Attacks of one device."""
        return self.num_steps * self.attacks_per_step + self.last_size

    @property
    def attacks_of_a_step(self) -> int:
        """Attacks that all devices together evaluate in one step."""
        return self.num_devices * self.attacks_per_step


class Part(NamedTuple):
    """Which of the steps a call runs, from which attack on; traced, so that all parts are one program.

    Args:
        first: number of its first attack.
        num_steps: at most that of its :class:`Steps`.
        num_last_steps: 1 for the part that ends with the smaller step, else 0.
    """

    first: int
    num_steps: int
    num_last_steps: int


def plan_steps(num_attacks: int, num_devices: int, attacks_per_step: int) -> Steps:
    """The fewest steps for all attacks, with at most 5 % of padding, or less than one attack for each device.

    The last step is filled up to the size of the others if that costs at most 5 % of the work; the same pass of
    the network serves for all steps then. Otherwise it has the size that is left: the network is compiled twice.

    Example:
        >>> plan_steps(2057, num_devices=8, attacks_per_step=8)  # 33 steps of 8 x 8: 55 too many, 2.7 %
        Steps(num_devices=8, attacks_per_step=8, num_steps=33, last_size=0)
        >>> plan_steps(2057, num_devices=64, attacks_per_step=8)  # 5 steps of 64 x 8 would be 24 % too many
        Steps(num_devices=64, attacks_per_step=8, num_steps=4, last_size=1)
    """
    num_slots = -(-num_attacks // num_devices)
    filled = -(-num_slots // attacks_per_step)
    if filled * attacks_per_step * num_devices <= (1 + _PADDING) * num_attacks:
        return Steps(num_devices, attacks_per_step, filled, 0)
    return Steps(num_devices, attacks_per_step, *divmod(num_slots, attacks_per_step))


def plan_parts(steps: Steps, attacks_per_frequency: int) -> tuple[Steps, list[Part]]:
    """Split the steps of a sweep into at most 32 parts of equally many, the last of what is left.

    A part is a whole number of steps, so nothing is padded that :func:`plan_steps` did not pad, and each completes
    at least one frequency, at all epsilons and in all phases.

    Returns:
        The steps for which the program of all parts is compiled, and the parts in their order.

    Example:
        >>> whole = plan_steps(2057, num_devices=64, attacks_per_step=8)
        >>> steps, parts = plan_parts(whole, attacks_per_frequency=4)
        >>> steps.num_steps, parts
        (1, [Part(first=0, num_steps=1, num_last_steps=0), Part(first=512, num_steps=1, num_last_steps=0), \
Part(first=1024, num_steps=1, num_last_steps=0), Part(first=1536, num_steps=1, num_last_steps=1)])
    """
    # Steps that complete a frequency; the first part has the clean pass as well.
    completing = -(-(attacks_per_frequency + 1) // steps.attacks_of_a_step)
    size = min(max(completing, -(-steps.num_steps // _PARTS)), steps.num_steps)
    starts = range(0, steps.num_steps, size) if size else range(1)
    parts = [Part(start * steps.attacks_of_a_step, min(size, steps.num_steps - start), 0) for start in starts]
    if steps.last_size:
        parts[-1] = parts[-1]._replace(num_last_steps=1)
    return steps._replace(num_steps=size), parts


def images_per_batch(num_images: int, batch_size: int) -> int:
    """Images of one forward pass: the fewest batches of at most ``batch_size``, all of one size.

    Example:
        >>> images_per_batch(300, batch_size=256)
        150
    """
    num_batches = -(-num_images // batch_size)
    return -(-num_images // num_batches)
