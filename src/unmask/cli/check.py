"""`prepare.py task=check`: print what a source has, lacks and leaks, before any work is done on it."""

import json
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.config import run_dir, to_plain
from unmask.errors import list_problems
from unmask.paths import write_bytes

if TYPE_CHECKING:
    from unmask.data.check import SourceCheck

_LEAKS = {
    "groups": "groups that share a person or an original are in more than one split",
    "names": "file names are in more than one split of the same part, and may be the same file",
    "known": "leaks of the published splits are known",
}


def check(cfg: DictConfig) -> int:
    """Check the source, print the result and write `result.json`; return the number of reasons to refuse it."""
    from unmask.data.check import check_source
    from unmask.training.parts import build_node

    result = check_source(build_node(cfg.source), fractions=to_plain(cfg.split), seed=cfg.seed)
    write_bytes(run_dir() / "result.json", (json.dumps(result.to_dict(), indent=2) + "\n").encode())
    _print_parts(result)
    _print_counts(result)
    for name, what in _LEAKS.items():
        found = getattr(result, name)
        if found:
            print(f"Leak: {len(found):,} {what}:\n{list_problems(found, limit=5)}")
    if not any(getattr(result, name) for name in _LEAKS):
        print("No leaks found among names and identities; prepare.py also compares the contents of files.")
    for gap in result.gaps:
        print(gap)
    print(f"Details   {run_dir() / 'result.json'}")
    print(f"Not usable: {'; '.join(result.problems)}." if result.problems else "Usable.")
    return len(result.problems)


def _print_parts(result: "SourceCheck") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Source {result.source}", title_justify="left")
    for name in ("part", "have", "missing", "unexpected"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part in result.parts:
        table.add_row(part.name or "elsewhere", *(f"{n:,}" for n in (part.have, part.missing, part.unexpected)))
    Console().print(table)
    for part in result.parts:
        if part.missing:
            print(f"  {part.name}: {part.missing:,} missing, such as '{part.example}'")
        for reason in part.reasons:
            print(f"  {part.name or 'elsewhere'}: skipped {reason}")


def _print_counts(result: "SourceCheck") -> None:
    counts = result.counts
    splits = "; ".join(
        f"{split} {numbers['real']:,} real, {numbers['fake']:,} fake" for split, numbers in counts["splits"].items()
    )
    rows = {
        "Classes": ", ".join(f"{name} {count:,}" for name, count in counts["classes"].items()),
        "Methods": ", ".join(f"{name} {count:,}" for name, count in counts["methods"].items()) or "none",
        "People": f"{counts['identities']:,} identities in {counts['groups']:,} groups",
        "Splits": f"{splits} ({'given by the source' if counts['splits_of'] == 'source' else 'made by prepare.py'})",
    }
    for name, text in rows.items():
        print(f"{name:<9} {text}")
