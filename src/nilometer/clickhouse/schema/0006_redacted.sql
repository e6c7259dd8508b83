-- What was redacted in an event before it was kept: how often each rule of its project was applied, and
-- never what it matched. Only added, with a default, so the release before this one goes on writing.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS redacted String DEFAULT '{}' COMMENT 'JSON object: counts by redaction rule';
