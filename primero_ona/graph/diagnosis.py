"""Look at Dagster's instance: its storage, the daemon, what runs by itself, and how old all that is which must not grow old.

Ages are read from Dagster's own history, so that they are known while neither Primero nor ONA answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage import asset_check_execution_record as answers
from dagster._core.storage.tags import PARTITION_NAME_TAG

from primero_ona.errors import Area, ConfigError, DataError, Diagnosis, TransientError
from primero_ona.graph.assets.ona import CASES_KEY
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.metadata import SEEN_FAIL
from primero_ona.graph.reconciliation import COMPLETE
from primero_ona.graph.run_guard import GuardedInstance
from primero_ona.quarters import Quarter, local_time

AREA = Area("Dagster")


def diagnose(instance: dg.DagsterInstance, defaults: Mapping[str, bool]) -> Iterator[Diagnosis]:
    """Look at an open instance; `defaults`: by the name of each schedule and sensor, whether it is on by default."""
    if isinstance(instance, GuardedInstance):
        yield AREA.ok("dagster.yaml", "refuses runs that name addresses, keys or images")
    else:
        text = "dagster.yaml in DAGSTER_HOME lacks instance_class (is of an older version, or Dagster's own); copy ours there"
        yield AREA.failed("dagster.yaml", text, ConfigError)
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    versions = [storage.alembic_version() for storage in storages if storage is not None]
    if any(version is not None and version[0] != version[1] for version in versions):
        text = "its tables are of another version of Dagster; stop all of Dagster, back them up, then `dagster instance migrate`"
        yield AREA.failed("storage", text, ConfigError)
    else:
        yield AREA.ok("storage", "its tables are of this version")
    yield daemon(instance)
    states = {state.instigator_name: state.status.value for state in instance.all_instigator_state()}
    on = sorted(name for name, by_default in defaults.items() if by_default)
    if off := [name for name in on if states.get(name) == "STOPPED"]:
        text = f"switched off: {', '.join(off)}; switch on in the UI (Automation), or nothing is synced by itself"
        yield AREA.failed("automation", text, ConfigError)
    else:
        yield AREA.ok("automation", f"on: {', '.join(on)}")


def daemon(instance: dg.DagsterInstance) -> Diagnosis:
    """Whether each part of Dagster's daemon has given a sign of life lately, and without an error."""
    from dagster._daemon.controller import get_daemon_statuses

    statuses = get_daemon_statuses(instance, instance.get_required_daemon_types())
    sick = {name: status for name, status in statuses.items() if not status.healthy}
    if not sick:
        return AREA.ok("daemon", "alive")
    text = "it has not run here yet"
    if beats := [status.last_heartbeat for status in sick.values() if status.last_heartbeat]:
        since = local_time(datetime.fromtimestamp(min(beat.timestamp for beat in beats), UTC))
        said = "reports errors" if any(beat.errors for beat in beats) else f"gave its last sign of life at {since}"
        parts = ", ".join(sorted(name.removesuffix("_DAEMON").lower().replace("_", " ") for name in sick))
        text = f"it {said} ({parts})"
    text += ", and nothing is synced without it; start it (`make dev`; in production `systemctl restart primero-ona-daemon`)"
    return AREA.failed("daemon", text, TransientError, "overdue")


def ages(instance: dg.DagsterInstance, start: Quarter, now: datetime, stale_hours: int) -> Iterator[Diagnosis]:
    """Look whether anything is overdue: the look at Primero, the open quarter, the close, the proof. `start`: first quarter."""
    if last_materialized(instance, CASES_KEY) is None:
        text = f"nothing is loaded yet; `primero-ona backfill --from {start}`"
        yield AREA.failed("newest sync", text, DataError, "overdue")
        return
    yield _seen(instance, now)
    yield _open_quarter(instance, now, stale_hours)
    if Quarter.of(now).previous() >= start:
        yield _closed(instance, now)
    yield _proved(instance, now)


