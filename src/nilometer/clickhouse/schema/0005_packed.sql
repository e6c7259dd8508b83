-- Every statement here may run again after a crash between two of them: ADD COLUMN IF NOT EXISTS.
--
-- Large values that were sent inside an event are kept in blob storage, in packs of many events'. In
-- `properties` and `source` a URL stands in place of each.
--
-- * packed: which values those are, and where: readers put them back.
-- * packs: the names of the objects, without their folder, which follows from the row. Few and often
--   repeated, so that asking whether any event of a day names an object is cheap.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS packed String DEFAULT '[]' CODEC(ZSTD(3)) COMMENT 'JSON list of the values in packs, [] for none',
    ADD COLUMN IF NOT EXISTS packs Array(LowCardinality(String)) MATERIALIZED arrayDistinct(arrayMap(
        value -> splitByChar('/', cutQueryString(value.1))[-1], JSONExtract(packed, 'Array(Tuple(url String))')));
