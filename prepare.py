"""Turn videos or pictures into a face dataset.

python prepare.py source=synthetic output=data/synthetic-faces
python prepare.py source=ffpp source.root=/data/FaceForensics++ output=data/ffpp-c23
python prepare.py source=faces_140k source.root=/data/140k detector=none output=data/140k
python prepare.py source=forge source.root=/data/photographs output=data/forged crop.num_frames=16
python prepare.py task=explore output=data/ffpp-c23
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))  # a bare checkout runs too

from unmask.cli.prepare import main

if __name__ == "__main__":
    main()
