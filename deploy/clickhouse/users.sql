-- The users that Nilometer needs on a ClickHouse server. Replace the two passwords, then run it as a
-- user with access management, best before Nilometer's first start: neither a grant nor a policy needs
-- its table to be there (compose.yaml does it so).
-- On a cluster, add ON CLUSTER to every statement, or keep users in replicated access storage.
--
-- Never run by Nilometer's own tests, which have no server with users: they read it for its syntax,
-- and see that no table is forgotten.

-- Nilometer itself (NILOMETER_CLICKHOUSE_URL).
CREATE USER IF NOT EXISTS nilometer IDENTIFIED BY 'REPLACE-ME-1';
GRANT SELECT, INSERT, ALTER DELETE, ALTER UPDATE, OPTIMIZE ON nilometer.* TO nilometer;
GRANT SELECT ON system.* TO nilometer;
-- What migrations need. A process whose user lacks it can open a store that is up to date.
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, ALTER TABLE ON nilometer.* TO nilometer;
GRANT CREATE DATABASE ON nothing.* TO nilometer;
-- On a cluster only.
GRANT CLUSTER, REMOTE ON *.* TO nilometer;

-- SQL that users write (NILOMETER_CLICKHOUSE_READER_URL). It may read three tables, of one project at
-- a time. Give it no profile with `readonly`: each request sets it itself, with its limits, before
-- the query is read; a user who is read-only already could not be given limits.
CREATE USER IF NOT EXISTS nilometer_reader IDENTIFIED BY 'REPLACE-ME-2';
GRANT SELECT ON nilometer.events TO nilometer_reader;
GRANT SELECT ON nilometer.event_ids TO nilometer_reader;
GRANT SELECT ON nilometer.calls TO nilometer_reader;
GRANT SHOW DATABASES ON nothing.* TO nilometer_reader;

-- The project is a setting of the request. Without it a query fails. The server must know settings
-- that begin with SQL_, as its own config.xml has it: custom_settings_prefixes.
CREATE ROW POLICY IF NOT EXISTS nilometer_project
    ON nilometer.events, nilometer.event_ids, nilometer.calls
    USING project_id = toInt64(getSetting('SQL_nilometer_project')) TO nilometer_reader;
-- A table with a policy may hide everything from those it does not name.
CREATE ROW POLICY IF NOT EXISTS nilometer_all
    ON nilometer.events, nilometer.event_ids, nilometer.calls USING 1 TO nilometer;
