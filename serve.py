"""Serve the REST API and its page: pictures at once, videos as jobs.

python serve.py checkpoint=outputs/train/<run>/bundle
python serve.py checkpoint=models:/faces@best port=8080
python serve.py task=key
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))  # a bare checkout runs too

from unmask.cli.serve import main

if __name__ == "__main__":
    main()
