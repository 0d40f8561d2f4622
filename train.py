"""Train a detector of fake faces.

python train.py dataset.root=data/ffpp-c23
python train.py dataset.root=data/ffpp-c23 augmentation=strong optimizer=sgd precision=bf16 trainer.max_epochs=20
python train.py -m dataset.root=data/ffpp-c23 optimizer.lr=1e-4,3e-4 augmentation=light,strong
python train.py resume=last
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))  # a bare checkout runs too

from unmask.cli.train import main

if __name__ == "__main__":
    main()
