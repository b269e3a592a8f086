"""Where a scheduler decides, in whole numbers: a logarithm of floats loses a rung (`math.log(243, 3)` is 4.999...)."""


def geometric(first: int, eta: int, last: int) -> tuple[int, ...]:
    """Returns the evaluations first, first * eta, first * eta^2, ... that come before `last`."""
    rungs = []
    while first < last:
        rungs.append(first)
        first *= eta
    return tuple(rungs)


def most_halvings(first: int, eta: int, last: int) -> int:
    """Returns the largest s with first * eta^s <= last, for first <= last: Hyperband's s_max."""
    s = 0
    while first * eta ** (s + 1) <= last:
        s += 1
    return s


def downwards(eta: int, s: int, last: int) -> tuple[int, ...]:
    """Returns floor(last / eta^s), floor(last / eta^(s-1)), ..., floor(last / eta): a Hyperband bracket's rungs."""
    return tuple(last // eta**k for k in range(s, 0, -1))


def bracket_size(eta: int, s: int, s_max: int) -> int:
    """Returns ceil((s_max + 1) / (s + 1) * eta^s): the units that begin in Hyperband's bracket s."""
    return -(-(s_max + 1) * eta**s // (s + 1))
