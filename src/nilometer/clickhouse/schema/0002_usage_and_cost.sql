-- Every statement here may run again after a crash between two of them: ADD COLUMN IF NOT EXISTS.
-- Columns are only added, with defaults, so the release before this one goes on writing.

-- What an event was converted from, where it was sent in another form than AI properties
-- (OpenTelemetry spans, LiteLLM payloads): enough to convert it again.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS source String DEFAULT '' CODEC(ZSTD(3)) COMMENT 'JSON text, empty when the properties are what was sent',
    ADD COLUMN IF NOT EXISTS converter LowCardinality(String) DEFAULT '' COMMENT 'what made the properties of source: name and version';

-- The token vector (disjoint buckets; the totals include all of them), null where the source says
-- nothing usable, and the reason then; the cost computed from it, null where a price is not known,
-- and the reason then. Costs are USD, exact. What the source reported stands in reported_….
ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS vector_input Nullable(UInt64) COMMENT 'all input tokens, cached or not',
    ADD COLUMN IF NOT EXISTS vector_output Nullable(UInt64) COMMENT 'all output tokens, reasoning included',
    ADD COLUMN IF NOT EXISTS vector_total Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_uncached_input Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_cache_read Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_cache_write_5m Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_cache_write_1h Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_audio_input Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_audio_cache_read Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_image_input Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_video_input Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_text_output Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_reasoning Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_audio_output Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS vector_image_output Nullable(UInt64),
    ADD COLUMN IF NOT EXISTS usage_convention LowCardinality(String) DEFAULT '' COMMENT 'how the source counts',
    ADD COLUMN IF NOT EXISTS usage_reason LowCardinality(String) DEFAULT '' COMMENT 'why there is no vector',
    ADD COLUMN IF NOT EXISTS usage_units String DEFAULT '{}' COMMENT 'JSON object: what is counted besides tokens, decimal texts',

    ADD COLUMN IF NOT EXISTS cost_input Nullable(Decimal(38, 18)) COMMENT 'computed, USD',
    ADD COLUMN IF NOT EXISTS cost_output Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_total Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_uncached_input Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_cache_read Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_cache_write_5m Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_cache_write_1h Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_audio_input Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_audio_cache_read Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_image_input Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_video_input Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_text_output Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_reasoning Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_audio_output Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_image_output Nullable(Decimal(38, 18)),
    ADD COLUMN IF NOT EXISTS cost_units Nullable(Decimal(38, 18)) COMMENT 'of what is not tokens: requests, searches, images',
    ADD COLUMN IF NOT EXISTS price_source LowCardinality(String) DEFAULT '' COMMENT 'genai-prices or override:<id>',
    ADD COLUMN IF NOT EXISTS price_version LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS price_as_of LowCardinality(String) DEFAULT '' COMMENT 'the date of the price rule, ISO 8601',
    ADD COLUMN IF NOT EXISTS price_reason LowCardinality(String) DEFAULT '' COMMENT 'why there is no cost',
    ADD COLUMN IF NOT EXISTS priced_model LowCardinality(String) DEFAULT '' COMMENT 'the model whose price was used',
    ADD COLUMN IF NOT EXISTS priced_provider LowCardinality(String) DEFAULT '';
