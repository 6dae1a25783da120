"""Search for good settings with fewer tries than a sweep: a random half, then from the best one key at a time.

The search is seeded: the same tape, values and seed give the same settings. Every try counts for the luck that the
verdict states, so that a search does not look better than a sweep of as many settings.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from maxxit.backtest.sweep import Changes, Sweep, Tried, grid, sweep_of

Try = Callable[[Sequence[Changes]], "list[Tried | str]"]
"""Runs settings; a text says why one is refused."""


def optimise(
    try_each: Try, varied: Mapping[str, Sequence[str]], fixed: Changes, tries: int, seed: int
) -> Sweep:
    """Try at most `tries` combinations of the values, and return those that were tried.

    The first half is drawn at random. Then the settings that differ from the best in one key, by the value before or
    after it, are tried; the better of them becomes the best. Where none is better, the next best whose neighbours were
    not tried goes on.

    Args:
        varied: key -> values, in an order in which neighbours are alike.
        fixed: settings that all tries share.
    """
    first: list[Changes] = [{**fixed, **one} for one in grid(varied, max(tries // 2, 1), seed)]
    found = try_each(first)
    known = {_key(one) for one in first}
    while len(known) < tries:
        around = _next(found, varied, known)[: tries - len(known)]
        if not around:
            break
        found += try_each(around)
        known |= {_key(one) for one in around}
    return sweep_of(found)


def _key(changes: Changes) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(changes.items()))


def _next(
    found: Sequence[Tried | str], varied: Mapping[str, Sequence[str]], known: set[tuple[tuple[str, str], ...]]
) -> list[Changes]:
    """Return the untried neighbours of the best setting that has some."""
    for one in sweep_of(found).tried:
        if around := [near for near in _neighbours(one.changes, varied) if _key(near) not in known]:
            return around
    return []


def _neighbours(changes: Changes, varied: Mapping[str, Sequence[str]]) -> Iterator[Changes]:
    for key, values in varied.items():
        place = values.index(changes[key])
        for near in (place - 1, place + 1):
            if 0 <= near < len(values):
                yield {**changes, key: values[near]}
