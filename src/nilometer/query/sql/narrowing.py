"""Money in files: 256-bit decimals, which few readers of Arrow and Parquet know, in 128 bits."""

from __future__ import annotations

from dataclasses import replace

import orjson

from nilometer.clickhouse.sandbox import Sandbox
from nilometer.query.sql import quoting
from nilometer.query.sql.selects import Compiled

_WIDE, _NARROW = "Decimal(76, 18)", "Decimal(38, 18)"


def narrowed(sandbox: Sandbox, query: Compiled) -> Compiled:
    """The query with its columns of money, and of arrays and the like of it, in the type that money
    is stored in. An amount that does not fit fails it. Raises EngineFault.

    Only its types are asked for first: nothing is read.
    """
    described = sandbox.read(
        f"DESCRIBE TABLE ({query.sql})", "JSONCompactEachRow", query.parameters
    )
    types: dict[str, str] = dict(orjson.loads(line)[:2] for line in described.splitlines())
    casts = [
        f"CAST({column}, {quoting.string(kind.replace(_WIDE, _NARROW))}) AS {column}"
        for column, kind in ((quoting.identifier(name), types[name]) for name in types)
        if _WIDE in kind
    ]
    if not casts:
        return query
    sql = f"SELECT * REPLACE ({', '.join(casts)}) FROM ({query.sql})"  # noqa: S608  (written anew)
    return replace(query, sql=sql)
