"""`python -m vncgate`."""

import sys

from vncgate.cli import main

sys.exit(main())
