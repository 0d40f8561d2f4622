"""MLflow's pages on the store that the runs went to: what `make ui` runs."""

import os
import sys

from unmask.cli.shell import fail
from unmask.errors import ConfigError, UnmaskError
from unmask.paths import home_folder


def main() -> None:
    """Print the address of each experiment's runs, then serve the pages until interrupted."""
    try:
        serve_pages()
    except UnmaskError as error:
        fail(str(error))


def serve_pages() -> None:
    """Run MLflow's server on a store of this machine; of a server that runs already, print the addresses alone.

    Raises:
        ConfigError: Nothing has been tracked yet.
        TrackingError: The store cannot be read.
    """
    from unmask.training.tracking_fetch import find_uri
    from unmask.training.tracking_links import LOCAL_UI, find_server
    from unmask.training.tracking_store import store_file

    uri = find_uri(str(home_folder() / "mlflow.db"))
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
    from unmask.training.tracking_links import find_server, link_runs
    from unmask.training.tracking_store import explained, make_client

    with explained(uri):
        experiments = [found for found in make_client(uri).search_experiments() if found.name != "Default"]
    for experiment in experiments:
        print(f"Runs of '{experiment.name}': {link_runs(find_server(uri), experiment.experiment_id)}")


if __name__ == "__main__":
    main()
