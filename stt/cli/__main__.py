"""`python -m stt.cli`, for where `stt` is not on the PATH."""

import sys

from stt.cli import main

sys.exit(main())
