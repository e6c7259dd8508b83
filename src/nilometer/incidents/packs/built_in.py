"""The packs that ship with Nilometer. None is active by itself: a project imports one and activates
it, and can change it first."""

from __future__ import annotations

from functools import cache
from importlib import resources

from nilometer.errors import NotFound
from nilometer.incidents.packs import shipped
from nilometer.incidents.packs.documents import read_pack
from nilometer.incidents.packs.pack import Pack

_SUFFIX = ".yaml"


@cache
def names() -> tuple[str, ...]:
    """What they are called, in order."""
    files = (each.name for each in resources.files(shipped).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)))


def text_of(name: str) -> str:
    """The text of one. Raises NotFound."""
    if name not in names():
        known = ", ".join(names())
        raise NotFound(f"no pack {name!r} ships; there are {known}", attr="name")
    return resources.files(shipped).joinpath(name + _SUFFIX).read_text("utf-8")


@cache
def pack_of(name: str) -> Pack:
    """The pack itself. Raises NotFound."""
    return read_pack(text_of(name).encode())[0]
