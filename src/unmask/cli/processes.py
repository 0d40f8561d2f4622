"""Several processes that something else started, such as torchrun, SLURM, or a person on each machine."""

import atexit
import shutil
import sys
import tempfile

from unmask.training.devices import is_first_process


def leave_folder_to_first() -> None:
    """Let the first process alone have a run folder; what another one writes goes with it.

    Each would name its folder after the time at which it started. Processes that Lightning starts are told the folder
    of the first one, and one that is told a folder on its command line takes that.
    """
    if is_first_process() or any(argument.startswith("hydra.run.dir=") for argument in sys.argv):
        return
    folder = tempfile.mkdtemp(prefix="unmask-process-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.argv += [f"hydra.run.dir={folder}", "hydra.output_subdir=null"]
