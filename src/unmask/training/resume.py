"""Check that a checkpoint can be gone on from."""

from unmask.errors import CheckpointError
from unmask.faces.spec import check_same_crops
from unmask.models.checkpoint import Checkpoint
from unmask.models.classifier import DeepfakeClassifier


def check_resume(checkpoint: Checkpoint, model: DeepfakeClassifier, *, dataset_root: str) -> None:
    """Raise unless a checkpoint holds the network that is configured, trained on crops made alike.

    Raises:
        CheckpointError: The networks differ; says in what.
        SpecMismatchError: The crops differ.
    """
    ours, theirs = model.network.config, checkpoint.network_config
    differences = [
        f"model.{key}: {theirs.get(key)!r} there, {ours[key]!r} here" for key in ours if ours[key] != theirs.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"resume='{checkpoint.path}' holds another network: {'; '.join(differences)}. "
            f"Give the same model as then, or start a new training."
        )
    check_same_crops(checkpoint.crop_spec, model.origin.crop_spec, where=dataset_root)
