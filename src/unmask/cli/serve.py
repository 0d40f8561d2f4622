"""The command that serves the REST API."""

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from unmask.cli.checkpoint import find_checkpoint
from unmask.cli.shell import run_command
from unmask.config import check_complete
from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.web.api.settings import ServiceSettings

TASKS = ("serve", "key")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main() -> None:
    """Run `python serve.py checkpoint=...`."""
    run_command(run, config_name="serve", check=check)


def check(cfg: DictConfig) -> None:
    """Raise where a key needs a value; making an API key needs none."""
    if cfg.task != "key":
        check_complete(cfg)


def run(cfg: DictConfig) -> None:
    """Serve until a signal comes, or make an API key."""
    if cfg.task == "key":
        _print_key()
        return
    if cfg.task != "serve":
        raise ConfigError(f"No task '{cfg.task}' (task). Choose one of: {', '.join(TASKS)}")
    serve(cfg)


def _print_key() -> None:
    from unmask.web.api.keys import hash_key, make_key

    key = make_key()
    print(f"Key   {key}")
    print(f"Hash  {hash_key(key)}")
    print("Give the key to whoever may ask; it is not kept here. Start the service with: 'api_keys=[<hash>]'")


def build_settings(cfg: DictConfig) -> "ServiceSettings":
    """Return the settings of the service.

    Args:
        cfg: Of `serve.yaml`.
    """
    import os
    from pathlib import Path

    from unmask.inference.settings import PredictorSettings
    from unmask.web.api.settings import ModelSettings, ServiceLimits, ServiceSettings

    checkpoint = find_checkpoint(cfg.checkpoint, cfg.paths, takes_bundle=True)
    return ServiceSettings(
        model=ModelSettings(checkpoint, PredictorSettings.from_config(cfg)),
        folder=Path(cfg.folder),
        limits=ServiceLimits(**OmegaConf.to_container(cfg.service)),  # type: ignore[arg-type]
        image_workers=cfg.image_workers or min(4, os.cpu_count() or 1),
        video_workers=cfg.video_workers,
        api_keys=tuple(cfg.api_keys),
        cors_origins=tuple(cfg.cors_origins),
    )


def serve(cfg: DictConfig) -> None:
    """Listen, and answer.

    Args:
        cfg: Of `serve.yaml`.

    Raises:
        ConfigError: The port is taken.
        CheckpointError: The model cannot be read.
    """
    import socket

    import uvicorn

    from unmask.web.api.app import create_app
    from unmask.web.api.protocol import limit_heads

    app = create_app(build_settings(cfg))
    family = socket.AF_INET6 if ":" in cfg.host else socket.AF_INET
    # Only of a socket that says it is TCP does asyncio turn off the waiting for more to send, 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((cfg.host, cfg.port))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"Cannot listen on host={cfg.host} port={cfg.port}: {error}. Give another port.") from error
    _log_as_json()
    _announce(cfg, listener.getsockname()[1])
    config = uvicorn.Config(
        app, http=limit_heads(cfg.service.idle_seconds), log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=5, limit_concurrency=cfg.connections, timeout_graceful_shutdown=10,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


def _log_as_json() -> None:
    import logging

    from unmask.web.api.observe import JsonLines

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    ours = logging.getLogger("unmask.web.api")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)


def _announce(cfg: DictConfig, port: int) -> None:
    place = f"[{cfg.host}]" if ":" in cfg.host else cfg.host
    print(f"Unmask listens on http://{place}:{port} with the model '{cfg.checkpoint}'.", flush=True)
    if cfg.host in _LOOPBACK:
        print("Only this machine can reach it; host=0.0.0.0 lets others in.", flush=True)
    elif not cfg.api_keys:
        print(
            "Warning: others can reach it, and it asks nobody for a key. Make one with: python serve.py task=key",
            file=sys.stderr, flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