def _seen(instance: dg.DagsterInstance, now: datetime) -> Diagnosis:
    seen = last_materialized(instance, PRIMERO.key)
    if seen and now - seen <= SEEN_FAIL:
        return AREA.ok("Primero seen", local_time(seen))
    text = "the sensor `watch_primero` has not seen Primero yet; is the daemon running, and the sensor on?"
    if seen:
        text = (
            f"the sensor `watch_primero` saw Primero last at {local_time(seen)}, so changes since then do not arrive; its page in the "
            "UI says why, and `primero-ona doctor` looks"
        )
    return AREA.failed("Primero seen", text, TransientError, "overdue")


def _open_quarter(instance: dg.DagsterInstance, now: datetime, stale_hours: int) -> Diagnosis:
    quarter = Quarter.of(now)
    known = as_of(instance, quarter)
    so_far = f"is as of {local_time(known)}" if known else None
    if now - (known or quarter.start) <= timedelta(hours=stale_hours):
        return AREA.ok("newest sync", f"{quarter} {so_far or 'has just begun'}")
    text = (
        f"the open quarter {quarter} {so_far or 'was never loaded'} (PRIMERO_ONA_STALE_HOURS is {stale_hours}); "
        "`primero-ona sync`"
    )
    return AREA.failed("newest sync", text, DataError, "overdue")


def _closed(instance: dg.DagsterInstance, now: datetime) -> Diagnosis:
    """Whether the last quarter was synced after the end of its entries; nothing before that is due."""
    quarter = Quarter.of(now)
    # When `close_quarter` syncs the one before; it may wait, take its time, and be retried.
    due, ended = quarter.start + timedelta(days=4, hours=2), quarter.previous()
    loaded = last_materialized(instance, CASES_KEY, ended)
    so_far = f"was last loaded at {local_time(loaded)}" if loaded else None
    if now <= due + timedelta(days=1) or (loaded and loaded >= due):
        return AREA.ok("closing", f"{ended} {so_far or 'is not due yet'}")
    text = (
        f"{ended} {so_far or 'was never loaded'}, and was to be closed at {local_time(due)}; "
        f"`primero-ona sync --quarter {ended}`"
    )
    return AREA.failed("closing", text, DataError, "overdue")


def _proved(instance: dg.DagsterInstance, now: datetime) -> Diagnosis:
    """Whether the check `complete` was answered within a month, and the time that it may take; whatever the answer."""
    answered = last_check(instance, COMPLETE)
    last = datetime.fromtimestamp(answered.create_timestamp, UTC) if answered else None
    so_far = f"at {local_time(last)}" if last else None
    if now - (last or last_materialized(instance, CASES_KEY, first=True) or now) <= timedelta(days=32):
        return AREA.ok("proof", f"compared {so_far}" if so_far else "due within a month after the first load")
    text = (
        f"all of ONA was compared with all of Primero {so_far or 'never'}; start the job `reconcile_ona` in the UI, "
        "or `primero-ona verify`"
    )
    return AREA.failed("proof", text, DataError, "overdue")


def as_of(instance: dg.DagsterInstance, quarter: Quarter) -> datetime | None:
    """Since when ONA's data of a quarter are behind, at most: its last load, or a later look that found nothing to sync."""
    loaded = last_materialized(instance, CASES_KEY, quarter)
    wanted = dg.RunsFilter(job_name="sync_quarter", tags={PARTITION_NAME_TAG: quarter.key})
    newest = instance.get_runs(wanted, limit=1)
    if newest and not newest[0].is_success:
        return loaded
    seen = last_materialized(instance, PRIMERO.key)
    return max((moment for moment in (loaded, seen) if moment), default=None)


def last_materialized(
    instance: dg.DagsterInstance, asset: dg.AssetKey, quarter: Quarter | None = None, *, first: bool = False
) -> datetime | None:
    """When an asset, or a quarter of it, was materialized last, or `first`."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[quarter.key] if quarter else None)
    records = instance.fetch_materializations(wanted, limit=1, ascending=first).records
    return datetime.fromtimestamp(records[0].timestamp, UTC) if records else None


def last_check(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> answers.AssetCheckExecutionRecord | None:
    """The last answer of a check; one that was only planned, or broke off, is none."""
    status = answers.COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    found = instance.event_log_storage.get_asset_check_execution_history(check, limit=1, status=status)
    return found[0] if found else None
