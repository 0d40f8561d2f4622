"""Networks of `configs/model` for tests, built without a configuration."""

from typing import Any

from unmask.models.checkpoint import upgrade_network
from unmask.models.network import FaceNetwork, build_network


def make_network(*, name: str = "resnet18", library: str = "torchvision", **options: Any) -> FaceNetwork:
    """Build a network by its name, with random weights unless `weights` names others."""
    from unmask.models import backbones

    def build(node: dict[str, Any]) -> Any:
        return getattr(backbones, node.pop("_target_").rpartition(".")[2])(**node)

    return build_network(upgrade_network({"name": name, "library": library, **options}), build=build)
