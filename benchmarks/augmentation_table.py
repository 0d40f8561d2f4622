"""Which augmentation survives compression: none, light, strong, sbi, two seeds each, on clean and compressed videos.

python benchmarks/augmentation_table.py [folder] [epochs]

Draws and forges a source, encodes its test videos again at CRF 40 and prepares both, trains the eight networks as one
sweep, scores each on both test splits, logs the table to the sweep's run in MLflow, and writes
docs/augmentation-table.md. About half an hour on two cores. A second call with the same folder goes on where the first
stopped.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
AUGMENTATIONS = ("none", "light", "strong", "sbi")
SEEDS = (0, 1)
CRF = 40
TRAINING = (
    "model.weights=null", "model.input_size=112", "model.dropout=0.0", "dataset.samples_per_epoch=1300",
    "dataset.num_workers=1", "optimizer.lr=1e-3", "callbacks.early_stopping=null",
)  # fmt: skip
DRAWING = ("source=synthetic", "source.num_identities=128", "source.num_frames=16")
CROPS = ("crop.num_frames=5",)


def main() -> None:
    """Make the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "outputs" / "augmentation-table").resolve()
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    os.environ["UNMASK_HOME"] = str(folder)
    drawn, clean, compressed = folder / "drawn", folder / "clean", folder / "compressed"
    prepare(clean, *DRAWING, f"source.root={drawn}")
    prepare(compressed, "source=ffpp", f"source.root={compress(drawn, folder / 'drawn-compressed')}",
            f"source.splits={drawn / 'splits'}")  # fmt: skip
    jobs = train(folder, clean, epochs)
    table = pd.DataFrame([score(job, folder, {"clean": clean, "compressed": compressed}) for job in jobs])
    write(table, folder, epochs)


def run(script: str, *arguments: str) -> None:
    """Run a command of ours, as a user would."""
    print(f"$ python {script} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, check=True)


def prepare(output: Path, *arguments: str) -> None:
    """Prepare a face dataset, unless it is there."""
    if not (output / "dataset.json").exists():
        run("prepare.py", *arguments, f"output={output}", *CROPS)


def compress(drawn: Path, output: Path) -> Path:
    """Encode the test videos again at `CRF`, and link everything else; return the new source."""
    if (output / "done").exists():
        return output
    from unmask.media.encode import write_video
    from unmask.media.video import probe_video, read_frames

    shutil.rmtree(output, ignore_errors=True)
    pairs = json.loads((drawn / "splits" / "test.json").read_text())
    people = {name for pair in pairs for name in pair}
    videos = sorted(drawn.rglob("*.mp4"))
    tested = [path for path in videos if set(path.stem.split("_")) <= people and "masks" not in path.parts]
    for path in videos:
        target = output / path.relative_to(drawn)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path in tested:
            frames = (frame.image for frame in read_frames(path))
            write_video(target, frames, fps=probe_video(path).fps, crf=CRF)
        else:
            target.symlink_to(path)
    (output / "done").touch()
    print(f"{len(tested)} test videos encoded again at CRF {CRF}.", flush=True)
    return output


def train(folder: Path, faces: Path, epochs: int) -> list[dict[str, Any]]:
    """Train every augmentation with every seed in one sweep; return the records of its jobs."""
    sweep = folder / "sweep"
    if not (sweep / "sweep.csv").exists():
        run("train.py", "-m", f"dataset.root={faces}", f"augmentation={','.join(AUGMENTATIONS)}",
            f"seed={','.join(map(str, SEEDS))}", *TRAINING, f"trainer.max_epochs={epochs}",
            "experiment_name=augmentation-table", f"hydra.sweep.dir={sweep}")  # fmt: skip
    return [json.loads(path.read_text()) for path in sorted(sweep.glob("*/job.json"))]


def score(job: dict[str, Any], folder: Path, datasets: dict[str, Path]) -> dict[str, Any]:
    """Score the best checkpoint of a job on the test split of every dataset."""
    given = dict(text.split("=", 1) for text in job["overrides"])
    row: dict[str, Any] = {"augmentation": given["augmentation"], "seed": int(given["seed"])}
    trained = json.loads((Path(job["folder"]) / "result.json").read_text())
    for name, root in datasets.items():
        output = folder / "scores" / f"{job['job']}-{name}"
        if not (output / "result.json").exists():
            run("evaluate.py", f"checkpoint={trained['best_checkpoint']}", f"dataset.root={root}",
                f"hydra.run.dir={output}")  # fmt: skip
        (figures,) = json.loads((output / "result.json").read_text())["datasets"].values()
        row |= {f"{name} video": figures["video"]["auroc"], f"{name} frame": figures["frame"]["auroc"]}
    return row


def write(table: pd.DataFrame, folder: Path, epochs: int) -> None:
    """Write the document, and log the table to the sweep's run."""
    from mlflow import MlflowClient

    figures = [name for name in table if name not in ("augmentation", "seed")]
    lines = ["| augmentation | seed | " + " | ".join(figures) + " |", "|---|---|" + "---|" * len(figures)]
    for name in AUGMENTATIONS:
        rows = table[table["augmentation"] == name].sort_values("seed")
        for row in rows.to_dict("records"):
            lines.append(f"| {name} | {row['seed']} | " + " | ".join(f"{row[key]:.3f}" for key in figures) + " |")
        lines.append(f"| {name} | mean | " + " | ".join(f"{rows[key].mean():.3f}" for key in figures) + " |")
    sweep = json.loads((folder / "sweep" / "sweep.json").read_text())
    text = f"""# Augmentation against compression

ROC-AUC on the test split of the synthetic source, per video and per frame: clean, and with the test videos encoded
again at CRF {CRF}. ResNet-18 from scratch at 112 px, {epochs} epochs of 1,300 samples, fakes of all methods in
training; with `sbi` the training takes real crops only. Nothing was chosen on the test split. The faces are drawn:
the table shows that the machinery works, and says nothing of real forgeries.

{chr(10).join(lines)}

Made by `benchmarks/augmentation_table.py`, about half an hour on two cores; the trainings are the sweep
`{sweep["command"].replace(str(folder), "<folder>")}`.
"""
    document = ROOT / "docs" / "augmentation-table.md"
    document.write_text(text)
    table.to_csv(folder / "table.csv", index=False)
    client = MlflowClient(sweep["uri"])
    client.log_artifact(sweep["run_id"], str(folder / "table.csv"))
    client.log_artifact(sweep["run_id"], str(document))
    print(text)


if __name__ == "__main__":
    main()
