"""A bar from 0 to 1 that shows where a score lies against its threshold."""

from unmask.decision import show_score
from unmask.inference.colours import hex_of
from unmask.types import Verdict

_STYLE = """
.unmask-gauge { position: relative; height: 3.4rem; margin: 0.4rem 0.5rem 0 0.5rem; font-size: 0.875rem; }
.unmask-gauge .bar { position: absolute; top: 1.25rem; left: 0; right: 0; height: 0.7rem; border-radius: 0.35rem;
  overflow: hidden; }
.unmask-gauge .bar span { position: absolute; top: 0; bottom: 0; }
.unmask-gauge .needle { position: absolute; top: 0.95rem; width: 0.3rem; height: 1.3rem; margin-left: -0.15rem;
  border-radius: 0.15rem; background: currentColor; }
.unmask-gauge .tick { position: absolute; top: 1.15rem; width: 0.1rem; height: 1.1rem; margin-left: -0.05rem;
  background: currentColor; }
.unmask-gauge .note { position: absolute; width: 7rem; text-align: center; line-height: 1; }
.unmask-gauge .top { top: 0; font-weight: 600; }
.unmask-gauge .low { top: 2.35rem; opacity: 0.75; }
"""


def style_gauge() -> str:
    """Return the style sheet of the bar, in the colours of verdicts."""
    parts = (Verdict.REAL, Verdict.UNCERTAIN, Verdict.FAKE)
    colours = "\n".join(f".unmask-gauge .{verdict} {{ background: {hex_of(verdict)}; }}" for verdict in parts)
    return f"<style>{_STYLE}{colours}\n</style>"


def draw_gauge(score: float, *, threshold: float, margin: float) -> str:
    """Return the bar as HTML; it holds numbers only.

    Args:
        score: From 0 to 1.
        threshold: From where on a score is fake.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
    """
    low, high = threshold * (1 - margin), threshold + (1 - threshold) * margin
    return (
        f'<div class="unmask-gauge" role="img" '
        f'aria-label="score {show_score(score)}, threshold {show_score(threshold)}">'
        f'<div class="bar">{_part("real", 0, low)}{_part("uncertain", low, high)}{_part("fake", high, 1)}</div>'
        f'<div class="tick" style="left:{threshold:.2%}"></div><div class="needle" style="left:{score:.2%}"></div>'
        f'<div class="note top" style="{_place(score)}">score {show_score(score)}</div>'
        f'<div class="note low" style="{_place(threshold)}">threshold {show_score(threshold)}</div>'
        "</div>"
    )


def _part(name: str, start: float, end: float) -> str:
    return f'<span class="{name}" style="left:{start:.2%};width:{end - start:.2%}"></span>'


def _place(value: float) -> str:
    """Centre a note on a value, but keep it inside the bar."""
    return f"left:clamp(-1rem,calc({value:.2%} - 3.5rem),calc(100% - 6rem))"
