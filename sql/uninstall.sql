-- Removes pghub from a database: its triggers from all tables, its functions, its schema. Run it with psql -f, or by
-- Go's sql.Uninstall. Needs the ownership of schema pghub; does nothing where there is none.
-- What users made that depends on pghub (a view on pghub.watches, say) makes it fail, as DROP does.
DO $uninstall$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
  doomed      pg_catalog.regprocedure;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM pg_advisory_xact_lock(482771236194);
  -- Only triggers can depend on trigger functions, so that CASCADE takes the watches and nothing else.
  FOR doomed IN
    SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pghub' AND p.prorettype = 'trigger'::regtype AND (p.prosrc LIKE '-- {%' OR p.proname LIKE 'announce\_%')
  LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', doomed);
  END LOOP;
  DROP VIEW IF EXISTS pghub.health, pghub.watches, pghub.stream, pghub.stream_consumers, pghub.stream_parked;
  FOR doomed IN
    SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pghub' AND p.proname IN ('watch', 'plan', 'unwatch', 'mute', 'unmute', 'apply_mutes', 'end_mutes', 'unannounced', 'writers', 'announce_gap', 'table_name', 'is_muted', 'compile', 'sweep',
      'body', 'row_function', 'statement_function', 'change_function', 'function_name', 'is_plain', 'fitting', 'sending', 'setting', 'unsetting',
      'fixed_settings', 'template', 'check_columns', 'primary_key', 'notify', 'encode', 'version', 'migrating',
      'publish', 'capture', 'capture_all', 'refuse', 'ring', 'integers', 'tick', 'adopt', 'adopted', 'ended', 'tick_at', 'tick_before', 'rotate', 'configure', 'lead', 'resign', 'running', 'page', 'locate', 'newest', 'next_token',
      'attach', 'store', 'detach', 'holding', 'fenced', 'attempt', 'succeeded', 'park', 'unpark', 'seek', 'replay', 'forget', 'position', 'allow', 'notifying_body')
  LOOP
    EXECUTE format('DROP ROUTINE %s', doomed);
  END LOOP;
  DROP TABLE IF EXISTS pghub.attempts, pghub.parked, pghub.consumers, pghub.leases, pghub.stream_settings,
    pghub.runs_0, pghub.runs_1, pghub.runs_2, pghub.runs, pghub.ticks_0, pghub.ticks_1, pghub.ticks_2, pghub.ticks,
    pghub.log_0, pghub.log_1, pghub.log_2, pghub.log;
  DROP SEQUENCE IF EXISTS pghub.log_id, pghub.log_table;
  DROP TABLE IF EXISTS pghub.mutes, pghub.migrations;
  DROP SCHEMA IF EXISTS pghub;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $uninstall$;
