"""`python -m bertline VERB ...` is `bertline VERB ...`."""

import sys

from bertline.pipelines.cli.main import main

sys.exit(main())
