"""Addresses of MLflow's pages: its front page opens on something else than a table of runs."""

import json
from collections.abc import Sequence
from urllib.parse import quote

from unmask.training.tracking_store import VIEW

_TRAINING = "workflowType=machine_learning"
"""Makes the page one of training, where MLflow would show its menu of language models."""

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `make ui` shows a store that is not a server."""


def find_server(uri: str) -> str:
    """Return the address of the UI of a store: its own where it is a server, else that of `make ui`."""
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI


def link_runs(server: str, experiment_id: str) -> str:
    """Return the page with the table of runs, the figures that they are chosen by among its columns.

    Args:
        server: Address of the UI.
        experiment_id: Experiment whose runs are listed.
    """
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&{_TRAINING}"


def link_run(server: str, experiment_id: str, run_id: str) -> str:
    """Return the page of one run.

    Args:
        server: Address of the UI.
        experiment_id: Experiment that the run is in.
        run_id: MLflow run ID.
    """
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING}"


def link_comparison(server: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the page that shows runs side by side: params, metrics, and plots of both.

    Args:
        server: Address of the UI.
        experiment_id: That the runs are in.
        run_ids: To compare.
    """
    runs, experiments = (quote(json.dumps(list(ids), separators=(",", ":"))) for ids in (run_ids, [experiment_id]))
    return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING}"


def link_curves(server: str, experiment_id: str, run_ids: Sequence[str], metrics: Sequence[str]) -> str:
    """Return the page that shows the curves of runs in one plot.

    Args:
        server: Address of the UI.
        experiment_id: That the runs are in.
        run_ids: To compare.
        metrics: Keys.
    """
    entries = {
        "runs": list(run_ids),
        "metric": metrics[0],
        "experiments": [experiment_id],
        "plot_metric_keys": list(metrics),
        "plot_layout": {"autosize": True, "xaxis": {}, "yaxis": {}},
        "deselected_curves": [],
        "last_linear_y_axis_range": [],
    }
    query = "&".join(f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in entries.items())
    return f"{server}/#/metric?{query}&x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true&{_TRAINING}"
