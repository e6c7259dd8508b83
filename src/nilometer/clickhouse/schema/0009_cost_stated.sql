-- Whether the reported cost is one that the caller states for the call. Then a 0 is a cost, where a
-- source's 0 may be how it says that it knows no price. Only added, with a default, so the release
-- before this one goes on writing.
ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS cost_stated Bool DEFAULT false COMMENT 'the caller states reported_total_cost_usd';
