"""The colours of verdicts and persons, the same in drawings, charts and pages."""

from unmask.types import Verdict

Colour = tuple[int, int, int]
"""RGB."""

_COLOURS: dict[Verdict, Colour] = {
    Verdict.REAL: (15, 138, 109),
    Verdict.FAKE: (214, 69, 61),
    Verdict.UNCERTAIN: (184, 115, 0),
    Verdict.NO_FACE: (92, 102, 117),
}

PERSONS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2", "#eeca3b", "#ff9da6")
"""Of the persons in a chart, in the order of its legend."""


def colour_of(verdict: Verdict | None) -> Colour:
    """Return the colour of a verdict; grey where there is none."""
    return _COLOURS[verdict or Verdict.NO_FACE]


def hex_of(verdict: Verdict | None) -> str:
    """Return the colour of a verdict as charts and pages write it, such as `#d6453d`."""
    red, green, blue = colour_of(verdict)
    return f"#{red:02x}{green:02x}{blue:02x}"
