-- Every statement here may run again after a crash between two of them: CREATE … IF NOT EXISTS.
--
-- Common to the three tables:
-- * PARTITION BY the month of acceptance, not of the client's clock: a client with a wrong clock
--   must not open a partition per event. A part also keeps the least and greatest accepted_at, so
--   a look-up by acceptance time skips whole parts.
-- * fsync_after_insert and fsync_part_directory: an insert is on disk when it returns.
-- * min_…_to_fsync_after_merge = 1: every merged part is on disk before its sources go (both are 0,
--   never, by default, and so is chDB's old_parts_lifetime: they go at once). old_parts_lifetime
--   keeps the sources 8 minutes more, for a disk that says "synced" too early.
-- * min_bytes_for_wide_part: an inserted part is one file, not one per column, so that its fsync
--   is one or two and not a hundred; merges of 128 MiB and more still become wide.

-- One row per event. `properties` is the whole truth as the client sent it (blobs as URLs); every
-- typed column is derived from it and from the record, so a redelivery writes an equal row.
--
-- ORDER BY time within a project, because lists, traces and charts read a range of time; an event
-- by its uuid goes through event_ids, which knows its timestamp. An event's uuid is written once
-- (event_ids and this table are asked first); a redelivered row has the same key and FINAL keeps
-- one. `first_wins` falls with the time of acceptance, so that between two rows of one key the
-- earlier accepted one is the greater version. 1,024 rows a granule: one event's detail, and one
-- trace's rows behind the bloom filter, read that many and not 8,192 (properties are kilobytes).
-- Events of one time were mostly accepted at one time: by_acceptance leaves the look-up of
-- redelivered records few granules.
CREATE TABLE IF NOT EXISTS events
(
    project_id Int64,
    uuid UUID,
    event LowCardinality(String),
    distinct_id String,
    timestamp DateTime64(6, 'UTC'),
    accepted_at DateTime64(6, 'UTC'),
    expires_at DateTime64(6, 'UTC') COMMENT 'when the blobs of this event are deleted',
    ip String,
    properties String CODEC(ZSTD(3)),
    blobs String CODEC(ZSTD(3)) COMMENT 'JSON list of blob references, [] for none',

    trace_id Nullable(String),
    session_id Nullable(String),
    parent_id Nullable(String),
    span_id Nullable(String),
    span_type Nullable(String),
    generation_id Nullable(String),
    experiment_id Nullable(String),
    span_name Nullable(String),
    trace_name Nullable(String),
    prompt_name Nullable(String),
    model LowCardinality(Nullable(String)),
    provider LowCardinality(Nullable(String)),
    framework LowCardinality(Nullable(String)),

    total_tokens Nullable(Int64),
    input_tokens Nullable(Int64),
    output_tokens Nullable(Int64),
    text_input_tokens Nullable(Int64),
    text_output_tokens Nullable(Int64),
    image_input_tokens Nullable(Int64),
    image_output_tokens Nullable(Int64),
    audio_input_tokens Nullable(Int64),
    audio_output_tokens Nullable(Int64),
    video_input_tokens Nullable(Int64),
    video_output_tokens Nullable(Int64),
    reasoning_tokens Nullable(Int64),
    cache_read_input_tokens Nullable(Int64),
    cache_creation_input_tokens Nullable(Int64),
    web_search_count Nullable(Int64),

    input_cost_usd Nullable(Decimal(38, 18)) COMMENT 'costs here are as reported by the client',
    output_cost_usd Nullable(Decimal(38, 18)),
    total_cost_usd Nullable(Decimal(38, 18)),
    request_cost_usd Nullable(Decimal(38, 18)),
    web_search_cost_usd Nullable(Decimal(38, 18)),
    audio_cost_usd Nullable(Decimal(38, 18)),
    image_cost_usd Nullable(Decimal(38, 18)),
    video_cost_usd Nullable(Decimal(38, 18)),

    latency Nullable(Float64) COMMENT 'seconds',
    time_to_first_token Nullable(Float64) COMMENT 'seconds',
    is_error Bool,
    error Nullable(String) CODEC(ZSTD(3)),
    error_type LowCardinality(Nullable(String)),
    error_normalized Nullable(String) CODEC(ZSTD(3)),
    http_status Nullable(Int64),
    base_url LowCardinality(Nullable(String)),
    stop_reason LowCardinality(Nullable(String)),

    door LowCardinality(String),
    mapping_version UInt32,
    first_wins UInt64,

    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_distinct_id distinct_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_acceptance accepted_at TYPE minmax GRANULARITY 1
)
ENGINE = ${replacing}(first_wins)
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (project_id, timestamp, uuid)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480,
    min_bytes_for_wide_part = 134217728, index_granularity = 1024;

-- Which events are stored: narrow, so that every batch can ask it. Written last, after an event's
-- other rows, so a uuid found here had all of them when it was written. 256 rows a granule: a batch of 2,000 random
-- uuids against 3 million rows takes 12 ms (43 ms with 8,192).
CREATE TABLE IF NOT EXISTS event_ids
(
    project_id Int64,
    uuid UUID,
    timestamp DateTime64(6, 'UTC'),
    accepted_at DateTime64(6, 'UTC'),
    expires_at DateTime64(6, 'UTC'),
    first_wins UInt64
)
ENGINE = ${replacing}(first_wins)
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (project_id, uuid)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480,
    min_bytes_for_wide_part = 134217728, index_granularity = 256;

-- One row per event that describes a call to a provider. Several events may describe one call
-- (the SDK and the proxy): readers take, per (project_id, call_id), the row of the least
-- `source_rank`, then the earliest accepted. `revision` starts at 1; repricing writes a row with a
-- greater one here and nowhere else. 256 rows a granule, for the look-up of redelivered calls.
CREATE TABLE IF NOT EXISTS calls
(
    project_id Int64,
    call_id String,
    identity LowCardinality(String) COMMENT 'what call_id is: response, litellm, span or event',
    event_uuid UUID,
    source_rank UInt8 COMMENT 'less is better',
    revision UInt32,
    accepted_at DateTime64(6, 'UTC'),
    timestamp DateTime64(6, 'UTC'),
    trace_id Nullable(String),
    span_id Nullable(String),
    session_id Nullable(String),
    distinct_id String,
    model LowCardinality(Nullable(String)),
    provider LowCardinality(Nullable(String)),
    operation LowCardinality(String) COMMENT 'generation or embedding',
    is_error Bool,
    http_status Nullable(Int64),
    latency Nullable(Float64) COMMENT 'seconds',
    time_to_first_token Nullable(Float64) COMMENT 'seconds',

    total_tokens Nullable(Int64) COMMENT 'token counts here are as reported',
    input_tokens Nullable(Int64),
    output_tokens Nullable(Int64),
    text_input_tokens Nullable(Int64),
    text_output_tokens Nullable(Int64),
    image_input_tokens Nullable(Int64),
    image_output_tokens Nullable(Int64),
    audio_input_tokens Nullable(Int64),
    audio_output_tokens Nullable(Int64),
    video_input_tokens Nullable(Int64),
    video_output_tokens Nullable(Int64),
    reasoning_tokens Nullable(Int64),
    cache_read_input_tokens Nullable(Int64),
    cache_creation_input_tokens Nullable(Int64),
    web_search_count Nullable(Int64),

    reported_input_cost_usd Nullable(Decimal(38, 18)),
    reported_output_cost_usd Nullable(Decimal(38, 18)),
    reported_total_cost_usd Nullable(Decimal(38, 18)),
    reported_request_cost_usd Nullable(Decimal(38, 18)),
    reported_web_search_cost_usd Nullable(Decimal(38, 18)),
    reported_audio_cost_usd Nullable(Decimal(38, 18)),
    reported_image_cost_usd Nullable(Decimal(38, 18)),
    reported_video_cost_usd Nullable(Decimal(38, 18)),

    mapping_version UInt32
)
ENGINE = ${replacing}(revision)
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (project_id, call_id, event_uuid)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    min_compressed_bytes_to_fsync_after_merge = 1, old_parts_lifetime = 480,
    min_bytes_for_wide_part = 134217728, index_granularity = 256;
