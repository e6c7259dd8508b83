-- The tier that a call was made in, as its source names it (batch, flex, priority …): with it a row of
-- `calls` has everything that its price follows from, so that it can be priced again from itself.
ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS service_tier LowCardinality(String) DEFAULT '' COMMENT 'as the source names it, empty for none';
