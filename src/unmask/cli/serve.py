"""The command that serves the REST API."""

import os
import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from unmask.cli.checkpoints import find_checkpoint
from unmask.cli.shell import fail, run_command
from unmask.config import check_complete
from unmask.errors import ConfigError, UnmaskError

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from unmask.web.api.settings import ServiceSettings

TASKS = ("serve", "key")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main() -> None:
    """Run `python serve.py checkpoint=...`."""
    run_command(run, config_name="serve", check=check, kept="Give the service another folder with folder=...")


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
    from unmask.web.api.settings import hash_key, make_key

    key = make_key()
    print(f"Key   {key}")
    print(f"Hash  {hash_key(key)}")
    print("Give the key to whoever may ask; it is not kept here. Start the service with: 'api_keys=[<hash>]'")


def build_settings(cfg: DictConfig) -> "ServiceSettings":
    """Return the settings of the service.

    Args:
        cfg: Configuration of `serve.yaml`.
    """
    import os
    from pathlib import Path

    from unmask.inference.predictor import PredictorSettings
    from unmask.web.api.settings import ModelSettings, ServiceLimits, ServiceSettings

    checkpoint = find_checkpoint(cfg.checkpoint, cfg.paths, takes_bundle=True)
    return ServiceSettings(
        model=ModelSettings(checkpoint, PredictorSettings.from_config(cfg)),
        folder=Path(cfg.folder),
        limits=ServiceLimits(**OmegaConf.to_container(cfg.service)),  # type: ignore[arg-type]
        image_workers=min(4, os.cpu_count() or 1) if cfg.image_workers is None else cfg.image_workers,
        video_workers=cfg.video_workers,
        api_keys=tuple(cfg.api_keys),
        cors_origins=tuple(cfg.cors_origins),
        hosts=tuple(cfg.hosts),
        root_path=cfg.root_path,
        trusted_proxies=_list_proxies(cfg),
    )


def _list_proxies(cfg: DictConfig) -> tuple[str, ...]:
    """Return the addresses of proxies, by default those that uvicorn's own variable names, else this machine's."""
    import os

    given = cfg.forwarded_allow_ips
    if given is None:
        given = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    addresses = given.split(",") if isinstance(given, str) else list(given)
    return tuple(str(address).strip() for address in addresses)


def serve(cfg: DictConfig) -> None:
    """Listen, and answer.

    Args:
        cfg: Configuration of `serve.yaml`.

    Raises:
        ConfigError: Host, port or folder cannot be used, or a limit is not above 0.
        CheckpointError: The model cannot be read.
        UnmaskError: The workers cannot load the model.
    """
    from dataclasses import replace

    from unmask.web.api.app import create_app
    from unmask.web.api.settings import log_as_json
    from unmask.web.api.uploads import copied_model, own_folder

    if cfg.connections < 1:
        raise ConfigError(f"connections={cfg.connections} must be above 0.")
    log_as_json()
    settings = build_settings(cfg)
    with own_folder(settings.folder), copied_model(settings.model, settings.folder) as model:
        is_loopback = cfg.host in _LOOPBACK
        app = create_app(replace(settings, model=model), is_loopback=is_loopback, connections=cfg.connections)
        app.state.service.store.create()  # a full disk is said here, and not in a traceback of the server's
        _answer(app, cfg)
    if app.state.service.failure is not None:
        raise app.state.service.failure


def _answer(app: "FastAPI", cfg: DictConfig) -> None:
    """Answer requests until a signal comes, or the service fails."""
    import uvicorn

    from unmask.web.api.guard import limit_connections

    listener = _listen(cfg.host, cfg.port)
    _announce(cfg, listener.getsockname()[1])
    # Twice as many: a request too many must come in to be told so, and connections without a request need room.
    # The connections of a proxy are those of many clients.
    protocol = limit_connections(
        2 * cfg.connections, head_seconds=cfg.service.idle_seconds, trusted=_list_proxies(cfg)
    )  # fmt: skip
    # What proxies say is read by the application, which must know whom it comes from.
    config = uvicorn.Config(
        app, http=protocol, ws="none", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=5, timeout_graceful_shutdown=10,
    )  # fmt: skip
    server = uvicorn.Server(config)
    app.state.service.on_failure = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> "socket.socket":
    """Return a socket that is bound.

    Raises:
        ConfigError: The host is none of this machine, or the port is taken or none.
    """
    import errno
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only of a socket that says it is TCP does asyncio turn off the waiting for more to send, 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        is_of_host = isinstance(error, socket.gaierror | UnicodeError) or (
            isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL
        )
        fix = "Give a host of this machine: 127.0.0.1, or 0.0.0.0 for all it has" if is_of_host else "Give another port"
        raise ConfigError(f"Cannot listen on host={host} port={port}: {error}. {fix}.") from error
    return listener


def _announce(cfg: DictConfig, port: int) -> None:
    """Tell people where it listens, on stderr; stdout is for the log."""
    place = f"[{cfg.host}]" if ":" in cfg.host else cfg.host
    lines = [f"Unmask listens on http://{place}:{port} with the model '{cfg.checkpoint}'."]
    if cfg.host in _LOOPBACK:
        lines.append("Only this machine can reach it; host=0.0.0.0 lets others in.")
    elif not cfg.api_keys:
        lines.append(
            "Warning: others can reach it, and it asks nobody for a key. Make one with: python serve.py task=key"
        )
    print("\n".join(lines), file=sys.stderr, flush=True)


def open_ui() -> None:
    """Print the address of each experiment's runs, then serve the pages until interrupted."""
    try:
        serve_pages()
    except UnmaskError as error:
        fail(str(error))


def serve_pages() -> None:
    """Serve a store of this machine; for a server that is running already, only print the addresses.

    Raises:
        ConfigError: Nothing has been tracked yet.
        TrackingError: The store cannot be read.
    """
    from unmask.tracking.addresses import find_uri
    from unmask.tracking.store import LOCAL_UI, find_server, store_file

    uri = find_uri()
    file = store_file(uri)
    if file is not None and not file.is_file():
        raise ConfigError(
            f"No runs have been tracked in '{file}'. Train first (make demo), or name the store with "
            f"UNMASK_HOME=... or MLFLOW_TRACKING_URI=..."
        )
    _print_addresses(uri)
    if find_server(uri) == LOCAL_UI:
        host, port = LOCAL_UI.removeprefix("http://").split(":")
        command = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", port]
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *command])


def _print_addresses(uri: str) -> None:
    from unmask.tracking.store import explained, find_server, link_runs, make_client

    with explained(uri):
        experiments = [found for found in make_client(uri).search_experiments() if found.name != "Default"]
    for experiment in experiments:
        print(f"Runs of '{experiment.name}': {link_runs(find_server(uri), experiment.experiment_id)}")


if __name__ == "__main__":
    main()
