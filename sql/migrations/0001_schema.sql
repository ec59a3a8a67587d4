-- pghub 1: the schema, and the table that says which version is installed.
--
-- Run it as it is with psql -f; so runs Go's sql.Install. Every file of this folder is one statement: it is in
-- effect as a whole or not at all, waits for others who install at the same moment, and does nothing where it
-- has been applied already. Needs CREATE on the database.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM pg_advisory_xact_lock(482771236194);  -- 'pghub' in ASCII; sql.Install takes the same
  -- (Not to_regclass: it may still believe what it looked up before the lock was ours.)
  IF NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'pghub' AND tablename = 'migrations') THEN

    CREATE SCHEMA IF NOT EXISTS pghub;
    COMMENT ON SCHEMA pghub IS 'Events over NOTIFY: https://github.com/pghub/pghub';

    CREATE TABLE pghub.migrations (
      version    integer     PRIMARY KEY,
      applied_at timestamptz NOT NULL DEFAULT now(),
      applied_by text        NOT NULL DEFAULT current_user
    );
    COMMENT ON TABLE pghub.migrations IS 'The versions of schema pghub that were applied here; the highest counts.';

    -- True if migration n is the next one to apply, false if it was applied before. Serialises installers.
    CREATE FUNCTION pghub.migrating(n integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      installed integer;
    BEGIN
      PERFORM pg_advisory_xact_lock(482771236194);
      SELECT coalesce(max(version), 0) INTO installed FROM pghub.migrations;
      IF installed >= n THEN
        RETURN false;
      ELSIF installed < n - 1 THEN
        RAISE EXCEPTION 'pghub: migration % needs version %, and version % is installed', n, n - 1, installed
          USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run the files in the order of their names.';
      END IF;
      INSERT INTO pghub.migrations (version) VALUES (n);
      RETURN true;
    END $$;

    -- Nothing in this schema runs with other rights than its caller's (no SECURITY DEFINER), so it gives nobody
    -- a power he does not have: everybody may use it. Only the owner may migrate.
    GRANT USAGE ON SCHEMA pghub TO PUBLIC;
    GRANT SELECT ON pghub.migrations TO PUBLIC;
    REVOKE ALL ON FUNCTION pghub.migrating(integer) FROM PUBLIC;

    PERFORM pghub.migrating(1);
  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
