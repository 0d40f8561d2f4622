"""Repair a face dataset: recreate missing or damaged crops, and add videos that were unreadable before."""

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmask.data.audit import find_damaged
from unmask.data.tables import FaceDataset, count_rows, write_dataset
from unmask.faces.detector import Detector
from unmask.media.image import MAX_PIXELS
from unmask.preparation.originals import Guide, find_guides
from unmask.preparation.records import (
    JOURNAL_FILE,
    Journal,
    VideoRecord,
    build_tables,
    is_guided,
    read_record,
    read_video,
)
from unmask.preparation.report import Explored, write_report
from unmask.preparation.work import LocalRunner, Task, Workshop, remove_remains, work_on
from unmask.types import MediaKind, Outcome, Video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RepairResult:
    """Result of `repair`.

    Args:
        dataset: Folder of the face dataset.
        num_checked: Number of crops checked.
        num_repaired: Number of crops recreated.
        regained: IDs of videos that were unreadable before.
        problems: Reason, by crop path or `video_id`, why it could not be repaired.
        explored: The report of the repaired dataset.
    """

    dataset: Path
    num_checked: int
    num_repaired: int
    regained: tuple[str, ...]
    problems: Mapping[str, str]
    explored: Explored


def repair(root: Path, *, detector: Detector | None, num_workers: int, max_pixels: int = MAX_PIXELS) -> RepairResult:
    """Recreate missing and damaged crops of a face dataset and update its tables; leave intact crops unchanged.

    Crops that cannot be recreated stay in the tables, so that a later repair can try again, for example once the disk
    of the source is mounted.

    Args:
        root: Folder of the face dataset.
        detector: Detector that the dataset was prepared with; None if it indexes images in place.
        num_workers: Number of worker processes; 0 runs in this process.
        max_pixels: Maximum number of pixels of an image or video frame.

    Raises:
        DatasetError: The dataset is missing, or its tables cannot be read.
        OutputError: The disk is full; repaired crops are kept.
    """
    dataset = FaceDataset.load(root)
    remove_remains(root)
    size = None if detector is None else dataset.spec.crop_size
    damaged = find_damaged(dataset.faces["crop"], root=root, size=size)
    workshop = Workshop(detector, dataset.spec, root, max_pixels)
    records: dict[str, VideoRecord] = {}
    videos = [read_video(row) for row in dataset.videos.to_dict("records")]
    journal = Journal(root / JOURNAL_FILE, spec=dataset.spec, videos=videos)
    tasks, problems = _plan(dataset, damaged if detector is not None else {}, journal)
    runner = LocalRunner(num_workers)
    with closing(work_on(tasks, workshop, runner=runner, description="Repairing videos")) as work:
        for task, record in work:
            if record.outcome == Outcome.OK:
                records[task.video.video_id] = record
                if journal.path.is_file():
                    journal.append(task.video, record)
    if records:
        _update_tables(dataset, {task.video.video_id: task.video for task in tasks}, records)
    left = find_damaged(damaged, root=root, size=size)
    regained = tuple(task.video.video_id for task in tasks if not task.damaged and task.video.video_id in records)
    problems = {name: problem for name, problem in problems.items() if name not in regained}
    problems |= {str(root / crop): problem for crop, problem in left.items()}
    explored = write_report(FaceDataset.load(root))
    return RepairResult(root, len(dataset.faces), len(damaged) - len(left), regained, problems, explored)


def _plan(dataset: FaceDataset, damaged: Mapping[str, str], journal: Journal) -> tuple[list[Task], dict[str, str]]:
    """List videos with damaged crops, and previously unreadable videos whose file now exists.

    Returns:
        The tasks, and by `video_id` the reasons that prevent a repair.
    """
    faces = dataset.faces[dataset.faces["crop"].isin(list(damaged))]
    crops = {str(name): tuple(rows["crop"]) for name, rows in faces.groupby("video_id")}
    tasks, problems = [], {}
    guides = _find_guides(dataset)
    for row in dataset.videos.to_dict("records"):
        video = read_video(row)
        is_unread = row["outcome"] in (Outcome.MISSING, Outcome.DECODE_ERROR)
        if is_unread:
            problems[video.video_id] = str(row["message"])
        if video.video_id in crops and not video.is_there:
            problems[video.video_id] = f"No such file: '{video.path}'."
        elif video.video_id in crops and video.kind is MediaKind.FRAMES:
            problems[video.video_id] = (
                f"'{video.path}' is a folder of frames, and only the source knows which of them belong to the video. "
                f"Run the prepare.py command of this dataset again to recreate the damaged crops."
            )
        elif video.video_id in crops and video.mask is not None and not video.mask.exists():
            problems[video.video_id] = f"No such mask: '{video.mask}'. It decides which face is the forged one."
        elif video.video_id in crops and journal.has_changed(video):
            problems[video.video_id] = (
                f"'{video.path}' has changed since its crops were made"
                f"{', or so has its original' if is_guided(video, dataset.spec) else ''}. "
                f"Run the prepare.py command of this dataset again to recreate all crops of changed videos."
            )
        elif video.video_id in crops:
            own = dataset.faces[dataset.faces["video_id"] == video.video_id]
            tasks.append(Task(video, read_record(row, own), crops[video.video_id], guides.get(str(video.original))))
        elif is_unread and video.is_there and video.kind is not MediaKind.FRAMES:
            tasks.append(Task(video, guide=guides.get(str(video.original))))
    return tasks, problems


def _find_guides(dataset: FaceDataset) -> dict[str, Guide]:
    """Return the originals whose boxes forgeries reuse, by `video_id`."""
    if dataset.spec.boxes == "own":
        return {}
    rows = {str(row["video_id"]): row for row in dataset.videos.to_dict("records")}
    crops = {str(name): own for name, own in dataset.faces.groupby("video_id")}
    videos = [read_video(row) for row in rows.values()]
    wanted = {str(video.original) for video in videos if is_guided(video, dataset.spec)} & rows.keys()
    records = {name: read_record(rows[name], crops.get(name, dataset.faces.head(0))) for name in wanted}
    return find_guides(videos, videos, records, dataset.spec)


def _update_tables(dataset: FaceDataset, videos: Mapping[str, Video], records: Mapping[str, VideoRecord]) -> None:
    """Replace the rows of some videos in the tables, keeping the order."""
    rows = dataset.videos.set_index("video_id", drop=False)
    groups = rows.loc[list(records), "group"].tolist()
    splits = rows.loc[list(records), "split"].tolist()
    new_videos, new_faces = build_tables([videos[name] for name in records], list(records.values()), groups, splits)
    order = {name: place for place, name in enumerate(dataset.videos["video_id"])}
    tables = []
    for old, new in ((dataset.videos, new_videos), (dataset.faces, new_faces)):
        table = pd.concat([old[~old["video_id"].isin(list(records))], new], ignore_index=True)
        tables.append(table.sort_values("video_id", key=lambda column: column.map(order), kind="stable"))
    video_table, face_table = (table.reset_index(drop=True) for table in tables)
    info = {**dataset.info, "counts": count_rows(video_table, face_table)}
    write_dataset(dataset.root, info=info, videos=video_table, faces=face_table)
