from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from unmask.errors import ConfigError
from unmask.models.losses import FocalLoss, SmoothedBCE

LOGITS = torch.tensor([2.0, -1.0, 0.5, -3.0])
LABELS = torch.tensor([1.0, 1.0, 0.0, 0.0])


def test_losses_with_neutral_values_equal_cross_entropy() -> None:
    expected = binary_cross_entropy_with_logits(LOGITS, LABELS)
    assert torch.allclose(SmoothedBCE()(LOGITS, LABELS), expected)
    assert torch.allclose(FocalLoss(gamma=0)(LOGITS, LABELS), expected)


def test_smoothed_labels_are_less_certain() -> None:
    expected = binary_cross_entropy_with_logits(LOGITS, torch.tensor([0.95, 0.95, 0.05, 0.05]))
    assert torch.allclose(SmoothedBCE(label_smoothing=0.1)(LOGITS, LABELS), expected)


@pytest.mark.parametrize("loss", [SmoothedBCE(fake_weight=3.0), FocalLoss(gamma=0, fake_weight=3.0)])
def test_weighted_fakes_count_more(loss: torch.nn.Module) -> None:
    each = binary_cross_entropy_with_logits(LOGITS, LABELS, reduction="none")
    assert torch.allclose(loss(LOGITS, LABELS), (3 * each[:2].sum() + each[2:].sum()) / 8)


def test_focal_loss_gives_easy_examples_less_weight() -> None:
    easy, hard = torch.tensor([4.0]), torch.tensor([-1.0])
    label = torch.ones(1)
    plain = binary_cross_entropy_with_logits(hard, label) / binary_cross_entropy_with_logits(easy, label)
    focal = FocalLoss()(hard, label) / FocalLoss()(easy, label)
    assert focal > 100 * plain


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"label_smoothing": 1.0}, r"loss\.label_smoothing=1\.0"),
        ({"label_smoothing": "much"}, r"loss\.label_smoothing=much must be at least 0"),
        ({"fake_weight": 0.0}, r"loss\.fake_weight=0\.0"),
        ({"fake_weight": float("nan")}, r"loss\.fake_weight=nan must be more than 0"),
    ],
)
def test_invalid_values_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        SmoothedBCE(**arguments)


def test_negative_gamma_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.gamma=-1"):
        FocalLoss(gamma=-1)
