"""MLflow's pages of the store that holds the runs: what `make ui` runs."""

import os
import sys

from unmask.cli.shell import fail
from unmask.errors import ConfigError, UnmaskError


def main() -> None:
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
