"""Streams: a whole quarter, from two raw streams to mapped batches and one summary."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.mapping.result import Tally
from primero_ona.mapping.rows import CASE_FIELDS, SERVICE_CASE_FIELDS, map_cases, map_services
from primero_ona.pipeline import transform
from primero_ona.pipeline.transform import mapped_frames
from primero_ona.storage.frames import Frames
from primero_ona_tests.mapping.helpers import LABELS, PLACES
from primero_ona_tests.raw import raw_frame, uuid_of

TYPE = "children_undergoing_reintegration_55427"


def case(number, key=None, **fields):
    key = key or f"K-{number}"
    section = [{"unique_id": f"s-{number}"}]
    return {"id": uuid_of(number), "case_id_display": key, "record_state": True, "services_section": section, **fields}


BOTH = case(1, age=9, type_of_case=TYPE, sex="x_1")
ADULT = case(2, age=40, type_of_case=TYPE, sex="x_1")
CHILD = case(3, "K-2", age=5, created_at="2024-02-01T00:00:00.000Z")
KEYLESS = case(4, " ", age=6, sex="x_2")


def quarter(size):
    """The reintegration stream and the under-18 stream, in batches of a size."""
    return [
        Frames.of(*(raw_frame(*cases[start : start + size]) for start in range(0, len(cases), size)))
        for cases in ([BOTH, ADULT], [BOTH, CHILD, KEYLESS])
    ]


def mapped(fields, map_frame, *raw):
    """The mapped frames of a quarter, and their summary."""
    tally = Tally()
    return list(mapped_frames(raw, fields, map_frame, tally)), tally.summary()


def mapped_cases(*raw):
    return mapped(CASE_FIELDS, lambda frame: map_cases(frame, PLACES, LABELS), *raw)


def mapped_services(*raw):
    return mapped(SERVICE_CASE_FIELDS, lambda frame: map_services(frame, LABELS), *raw)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_quarter_becomes_rows_and_one_summary(size):
    """What the load gets must not depend on where batches end; the case that is in both sets is there once."""
    frames, summary = mapped_cases(*quarter(size))
    frame = pd.concat(frames)
    assert sorted(frame["primero_id"]) == [uuid_of(1), uuid_of(2), uuid_of(3)]
    assert summary["quarantine"] == [
        {"table": "cases", "primero_id": uuid_of(4), "reason": "case_id missing"},
    ]
    assert summary["findings"] == [{"field": "sex", "code": "x_1", "count": 2}]
    assert (summary["raw_cases"], summary["rows"]) == (4, 3)
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize("size", [1, 2, 5])
def test_services_follow_their_cases_into_quarantine(size):
    """A service needs a case_id; every other one comes, whoever shares its case's."""
    frames, summary = mapped_services(*quarter(size))
    assert sorted(pd.concat(frames)["unique_id"]) == ["s-1", "s-2", "s-3"]
    assert summary["quarantine"] == [{"table": "services", "primero_id": uuid_of(4), "reason": "case_id missing"}]
    assert (summary["raw_cases"], summary["rows"]) == (4, 3)


def test_a_mapped_frame_is_never_larger_than_a_batch(monkeypatch):
    """Cases have several services each, so a full raw batch gives more rows than a frame may have."""
    monkeypatch.setattr(transform, "BATCH_ROWS", 2)
    raw = raw_frame(case(1, age=3, services_section=[{"unique_id": str(n)} for n in range(5)]), case(2, age=3))
    frames, _ = mapped_services(Frames.of(), Frames.of(raw))
    assert [list(frame["unique_id"]) for frame in frames] == [["0", "1"], ["2", "3"], ["4", "s-2"]]
    assert all(list(frame.index) == [0, 1] for frame in frames)


def test_an_empty_quarter_has_an_empty_summary():
    """A quarter in which nothing changed is no fault."""
    frames, summary = mapped_cases(Frames.of(), Frames.of(raw_frame()))
    assert frames == []
    assert summary == {
        "findings": [],
        "quarantine": [],
        "raw_cases": 0,
        "rows": 0,
        "repeated": 0,
        "mapping_version": MAPPING_VERSION,
    }


def test_mapping_reads_only_the_fields_it_names():
    """The parts are encrypted columns; what is not needed need not be opened."""

    def only(*cases):
        frame = raw_frame(*cases)
        return Frames(lambda columns: iter([frame[list(dict.fromkeys(name.split(".")[0] for name in columns))]]))

    cases, _ = mapped_cases(only(ADULT), only(CHILD))
    services, _ = mapped_services(only(ADULT), only(CHILD))
    assert len(pd.concat(cases)) == len(pd.concat(services)) == 2
