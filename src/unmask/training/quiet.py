"""Keep what other libraries say to what a user can act on."""

import logging
import os
import warnings

from unmask.training.devices import is_first_process

_NOISE = (
    ".*does not have many workers.*",  # dataset.num_workers is the user's choice
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning against a newer torch
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*`noload` loader strategy is deprecated.*",  # MLflow against a newer SQLAlchemy
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*dirpath has changed from.*",  # a resumed run has a folder of its own
    ".*resuming from a checkpoint that ended before the epoch ended.*",  # our sampler goes on where it stopped
)


def quieten() -> None:
    """Print every message of Lightning once, through Hydra's log, and leave out the ones listed here.

    Of several processes the first speaks for all; the others write what is no error into their own log files alone.
    """
    if not is_first_process():
        warnings.simplefilter("ignore")
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
    os.environ.setdefault("LITLOGGER_DISABLE", "1")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # that it creates an experiment
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
