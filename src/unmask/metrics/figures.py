"""Classification metrics of labels and scores."""

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, brier_score_loss, classification_report, log_loss, roc_curve

from unmask.decision import Decision
from unmask.types import Label, Verdict

Figures = dict[str, Any]
"""Metrics as plain values for JSON, as `classify` returns them."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
"""False positive rates at which the true positive rate is reported, as `tpr_at_fpr_0.001` and so on."""

PARTIAL_AUC_LIMIT = 0.1
"""Highest false positive rate of the partial area `pauc_0.1`."""

NUM_BINS = 15
"""Number of equal-width score bins of the expected calibration error."""

MIN_FALSE_POSITIVES = 10
"""Reals that must lie beyond a false positive rate for it to be supported: 0.1 % needs 10,000 reals."""


def classify(labels: npt.ArrayLike, scores: npt.ArrayLike, *, threshold: float) -> Figures:
    """Compute classification metrics at a threshold, over all thresholds, and of the scores as probabilities.

    Fake is the positive class. PR-AUC is the average precision; it depends on the share of fakes, so it cannot be
    compared across datasets. The half total error rate (`hter`) is that of the given threshold, the equal error rate
    (`eer`) that of the best threshold for these data, between two points of the ROC curve if need be. `pauc_0.1` is the
    area up to 10 % false positives, scaled so that chance is 0.5 (McClish, 1989).

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake) in [0, 1], shape `(N,)`.
        threshold: Lowest score that counts as fake.

    Returns:
        `num`, `num_real`, `num_fake`, `accuracy`, `balanced_accuracy`, `precision`, `recall`, `specificity`, `f1`,
        `mcc`, `hter`, `auroc`, `auprc`, `eer`, `tpr_at_fpr_...`, `pauc_0.1`, `log_loss`, `brier`, `ece`, `confusion`,
        scikit-learn's `report` and the same as `report_text`. An undefined metric is None, and `undefined` says why;
        `notes` tells which metrics rest on too few reals.
    """
    truth, values = check_scores(labels, scores)
    called = (values >= threshold).astype(np.int64)
    confusion = confusion_counts(truth, called)
    figures = {
        "num": len(truth),
        "num_real": sum(confusion[Label.REAL]),
        "num_fake": sum(confusion[Label.FAKE]),
        **_at_threshold(confusion),
        **_over_thresholds(truth, values),
        **_as_probabilities(truth, values),
        "confusion": confusion,
        **_report(confusion),
    }
    return figures | {"undefined": _explain_undefined(figures), "notes": _note_few_reals(figures)}


def check_scores(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Integers, Floats]:
    """Return labels and scores as arrays.

    Raises:
        ValueError: A label is not 0 or 1, a score is missing, or one is not finite or outside [0, 1].
    """
    truth, values = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    is_valid = truth.shape == values.shape and bool(((values >= 0) & (values <= 1)).all())
    if not is_valid or not np.isin(truth, list(Label)).all():
        raise ValueError(
            f"Expected one finite score in [0, 1] per label, and labels 0 and 1, got {truth.shape} labels and "
            f"{values.shape} scores."
        )
    return truth, values


def _at_threshold(confusion: list[list[int]]) -> Figures:
    (real_as_real, real_as_fake), (fake_as_real, fake_as_fake) = confusion
    num_real, num_fake = real_as_real + real_as_fake, fake_as_real + fake_as_fake
    specificity, recall = ratio_of(real_as_real, num_real), ratio_of(fake_as_fake, num_fake)
    balanced = (specificity + recall) / 2 if specificity is not None and recall is not None else None
    sizes = num_real * num_fake * (real_as_real + fake_as_real) * (real_as_fake + fake_as_fake)
    agreement = real_as_real * fake_as_fake - real_as_fake * fake_as_real
    return {
        "accuracy": ratio_of(real_as_real + fake_as_fake, num_real + num_fake),
        "balanced_accuracy": balanced,
        "precision": ratio_of(fake_as_fake, fake_as_fake + real_as_fake),
        "recall": recall,
        "specificity": specificity,
        "f1": ratio_of(2 * fake_as_fake, 2 * fake_as_fake + real_as_fake + fake_as_real),
        "mcc": None if balanced is None else agreement / math.sqrt(sizes) if sizes else 0.0,
        "hter": None if balanced is None else 1 - balanced,
    }


def _over_thresholds(truth: Integers, values: Floats) -> Figures:
    names = ("auroc", "auprc", "eer", *(f"tpr_at_fpr_{rate}" for rate in FALSE_POSITIVE_RATES))
    num_fake = int(truth.sum())
    if not 0 < num_fake < len(truth):
        return dict.fromkeys((*names, f"pauc_{PARTIAL_AUC_LIMIT}"))
    false_rate, true_rate, _ = roc_curve(truth, values, drop_intermediate=False)
    called = true_rate * num_fake + false_rate * (len(truth) - num_fake)
    precision = true_rate[1:] * num_fake / called[1:]
    at_rates = [float(true_rate[false_rate <= rate + 1e-12].max()) for rate in FALSE_POSITIVE_RATES]
    areas = (
        float(auc(false_rate, true_rate)),
        float((np.diff(true_rate) * precision).sum()),
        find_equal_error_rate(false_rate, true_rate),
    )
    return dict(zip(names, (*areas, *at_rates), strict=True)) | {
        f"pauc_{PARTIAL_AUC_LIMIT}": _partial_auc(false_rate, true_rate, limit=PARTIAL_AUC_LIMIT)
    }


def find_equal_error_rate(false_rate: Floats, true_rate: Floats) -> float:
    """Return the error rate at the point of a ROC curve, on its straight lines too, where both classes have the same.

    Args:
        false_rate: False positive rates from 0 to 1, ascending, shape `(N,)`.
        true_rate: True positive rates of the same points.
    """
    gap = false_rate + true_rate - 1  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(false_rate[after - 1] + share * (false_rate[after] - false_rate[after - 1]))


def _partial_auc(false_rate: Floats, true_rate: Floats, *, limit: float) -> float:
    inside = np.searchsorted(false_rate, limit, side="right")
    edge = np.interp(limit, false_rate[inside - 1 : inside + 1], true_rate[inside - 1 : inside + 1])
    area = auc(np.append(false_rate[:inside], limit), np.append(true_rate[:inside], edge))
    least, most = limit**2 / 2, limit
    return float((1 + (area - least) / (most - least)) / 2)


def _as_probabilities(truth: Integers, values: Floats) -> Figures:
    if len(truth) == 0:
        return dict.fromkeys(("log_loss", "brier", "ece"))
    return {
        "log_loss": float(log_loss(truth, values, labels=list(Label))),
        "brier": float(brier_score_loss(truth, values, pos_label=Label.FAKE)),
        "ece": measure_calibration_error(truth, values),
    }


def measure_calibration_error(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, weights: npt.ArrayLike | None = None, num_bins: int = NUM_BINS
) -> float:
    """Return the expected calibration error: the mean distance from score to share of fakes, over bins of scores.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake) in [0, 1], shape `(N,)`.
        weights: Weight of each score; None for equal ones.
        num_bins: Number of bins of equal width.
    """
    truth, values = check_scores(labels, scores)
    shares = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    gaps = np.bincount(find_bins(values, num_bins), shares * (values - truth))
    return float(np.abs(gaps).sum() / shares.sum())


def find_bins(scores: Floats, num_bins: int = NUM_BINS) -> Integers:
    """Return the bin of each score, of equally wide ones from 0 to 1."""
    return np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)


def _explain_undefined(figures: Figures) -> dict[str, str]:
    if figures["num"] == 0:
        return {name: "there are no scores" for name, value in figures.items() if value is None}
    missing = [label.name.lower() for label in Label if figures[f"num_{label.name.lower()}"] == 0]
    reasons = {name: f"there are no {''.join(missing)} scores" for name, value in figures.items() if value is None}
    if "precision" in reasons:
        reasons["precision"] = "nothing is called fake"
    return reasons


def _note_few_reals(figures: Figures) -> dict[str, str]:
    rates = {f"tpr_at_fpr_{rate}": rate for rate in FALSE_POSITIVE_RATES}
    rates[f"pauc_{PARTIAL_AUC_LIMIT}"] = PARTIAL_AUC_LIMIT
    num = figures["num_real"]
    return {
        name: f"{num:,} real scores are too few for a false positive rate of {rate:g}: it takes "
        f"{math.ceil(MIN_FALSE_POSITIVES / rate):,}"
        for name, rate in rates.items()
        if figures[name] is not None and num * rate < MIN_FALSE_POSITIVES
    }


def describe_verdicts(labels: npt.ArrayLike, scores: npt.ArrayLike, *, decision: Decision) -> Figures:
    """Count the verdicts of a decision, and measure its calibrated probabilities.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake) in [0, 1], shape `(N,)`.
        decision: Decision with the threshold, its margin and the calibration.

    Returns:
        `uncertain`, the share of scores within the margin; `decided_error`, the share of errors among the others with
        both classes weighted equally; `calibrated`, with `log_loss`, `brier` and `ece` of the probabilities, weighted
        in the same way because calibration assumes equally frequent classes. None if undefined.
    """
    truth, values = check_scores(labels, scores)
    called = np.array([decision.verdict(score) for score in values.tolist()], dtype=object)
    is_decided, weights = called != Verdict.UNCERTAIN, weigh_classes(truth)
    wrong = is_decided & ((called == Verdict.FAKE) != (truth == Label.FAKE))
    has_both = 0 < truth.sum() < len(truth)
    return {
        "uncertain": ratio_of(int((~is_decided).sum()), len(truth)),
        "decided_error": float(weights[wrong].sum() / weights[is_decided].sum())
        if has_both and is_decided.any()
        else None,
        "calibrated": _measure_probabilities(truth, values, weights, decision) if has_both else None,
    }


def weigh_classes(truth: Integers) -> Floats:
    """Return weights with which both classes count equally; they sum to 1 if both are present."""
    counts = np.bincount(truth, minlength=len(Label))
    return 0.5 / np.maximum(counts, 1)[truth]


def _measure_probabilities(truth: Integers, values: Floats, weights: Floats, decision: Decision) -> Figures | None:
    if not decision.is_calibrated:
        return None
    chances = np.array([decision.probability(score) for score in values.tolist()], np.float64)
    return {
        "log_loss": float(log_loss(truth, chances, sample_weight=weights, labels=list(Label))),
        "brier": float(brier_score_loss(truth, chances, sample_weight=weights)),
        "ece": measure_calibration_error(truth, chances, weights=weights),
    }


def confusion_counts(labels: npt.NDArray[np.int64], called: npt.NDArray[np.int64]) -> list[list[int]]:
    """Return the confusion matrix; rows are the true class, columns the predicted one, real before fake."""
    return [[int(((labels == truth) & (called == call)).sum()) for call in Label] for truth in Label]


def _report(confusion: list[list[int]]) -> dict[str, Any]:
    """Return scikit-learn's report as values and as text; one weighted pair stands for each cell of the matrix."""
    if not np.any(confusion):
        return {"report": {}, "report_text": ""}
    names = [label.name.lower() for label in Label]
    truth, called = np.repeat(list(Label), len(Label)), np.tile(list(Label), len(Label))
    options: dict[str, Any] = {
        "sample_weight": np.ravel(confusion), "labels": list(Label), "target_names": names, "zero_division": 0.0
    }  # fmt: skip
    report: dict[str, Any] = classification_report(truth, called, output_dict=True, **options)
    plain = {
        key: {name: float(value) for name, value in figures.items()} if isinstance(figures, dict) else float(figures)
        for key, figures in report.items()
    }
    text = classification_report(truth, called, digits=4, **options)
    return {"report": plain, "report_text": re.sub(r"(\d+)\.0$", r"  \1", text, flags=re.MULTILINE)}


def ratio_of(part: int, whole: int) -> float | None:
    """Return a share, or None of nothing."""
    return part / whole if whole else None
