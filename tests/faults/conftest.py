"""What stands in machine/ breaks the machine that it runs on: it is collected only in namespaces of its own."""

from __future__ import annotations

from tests.faults.namespaces import are_ours

collect_ignore = [] if are_ours() else ["machine"]
