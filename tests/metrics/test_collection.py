import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from tests.metrics.test_scores import make_tracks

from unmask.data.dataset import number_videos
from unmask.decision import AGGREGATIONS, Decision
from unmask.metrics.collection import VideoMetrics, aggregate_videos, build_metrics
from unmask.metrics.scores import aggregate_videos as aggregate_table


@pytest.fixture
def frames() -> pd.DataFrame:
    """Return shuffled frames of 40 videos; four methods and the originals share eight names."""
    rng = np.random.default_rng(0)
    rows = []
    for method in ("original", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
        for name in range(8):
            for _ in range(int(rng.integers(1, 7))):
                label = int(method != "original")
                score = float(np.clip(rng.normal(0.45 + 0.15 * label, 0.2), 0, 1))
                rows.append(
                    {"video_id": f"ffpp/{method}/c23/{name:03d}", "label": label, "method": method, "score": score}
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def _tensors(frames: pd.DataFrame) -> dict[str, torch.Tensor]:
    return {
        "preds": torch.tensor(frames["score"].to_numpy(), dtype=torch.float64),
        "target": torch.tensor(frames["label"].to_numpy()),
        "videos": torch.tensor(pd.factorize(frames["video_id"])[0]),
    }


def _batch(frames: pd.DataFrame) -> dict[str, torch.Tensor]:
    return {**_tensors(frames), "rows": torch.arange(len(frames))}


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_metrics_agree_with_sklearn(frames: pd.DataFrame, aggregation: str) -> None:
    metrics = build_metrics(aggregation=aggregation, has_videos=True)
    batches = np.array_split(np.arange(len(frames)), 5)
    for batch in batches:
        metrics.update(**{name: values[batch] for name, values in _batch(frames).items()})
    figures = {name: float(value) for name, value in metrics.compute().items()}
    videos = frames.groupby("video_id").agg(label=("label", "first"), score=("score", aggregation))
    expected = {}
    for prefix, rows in (("", frames), ("video_", videos)):
        called = rows["score"] > 0.5
        expected |= {
            f"{prefix}accuracy": accuracy_score(rows["label"], called),
            f"{prefix}f1": f1_score(rows["label"], called),
            f"{prefix}auroc": roc_auc_score(rows["label"], rows["score"]),
            f"{prefix}auprc": average_precision_score(rows["label"], rows["score"]),
        }
    assert figures == pytest.approx(expected, abs=1e-6)
    assert len(set(figures.values())) == 8


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_training_and_evaluation_aggregate_videos_alike(frames: pd.DataFrame, aggregation: str) -> None:
    scores, labels = aggregate_videos(**_tensors(frames), aggregation=aggregation)
    table = aggregate_table(frames, decision=Decision(aggregation=aggregation))
    assert labels.tolist() == table["label"].tolist()
    assert scores.tolist() == pytest.approx(table["score"].tolist())


@pytest.mark.parametrize("aggregation", ["mean", "median", "max"])
def test_training_and_evaluation_let_the_same_people_decide(aggregation: str) -> None:
    frames = make_tracks().reset_index(drop=True)
    tensors = {**_tensors(frames), "videos": torch.from_numpy(number_videos(frames))}
    scores, labels = aggregate_videos(**tensors, aggregation=aggregation)
    table = aggregate_table(frames, decision=Decision(aggregation=aggregation))
    assert scores.tolist() == pytest.approx(table["score"].tolist())
    assert labels.tolist() == table["label"].tolist()
    assert (tensors["videos"] == -1).sum() == 1  # the false alarm


def test_videos_of_four_methods_with_one_name_stay_apart(frames: pd.DataFrame) -> None:
    one_name = frames[frames["video_id"].str.endswith("/003")].reset_index(drop=True)
    scores, labels = aggregate_videos(**_tensors(one_name), aggregation="mean")
    assert len(scores) == 5
    assert sorted(labels.tolist()) == [0, 1, 1, 1, 1]


def test_single_images_have_no_video_metrics_but_scores_are_gathered(frames: pd.DataFrame) -> None:
    metrics = build_metrics(aggregation="mean", has_videos=False)
    metrics.update(**_batch(frames))
    assert set(metrics.compute()) == {"accuracy", "f1", "auroc", "auprc"}
    gathered = metrics["videos"].gathered
    assert gathered is not None
    assert torch.equal(gathered[0], _tensors(frames)["preds"])


def test_reset_discards_the_frames_of_the_last_epoch(frames: pd.DataFrame) -> None:
    metric, tensors = VideoMetrics(), _batch(frames)
    metric.update(**tensors | {"target": 1 - tensors["target"]})
    metric.compute()
    metric.reset()
    metric.update(**tensors)
    assert metric.compute()["video_auroc"] > 0.5
    assert metric.gathered is not None
    assert len(metric.gathered[0]) == len(frames)


def test_metrics_do_not_depend_on_how_processes_share_the_frames(frames: pd.DataFrame) -> None:
    alone, shared, batch = VideoMetrics(), VideoMetrics(), _batch(frames)
    alone.update(**batch)
    for rank in range(3):  # gathered states arrive process by process
        shared.update(**{name: values[rank::3] for name, values in batch.items()})
    assert alone.compute() == shared.compute()
    assert alone.gathered is not None
    assert shared.gathered is not None
    assert all(torch.equal(one, other) for one, other in zip(alone.gathered, shared.gathered, strict=True))


def test_aggregation_is_chosen_from_the_scores_of_the_epoch() -> None:
    videos, labels = torch.arange(160) // 8, (torch.arange(160) // 8) % 2
    scores = torch.rand(160, generator=torch.Generator().manual_seed(0)) * 0.8
    scores[(torch.arange(160) % 8 == 0) & (labels == 1)] = 0.9
    metric = VideoMetrics(aggregation="auto")
    metric.update(scores, labels, videos, torch.arange(160))
    assert metric.compute()["video_auroc"] == 1.0
    assert metric.aggregation == "max"
    metric.reset()
    metric.update(labels * 0.5 + 0.1, labels, videos, torch.arange(160))
    metric.compute()
    assert metric.aggregation == "mean"


def test_frame_numbers_reach_the_aggregation_of_videos() -> None:
    metric = VideoMetrics(aggregation="frame_max")
    # Two faces a frame: the highest of each, and then the mean, ranks the fake video first; all four alike do not.
    scores, videos = torch.tensor([0.9, 0.0, 0.8, 0.0, 0.5, 0.5, 0.5, 0.5]), torch.tensor([0] * 4 + [1] * 4)
    labels, frames = torch.tensor([1] * 4 + [0] * 4), torch.tensor([0, 0, 1, 1] * 2)
    metric.update(scores, labels, videos, torch.arange(8), frames)
    assert metric.compute()["video_auroc"] == 1.0
    plain = VideoMetrics(aggregation="mean")
    plain.update(scores, labels, videos, torch.arange(8), frames)
    assert plain.compute()["video_auroc"] == 0.0
