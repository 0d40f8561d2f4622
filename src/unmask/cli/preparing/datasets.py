"""The tasks of `prepare.py` that look at a source or at a finished face dataset."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from unmask.config import run_dir
from unmask.errors import ConfigError, list_problems
from unmask.paths import show_command, write_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.data.tables import FaceDataset
    from unmask.preparation.check import SourceCheck
    from unmask.preparation.report import Explored

_LEAKS = {
    "groups": "groups that share a person or an original are in more than one split",
    "names": "file names are in more than one split of the same part, and may be the same file",
    "known": "leaks of the published splits are known",
}


def check(cfg: DictConfig, **split: Any) -> int:
    """Check the source, print the result and write `result.json`; return the number of reasons to refuse it.

    Args:
        cfg: Configuration of `prepare.yaml`.
        split: Settings of `unmask.data.splits.SplitOptions`.
    """
    from unmask.data.splits import SplitOptions
    from unmask.preparation.check import check_source
    from unmask.training.parts import build_node

    result = check_source(build_node(cfg.source), SplitOptions(**split))
    write_bytes(run_dir() / "result.json", (json.dumps(result.to_dict(), indent=2) + "\n").encode())
    _print_parts(result)
    _print_counts(result)
    for name, what in _LEAKS.items():
        found = getattr(result, name)
        if found:
            print(f"Leak: {len(found):,} {what}:\n{list_problems(found, limit=5)}")
    if not any(getattr(result, name) for name in _LEAKS):
        print("No leaks found among names and identities; prepare.py also compares the contents of files.")
    if result.left_out:
        print(f"Left out by split.*: {len(result.left_out):,} videos:\n{list_problems(result.left_out, limit=5)}")
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


def explore(cfg: DictConfig) -> None:
    """Write the report of the dataset in `output` and `result.json`, and print where the report is."""
    from unmask.data.tables import FaceDataset
    from unmask.preparation.report import write_report

    dataset = FaceDataset.load(cfg.output)
    summary = {"dataset": str(dataset.root), **summarize_report(write_report(dataset))}
    write_bytes(run_dir() / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    _print_methods(dataset)
    print(f"Report  {summary['report']}")


def summarize_report(explored: "Explored") -> dict[str, Any]:
    """Return the entries of `result.json` about the report."""
    cues = {cue.name: {"auroc": cue.auc, "by_method": {cue.method: cue.method_auc}} for cue in explored.cues}
    return {"report": str(explored.report), "cues": cues}


def print_summary(root: Path) -> "FaceDataset":
    """Print the counts of each method and the lost videos, and return the dataset."""
    from unmask.data.tables import FaceDataset
    from unmask.types import Outcome

    dataset = FaceDataset.load(root)
    console = _print_methods(dataset)
    lost = dataset.videos[~dataset.videos["outcome"].isin((Outcome.OK, Outcome.MISSING))]
    num_missing = int((dataset.videos["outcome"] == Outcome.MISSING).sum())
    if num_missing:
        first = dataset.videos.loc[dataset.videos["outcome"] == Outcome.MISSING, "path"].iloc[0]
        console.print(f"  missing: {num_missing:,} videos that the source names are not there, such as '{first}'",
                      markup=False, highlight=False, soft_wrap=True)  # fmt: skip
    for row in lost.head(10).itertuples():
        console.print(f"  {row.outcome}: {row.video_id}: {row.message}", markup=False, highlight=False, soft_wrap=True)
    if len(lost) > 10:
        console.print(f"  ... and {len(lost) - 10} more; all are listed in {root / 'videos.parquet'} (column outcome)")
    noted = dataset.videos[(dataset.videos["outcome"] == Outcome.OK) & dataset.videos["message"].fillna("").ne("")]
    for row in noted.head(1).itertuples():
        console.print(f"  note: {len(noted):,} of those that gave crops were read in part or approximately (column "
                      f"message), such as {row.video_id}: {row.message}",
                      markup=False, highlight=False, soft_wrap=True)  # fmt: skip
    return dataset


def say_use(dataset: "FaceDataset") -> str:
    """Return what a dataset can be used for, with the command."""
    from unmask.types import Label

    root = f"dataset.root={dataset.root}"
    train = dataset.faces[dataset.faces["split"] == "train"]
    if train.empty:
        return f"Evaluate on it with: python evaluate.py checkpoint=... {shlex.quote(root)}"
    if (train["label"] == Label.FAKE).any():
        return f"Train on it with: {show_command('train.py', root)}"
    if train["landmarks"].isna().any():
        return (
            "It has no fakes to train on, and no landmarks to make fakes from with augmentation=sbi: prepare it again "
            "with detector=retinaface_mobilenet."
        )
    return f"Train on it with: {show_command('train.py', root, 'augmentation=sbi')}"


def _print_methods(dataset: "FaceDataset") -> "Console":
    """Print the counts of each method, and return the console."""
    from rich.console import Console
    from rich.table import Table

    from unmask.preparation.report import count_by_method

    counts = count_by_method(dataset).drop(columns="class")
    table = Table(title=f"Face dataset {dataset.root}", title_justify="left")
    for name in counts.columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in counts.itertuples(index=False):
        table.add_row(*map(str, row))
    console = Console()
    console.print(table)
    return console


def write_protocol(cfg: DictConfig) -> None:
    """Write the protocol of a face dataset and `result.json`, and print how to use it."""
    from unmask.data.splits import write_protocol as write
    from unmask.data.tables import FaceDataset

    if cfg.dataset.root is None:
        raise ConfigError("No value for: dataset.root. Set it on the command line to a face dataset: dataset.root=...")
    path = Path(cfg.output)
    if path.is_dir():
        raise ConfigError(f"output='{path}' is a folder. With task=protocol, name a file, such as ffpp-c23.json.")
    protocol = write(FaceDataset.load(cfg.dataset.root), path)
    summary = {"protocol": str(path), "dataset": str(cfg.dataset.root), "videos": len(protocol.videos)}
    write_bytes(run_dir() / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    print(f"Splits and labels of {len(protocol.videos):,} videos written to '{path}'.")
    print(f"Use it with: {show_command('prepare.py', 'source=...', f'split.protocol={path}', 'output=...')}")
