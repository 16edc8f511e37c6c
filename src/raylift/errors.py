"""What can go wrong, in words for the person at the keyboard; the command line turns each into an exit code."""


class RayliftError(Exception):
    """Something the user can mend: what is wrong, where, and what to do next, in one line."""

    exit_code = 2


class BadInput(RayliftError):
    """A file or an argument that cannot be used; the text names it and the reason."""


class UnsupportedFormat(BadInput):
    """A file of a kind that nothing here reads or writes."""


class GeometryError(BadInput):
    """A beam or a grid that no X-ray could have, or a volume that the beam cannot project."""


class UnknownName(BadInput, LookupError):
    """A name that no table has; the text offers the nearest one."""

    def __str__(self) -> str:  # KeyError and LookupError would quote it
        return str(self.args[0])


class GateRefused(RayliftError):
    """The input was read, but what it shows does not fit what was asked."""

    exit_code = 3


class OutOfMemory(RayliftError):
    """The work does not fit; the text says what would."""

    exit_code = 4


class Stopped(RayliftError):
    """A signal ended the work; what was done is kept, and the same command goes on."""

    exit_code = 143


def unknown_name(kind: str, name: str, known) -> UnknownName:
    """The error for a wrong name, with the nearest known one and the list."""
    from difflib import get_close_matches

    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UnknownName(f"no {kind} '{name}'{hint} Known: {', '.join(known)}")
