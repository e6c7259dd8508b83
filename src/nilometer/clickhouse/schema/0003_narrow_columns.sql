-- Columns that queries read instead of `properties`, most of which are prompts and answers. Both are
-- made by the engine from `properties` of the same row; in parts written before they were there, when
-- they are read, and by the next merge for good.
--
-- * other_properties: the properties that have no column of their own (neither a typed one, nor one
--   of `ai_events`), as JSON text: a path into it gives what the same path gives in `properties`.
--   A tenth of its size, so that any property can be asked of a million events.
-- * property_names: the names of all properties, in their order.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS other_properties String MATERIALIZED concat('{', arrayStringConcat(
        arrayMap(pair -> concat(toJSONString(pair.1), ':', pair.2), arrayFilter(pair -> pair.1 NOT IN (
            '$$ai_trace_id', '$$ai_session_id', '$$ai_parent_id', '$$ai_span_id',
            '$$ai_generation_id', '$$ai_experiment_id', '$$ai_model', '$$ai_provider',
            '$$ai_framework', '$$ai_span_type', '$$ai_span_name', '$$ai_trace_name',
            '$$ai_prompt_name', '$$ai_total_tokens', '$$ai_input_tokens', '$$ai_output_tokens',
            '$$ai_text_input_tokens', '$$ai_text_output_tokens', '$$ai_image_input_tokens',
            '$$ai_image_output_tokens', '$$ai_audio_input_tokens', '$$ai_audio_output_tokens',
            '$$ai_video_input_tokens', '$$ai_video_output_tokens', '$$ai_reasoning_tokens',
            '$$ai_cache_read_input_tokens', '$$ai_cache_creation_input_tokens',
            '$$ai_web_search_count', '$$ai_input_cost_usd', '$$ai_output_cost_usd',
            '$$ai_total_cost_usd', '$$ai_request_cost_usd', '$$ai_web_search_cost_usd',
            '$$ai_audio_cost_usd', '$$ai_image_cost_usd', '$$ai_video_cost_usd', '$$ai_latency',
            '$$ai_time_to_first_token', '$$ai_is_error', '$$ai_error', '$$ai_error_type',
            '$$ai_error_normalized', '$$ai_http_status', '$$ai_stop_reason', '$$ai_base_url',
            '$$ai_input', '$$ai_output', '$$ai_output_choices', '$$ai_tools',
            '$$ai_input_state', '$$ai_output_state', '$$ai_instructions'
        ), JSONExtractKeysAndValuesRaw(properties))), ','), '}') CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS property_names Array(LowCardinality(String))
        MATERIALIZED JSONExtractKeys(properties);

-- Merged parts become wide from 8 MiB on (before compression; about 20,000 calls) and not from 128:
-- in a compact part of 256 rows a granule, one column costs as much to read as all of them. At
-- 600,000 calls a sum by model went from 91 ms to 15, its FINAL from 158 to 51. What a batch inserts
-- stays below, one file.
ALTER TABLE calls MODIFY SETTING min_bytes_for_wide_part = 8388608;
