"""Raw cases in Arrow: the types of the columns that `fields.py` allows.

A module of its own, since the allow-list is read by every process that loads the graph, and Arrow takes a while to import.
"""

from __future__ import annotations

import pyarrow as pa

from primero_ona.contract.tables import SERVICES
from primero_ona.primero.fields import EXIT_COLUMNS, PULLED_COLUMNS, RAW_COLUMNS, SERVICE_FIELDS

_TYPES = {"text": pa.string(), "JSON": pa.string(), "time": pa.timestamp("ms", tz="UTC"), "whole number": pa.int32()}

_SERVICE = [(name, pa.string()) for name in SERVICE_FIELDS]

#: An element of `services_section` that is no object is a null element; a section that is no list is one null element.
PULLED_SERVICE_TYPE = pa.list_(pa.struct(_SERVICE))

#: A raw case as pulled, with the date of birth: in memory only, never stored.
PULLED_SCHEMA = pa.schema([(name, _TYPES.get(kind, PULLED_SERVICE_TYPE)) for name, kind in PULLED_COLUMNS.items()])

#: The services of a raw case as stored.
SERVICE_TYPE = pa.list_(pa.struct([*_SERVICE, *((column.name, pa.int32()) for column in SERVICES.ages)]))

#: A raw case as stored, with ages in place of the date of birth.
RAW_SCHEMA = pa.schema([(name, _TYPES.get(kind, SERVICE_TYPE)) for name, kind in RAW_COLUMNS.items()])

#: A case that belongs to neither set any more.
EXIT_SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in EXIT_COLUMNS.items()])
