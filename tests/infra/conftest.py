"""The check of infra/ is a part of the repository, not of the program: it is found from the project's root."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
