-- Every statement here may run again after a crash between two of them: ADD COLUMN IF NOT EXISTS.
-- Columns are only added, with defaults, so the release before this one goes on writing.

-- Whom and what a call was for. Empty: none is known. A row of the release before has what its other
-- columns say.
ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS operation_name LowCardinality(String) DEFAULT if(operation = 'embedding', 'embedding', 'completion') COMMENT 'completion, embedding, place_details and so on, as the source names it',
    ADD COLUMN IF NOT EXISTS api_calls UInt64 DEFAULT 1 COMMENT 'requests that the row stands for',
    ADD COLUMN IF NOT EXISTS user_id String DEFAULT distinct_id,
    ADD COLUMN IF NOT EXISTS job_id String DEFAULT '',
    ADD COLUMN IF NOT EXISTS batch_id String DEFAULT '',
    ADD COLUMN IF NOT EXISTS environment LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS developer LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS repository LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS tags Array(LowCardinality(String)) DEFAULT [];
