"""Every kind of pass, by its name."""

from __future__ import annotations

from collections.abc import Mapping

from nilometer.blobs.store import BlobStore
from nilometer.clickhouse.store import Store
from nilometer.pipeline.call_cost import OverridesOf
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.rewriting.jobs import Kind
from nilometer.pipeline.rewriting.remap import Remap
from nilometer.pipeline.rewriting.reprice import Reprice
from nilometer.pipeline.rewriting.worker import Pass


def passes(
    store: Store, overrides_of: OverridesOf, blobs: BlobStore, packer: Packer
) -> Mapping[Kind, Pass]:
    """The passes over a store; `overrides_of` gives the price overrides of a project, and `packer`
    keeps large values in `blobs`."""
    return {
        Kind.REPRICE: Reprice(store, overrides_of),
        Kind.REMAP: Remap(store, overrides_of, blobs, packer),
    }
