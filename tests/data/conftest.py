from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS, write_dataset
from unmask.faces.spec import CropSpec
from unmask.media.image import write_jpeg

Rows = dict[str, tuple[int, int]]


@pytest.fixture
def make_faces(tmp_path: Path) -> Callable[..., Path]:
    """Writes a face dataset with so many (real, fake) crops of each split, one video a crop; fakes are brighter."""

    def make(counts: Rows, *, name: str = "faces") -> Path:
        root, videos, faces = tmp_path / name, [], []
        for split, labels in counts.items():
            for label, count in enumerate(labels):
                for number in range(count):
                    method = "FaceSwap" if label else "original"
                    video_id = f"drawn/{method}/c23/{split}{number:03d}"
                    crop = f"crops/{video_id}/000000_0.jpg"
                    write_jpeg(root / crop, np.full((40, 40, 3), 60 + 120 * label, np.uint8), quality=95)
                    common = {"video_id": video_id, "label": label, "method": method, "split": split}
                    videos.append(
                        dict.fromkeys(VIDEO_COLUMNS)
                        | common
                        | {"kind": "video", "group": len(videos), "identities": [f"{split}{label}{number}"]}
                        | {"path": f"{number}.mp4", "outcome": "ok"}
                    )
                    faces.append(dict.fromkeys(FACE_COLUMNS) | common | {"crop": crop, "frame_index": 0, "track": 0})
        spec = CropSpec("haar", crop_size=40, num_frames=1)
        write_dataset(
            root,
            info={"name": "drawn", "preprocessing": spec.to_dict()},
            videos=pd.DataFrame(videos, columns=list(VIDEO_COLUMNS)),
            faces=pd.DataFrame(faces, columns=list(FACE_COLUMNS)),
        )
        return root

    return make
