"""How old what Dagster shows may grow before it turns yellow, then red."""

from datetime import timedelta

import dagster as dg

#: Primero is looked at every 15 minutes; one look may fail, and a backup of Primero may take an hour.
SEEN_WARN, SEEN_FAIL = timedelta(hours=1), timedelta(hours=3)
SEEN = dg.FreshnessPolicy.time_window(fail_window=SEEN_FAIL, warn_window=SEEN_WARN)

#: Any quarter counts. Days without an edit happen (Khmer New Year, Pchum Ben), and then none is loaded.
LOADED = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=14), warn_window=timedelta(days=5))
