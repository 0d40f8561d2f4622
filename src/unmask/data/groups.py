"""Groups: videos connected through an identity or a common origin, which no split may cut."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unmask.types import Video


def find_groups(videos: Sequence[Video], *, copies: Sequence[Sequence[int]] = ()) -> list[int]:
    """Number the connected components of the graph of videos, identities and originals.

    A fake `AAA_BBB` joins the videos of AAA and of BBB; in FaceForensics++ that gives the official pairs again.

    Args:
        videos: Of one source.
        copies: Positions of videos that are the same file and belong together too.

    Returns:
        The group of each video, numbered from 0.
    """
    nodes: dict[tuple[str, str], int] = {}
    rows, columns = [], []
    for index, video in enumerate(videos):
        keys = [("video", video.video_id), *(("identity", identity) for identity in video.identities)]
        if video.original is not None:
            keys.append(("video", video.original))
        for key in keys:
            rows.append(index)
            columns.append(len(videos) + nodes.setdefault(key, len(nodes)))
    for same in copies:
        rows += same
        columns += [same[0]] * len(same)
    size = len(videos) + len(nodes)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][: len(videos)]
    _, groups = np.unique(labels, return_inverse=True)
    return [int(group) for group in groups]
