"""What the computation of the indicators costs: cases and services made by SQL, no Primero and no Dagster.

    .venv/bin/python bench/figures.py --cases 1000000

Prints seconds, what was written, the server's temporary files, the log, this process's memory, and how fast a view answers.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import psutil
import psycopg
from places import Postgres

from primero_ona.ona.connection import connect
from primero_ona.ona.figures import compute_figures
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.variants import VARIANTS

FIRST_YEAR = 2020
NOW = datetime(2026, 11, 15, 3, 0, tzinfo=UTC)

#: Cases of 25 provinces and 210 districts, registered since 2020; a tenth of the dates and ages is missing.
CASES = """
INSERT INTO cases (case_id, registration_date, case_source, disabled, type_of_case, sex, age, protection_concerns,
                   placement_type, consent_status, province_current, district_current, primero_id, case_status, care_date,
                   date_of_reintegration, date_closure, age_at_registration, age_at_placement, age_at_reintegration,
                   last_updated_date)
SELECT 'case-' || n, registered,
       CASE WHEN h % 4 = 0 THEN 'oscar' ELSE 'primero' END,
       CASE WHEN h % 10 = 0 THEN 'disability ' || h / 10 % 7 END,
       (ARRAY['children at risk', 'children undergoing reintegration', 'children in conflict with the law', NULL])[1 + h / 3 % 4],
       (ARRAY['Female', 'Male', 'Female', 'Male', 'Other'])[1 + h / 5 % 5],
       NULLIF(h / 7 % 20, 19),
       concat_ws(', ', 'Concern ' || h / 11 % 39, CASE WHEN h % 2 = 0 THEN 'Concern ' || h / 13 % 39 END),
       (ARRAY['biological family', 'kinship care', 'foster care', 'residential care', 'adoption', NULL])[1 + h / 17 % 6],
       (ARRAY['given', 'refused', 'not recorded'])[1 + h / 19 % 3],
       'Province ' || h % 210 % 25, 'District ' || h % 210,
       md5(n::text)::uuid,
       CASE WHEN h / 23 % 2 = 0 THEN 'closed' ELSE 'open' END,
       CASE WHEN h / 29 % 10 > 0 THEN registered + h / 31 % 400 END,
       CASE WHEN h / 37 % 3 = 0 THEN registered + h / 41 % 600 END,
       CASE WHEN h / 23 % 2 = 0 THEN registered + h / 43 % 900 END,
       NULLIF(h / 7 % 20, 19), NULLIF(h / 7 % 20 + 1, 20), NULLIF(h / 7 % 20 + 1, 20), now() AT TIME ZONE 'UTC'
  FROM (SELECT n, abs(hashint8(n)) AS h, date '2020-01-01' + abs(hashint8(n + 1000000000)) % 2500 AS registered
          FROM generate_series(1, {cases}::bigint) AS n) AS made
"""

SERVICES = """
INSERT INTO services (unique_id, case_id, service_type, service_date, primero_case_id, service_subtypes, age_at_service)
SELECT 'service-' || n, 'case-' || (n / 3 + 1), 'Service ' || h % 14,
       CASE WHEN h / 7 % 10 > 0 THEN date '2020-01-01' + h / 11 % 2500 END,
       md5((n / 3 + 1)::text)::uuid,
       CASE WHEN h % 14 = 3 THEN (ARRAY['family_based_care_kinship', 'family_based_care_adoption'])[1 + h / 13 % 2] END,
       NULLIF(h / 17 % 20, 19)
  FROM (SELECT n, abs(hashint8(n + 2000000000)) AS h FROM generate_series(0, {cases}::bigint * 3 - 1) AS n) AS made
"""

VIEW = """
SELECT value, children FROM indicator_4_11a WHERE period = 'quarter' AND period_start = '2025-07-01' AND dimension = 'district'
"""


def main() -> None:
    """Fill, compute twice, change one case in a thousand, compute again; print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=1_000_000)
    cases = parser.parse_args().cases
    with tempfile.TemporaryDirectory(prefix="primero-ona-bench-") as folder:
        Path(folder).chmod(0o755)
        with Postgres(Path(folder)) as postgres:
            url = postgres.url("ona")
            with connect(url) as conn:
                apply(conn, plan(conn))
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(CASES.replace("{cases}", str(cases)).encode())
                conn.execute(SERVICES.replace("{cases}", str(cases)).encode())
                conn.execute("VACUUM ANALYZE")
                print(f"{cases:,} cases, {cases * 3:,} services, PostgreSQL {postgres.version()}")
                measure(postgres, conn, url, "first")
                measure(postgres, conn, url, "unchanged")
                conn.execute("UPDATE cases SET sex = 'Female' WHERE hashtext(case_id) % 1000 = 0")
                measure(postgres, conn, url, "one case in a thousand changed")
                print(f"a view answers in {_view(url):.4f} s")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def measure(postgres: Postgres, conn: psycopg.Connection, url: str, what: str) -> None:
    """Compute, and print what it took."""
    files, log, started = _temporary(conn), postgres.wal(), monotonic()
    cpu = _compute(url)
    seconds = monotonic() - started
    conn.execute("SELECT pg_stat_clear_snapshot()")
    written = (_temporary(conn) - files) / 2**20
    figures = conn.execute("SELECT count(*) FROM indicator_figures").fetchall()[0][0]
    print(f"{what}: {seconds:.1f} s, {cpu:.1f} s of the server's CPU, {figures:,} figures")
    print(f"  {written:,.0f} MB of temporary files, {(postgres.wal() - log) / 2**20:,.1f} MB of log")


def _compute(url: str) -> float:
    defaults = {indicator: names[0] for indicator, names in VARIANTS.items()}
    with connect(url) as conn:
        compute_figures(conn, run_id="bench", now=NOW, first_year=FIRST_YEAR, defaults=defaults)
        times = psutil.Process(conn.info.backend_pid).cpu_times()
    return times.user + times.system


def _temporary(conn: psycopg.Connection) -> int:
    """Bytes that sorts and hashes have written to disk; temporary tables are not among them."""
    row = conn.execute("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0]) if row else 0


def _view(url: str) -> float:
    """The median of ten answers."""
    with psycopg.connect(url, autocommit=True) as conn:
        taken = []
        for _ in range(10):
            started = monotonic()
            rows = conn.execute(VIEW.encode()).fetchall()
            taken.append(monotonic() - started)
        print(f"  ({len(rows)} rows)")
    return statistics.median(taken)


if __name__ == "__main__":
    main()
