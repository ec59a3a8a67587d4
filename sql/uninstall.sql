-- Removes pghub from a database: its triggers from all tables, its functions, its schema. Run it with psql -f, or by
-- Go's sql.Uninstall. Needs the ownership of schema pghub; does nothing where there is none.
-- What users made that depends on pghub (a view on pghub.watches, say) makes it fail, as DROP does.
DO $uninstall$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM pg_advisory_xact_lock(482771236194);
  -- Only triggers can depend on trigger functions, so that CASCADE takes the watches and nothing else.
  DROP FUNCTION IF EXISTS pghub.announce_row(), pghub.announce_statement(), pghub.announce_change() CASCADE;
  DROP FUNCTION IF EXISTS
    pghub.watch(regclass, text, text, text[], text[], text[], text[], boolean, boolean, text, text, text),
    pghub.unwatch(regclass, text),
    pghub.check_columns(regclass, text, text[]),
    pghub.primary_key(regclass),
    pghub.notify(text, bigint[], jsonb),
    pghub.notify(text, bigint, jsonb),
    pghub.notify(text, text, jsonb),
    pghub.encode(bigint[], jsonb),
    pghub.migrating(integer);
  DROP VIEW IF EXISTS pghub.watches;
  DROP TABLE IF EXISTS pghub.migrations;
  DROP SCHEMA IF EXISTS pghub;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $uninstall$;
