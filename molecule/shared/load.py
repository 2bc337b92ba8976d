"""The load of benchmarks/load.py, for scenarios: run it with this project's own Python."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.load import main

if __name__ == "__main__":
    sys.exit(main())
