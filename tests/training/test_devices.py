import os

import pytest
from omegaconf import DictConfig, OmegaConf
from tests.conftest import compose_config

from unmask.errors import ConfigError
from unmask.training import devices
from unmask.training.devices import check_devices, choose_strategy, count_processes, is_first_process

_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"NODE_RANK": "1"}, False),  # the first process of the second machine
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),  # torchrun
        ({"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_first_process_is_known_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    assert is_first_process() is expected


def _trainer(*overrides: str) -> DictConfig:
    return compose_config("train", *overrides).trainer


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("trainer=cpu",), 1),
        (("trainer=ddp", "trainer.accelerator=cpu"), 1),  # all processors are one device
        (("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"), 2),
        (("trainer=ddp", "trainer.devices=2", "trainer.num_nodes=3", "trainer.accelerator=cpu"), 6),
        (("trainer=gpu", "trainer.devices=[0,2]"), 2),
        (("trainer=gpu", "trainer.devices='0,1'"), 2),
        (("trainer=ddp", "trainer.accelerator=gpu"), 4),
    ],
)
def test_processes_are_counted(monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], expected: int) -> None:
    monkeypatch.setattr(devices, "_count_gpus", lambda: 4)
    assert count_processes(_trainer(*overrides)) == expected


def test_processes_look_for_gradients_only_where_weights_stand_still() -> None:
    several = _trainer("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    assert choose_strategy(several, has_frozen=False) == "ddp"
    assert choose_strategy(several, has_frozen=True) == "ddp_find_unused_parameters_true"
    assert choose_strategy(_trainer("trainer=cpu"), has_frozen=True) == "auto"


@pytest.mark.parametrize(
    "overrides",
    [("trainer=gpu",), ("trainer=ddp", "trainer.accelerator=gpu"), ("trainer=gpu", "trainer.devices=[0,3]")],
)
def test_available_devices_are_accepted(monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]) -> None:
    monkeypatch.setattr(devices, "_count_gpus", lambda: 4)
    check_devices(_trainer(*overrides))


@pytest.mark.parametrize(
    ("num_gpus", "overrides", "message"),
    [
        (
            0,
            ("trainer=gpu",),
            r"^trainer\.accelerator=gpu needs a GPU, and PyTorch sees none here\. Choose trainer=cpu",
        ),
        (
            2,
            ("trainer=gpu", "trainer.devices=4"),
            r"^trainer\.devices=4 is more than the 2 GPUs of this machine.*Lower",
        ),
        (2, ("trainer=gpu", "trainer.devices=[0,2]"), r"^trainer\.devices=\[0, 2\] is more than the 2 GPUs"),
        (0, ("trainer.devices=0",), r"^trainer\.devices=0 names no device\. Give a number from 1, or auto\.$"),
        (0, ("trainer.devices=two",), r"^trainer\.devices=two is neither a number, nor a list of GPUs such as \[0,2\]"),
        (0, ("trainer.num_nodes=0",), r"^trainer\.num_nodes=0 must be a whole number of machines, at least 1\.$"),
        (
            0,
            ("trainer.accelerator=tpu",),
            r"^No trainer\.accelerator 'tpu'\. Choose one of: auto, cpu, gpu, cuda, mps$",
        ),
        (0, ("trainer.strategy=fsdp",), r"^No trainer\.strategy 'fsdp' here\. Choose one of: auto, ddp, ddp_find"),
        (
            0,
            ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.sync_batchnorm=true"),
            r"^trainer\.sync_batchnorm=true needs GPUs, and this training runs on CPUs\. Leave it out\.$",
        ),
    ],
)
def test_missing_device_is_named_with_a_fix(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, overrides: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(devices, "_count_gpus", lambda: num_gpus)
    with pytest.raises(ConfigError, match=message):
        check_devices(_trainer(*overrides))


def test_apple_gpu_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=mps needs an Apple GPU.*Choose trainer=cpu"):
        check_devices(OmegaConf.create({"accelerator": "mps", "devices": 1}))
