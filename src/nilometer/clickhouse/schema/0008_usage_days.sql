-- Every statement here may run again after a crash between two of them: CREATE … IF NOT EXISTS.

-- What the calls of a day add up to: nothing that is not in `calls`, and may be emptied at any time. A
-- row is one kind of sums of one day, made by one statement: its cells stand side by side in arrays of
-- one length. `mark` says of which rows of `calls` it was made; a reader takes it only while they are
-- the same. Cells of kind `days` are by service, model, operation, environment and status; of `hours`,
-- by the hour too; of `user`, `job` and so on by that (`value`), service and status.
CREATE TABLE IF NOT EXISTS usage_days
(
    project_id Int64,
    kind LowCardinality(String),
    day Date32,
    build UUID COMMENT 'of this row alone',
    built_at DateTime64(6, 'UTC'),
    mark String,
    whole Bool COMMENT 'false: too many cells, and none is kept',
    cells UInt32 COMMENT 'how many',

    hour Array(LowCardinality(String)),
    service Array(LowCardinality(String)),
    model Array(LowCardinality(String)),
    operation Array(LowCardinality(String)),
    environment Array(LowCardinality(String)),
    status Array(LowCardinality(String)),
    value Array(String),

    calls Array(UInt64),
    api_calls Array(UInt128),
    errors Array(UInt64),
    unpriced Array(UInt64),
    priced Array(UInt64),
    input_tokens Array(UInt128),
    output_tokens Array(UInt128),
    cost Array(Decimal(76, 18)) COMMENT 'USD',
    latencies Array(Array(UInt64)) COMMENT 'buckets, by the least microseconds in each',
    latency_counts Array(Array(UInt64))
)
ENGINE = ${replacing}(built_at)
PARTITION BY toYYYYMM(day)
ORDER BY (project_id, kind, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480,
    min_bytes_for_wide_part = 134217728, index_granularity = 4;
