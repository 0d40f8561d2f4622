"""Say of every face in pictures and videos whether it is real or fake.

python predict.py checkpoint=outputs/train/<run>/checkpoints/best.ckpt clip.mp4 photo.jpg folder
python predict.py checkpoint=best.ckpt threshold=0.4 "my clips/a=b.mp4"
python predict.py checkpoint=best.ckpt -- -odd=name.jpg

An argument is a path if it exists, or if it looks neither like key=value nor like a flag; so is everything after --.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))  # a bare checkout runs too

from unmask.cli.predict import main

if __name__ == "__main__":
    main()
