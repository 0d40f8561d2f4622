"""Predict many files of a command line, one after another, where some of them may be damaged."""

from collections.abc import Iterable, Iterator

from unmask.errors import MediaError
from unmask.inference.inputs import Input
from unmask.inference.predictor import Predictor
from unmask.inference.results import Prediction, Progress
from unmask.inference.words import UNREADABLE


def watch_inputs(predictor: Predictor, inputs: Iterable[Input]) -> Iterator[Progress]:
    """Yield how far each input is; the last step of each holds its prediction.

    The prediction of one that cannot be read has an error, and the rest goes on.

    Args:
        predictor: That judges them.
        inputs: Files, or what was named and is none.
    """
    for entry in inputs:
        try:
            if entry.error:
                raise MediaError(entry.error)
            yield from predictor.watch_file(entry.path)
        except MediaError as error:
            threshold = predictor.decision.threshold
            yield Progress(
                1, 1, Prediction(str(entry.path), None, None, None, threshold, error=str(error), headline=UNREADABLE)
            )
