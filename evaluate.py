"""Score a split of a face dataset with a checkpoint; writes figures, score tables and a report.

python evaluate.py checkpoint=outputs/train/<run>/checkpoints/best.ckpt dataset.root=data/synthetic-faces
python evaluate.py checkpoint=best.ckpt dataset.root=data/celebdf split=test batch_size=256 num_workers=4
python evaluate.py task=robustness checkpoint=best.ckpt dataset.root=data/celebdf robustness.limit=50 num_workers=4
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))  # a bare checkout runs too

from unmask.cli.evaluate import main

if __name__ == "__main__":
    main()
