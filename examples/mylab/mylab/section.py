"""A section of the report: the mean score of each person."""

from dataclasses import dataclass
from html import escape

import pandas as pd


@dataclass
class ScoresByGroup:
    """A table of the groups whose videos score highest.

    Args:
        num_groups: Number of rows.
        title: Heading of the section.
    """

    num_groups: int = 10
    title: str = "Scores by group"

    def render(self, frames: pd.DataFrame, videos: pd.DataFrame) -> str:
        """Return the table as HTML."""
        means = videos.groupby("group")["score"].mean().dropna().nlargest(self.num_groups)
        rows = "".join(f"<tr><td>{escape(str(group))}</td><td>{score:.4f}</td></tr>" for group, score in means.items())
        return f"<table><thead><tr><th>group</th><th>mean score</th></tr></thead><tbody>{rows}</tbody></table>"
