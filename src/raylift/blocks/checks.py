"""What a net refuses when it is built, in words for the person who set the option."""

from collections.abc import Sequence

from raylift.errors import BadInput, unknown_name


def halved(net: str, size: int, times: int) -> int:
    """`size` halved `times` times, or an error where that is no whole number."""
    if size < 2**times or size % 2**times:
        raise BadInput(f"{net}: a size of {size} cannot be halved {times} times; take a multiple of {2**times}")
    return size >> times


def one_of(net: str, option: str, value: str, known: Sequence[str]) -> str:
    """`value`, or an error that offers the nearest of `known`."""
    if value not in known:
        raise unknown_name(f"{option} of {net}", value, known)
    return value
