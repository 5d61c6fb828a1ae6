"""Dagster's side of the stored partitions: assets hand each other streams of frames, which lie in the store between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.errors import DataError
from primero_ona.graph.metadata import stored_metadata
from primero_ona.graph.steps import safe_step
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import Frames

if TYPE_CHECKING:
    from upath import UPath

    from primero_ona.storage.partitions import PartitionStore, PartitionWriter, Stored


class PartitionIOManager(dg.UPathIOManager):
    """Hands partitions between assets as streams of frames; `assets` tells what each asset's partitions must be.

    `find_store` is asked when a step first needs the store: where a setting is missing, that step fails with its message.
    Dagster makes IO managers before any step, and a failure there would show neither the message nor that it is permanent.
    """

    def __init__(self, find_store: Callable[[], PartitionStore], assets: Mapping[str, Stored]) -> None:
        super().__init__()
        self._find_store, self._assets = find_store, assets

    @cached_property
    def store(self) -> PartitionStore:
        """The store of all partitions."""
        return self._find_store()

    def writer(self, asset: str, partition: str | None = None) -> PartitionWriter:
        """A writer for a step that makes several assets in one stream and cannot hand them over one by one.

        An asset without partitions is stored like one partition, in the asset's own folder.
        """
        folder = self.store.base / asset
        return self.store.writer(folder / partition if partition else folder, self._assets[asset])

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """See IOManager."""
        with safe_step(context.step_context.instance, context.step_context.run_id):
            self._base_path = self.store.base
            super().handle_output(context, obj)

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """See IOManager."""
        with safe_step(context.step_context.instance, context.step_context.run_id):
            self._base_path = self.store.base
            return super().load_input(context)

    def make_directory(self, path: UPath) -> None:
        """See UPathIOManager; the writer makes its folders itself, for the owner only."""

    def dump_to_path(self, context: dg.OutputContext, obj: Frames, path: UPath) -> None:
        """Store the stream, part by part."""
        with self.store.writer(path, self._assets[context.asset_key.path[-1]]) as writer:
            for frame in obj:
                writer.write(frame)
            writer.commit(obj.summary)
        if context.has_asset_partitions:
            context.add_output_metadata(stored_metadata(Quarter.parse(context.partition_key), writer.rows, obj.summary))
        else:
            context.add_output_metadata({"dagster/row_count": writer.rows})

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Frames:
        """Open the stored stream; its rows are read when somebody iterates."""
        name = context.asset_key.path[-1]
        try:
            return self.store.open(path, self._assets[name])
        except FileNotFoundError:
            when = " for this quarter" if context.has_asset_partitions else " yet"
            raise DataError(f"{name} is not stored{when}; materialize it first") from None
