-- pghub 0: what has to be so before any other file of this folder may run. It changes nothing but the record of versions.
--
-- Whoever may create schemas in this database could have made a schema pghub of his own, and wait for a superuser to
-- call what is in it. So the schema and all in it must be owned by whom the installer trusts anyway: by himself, by a role
-- that he was made a member of, by a superuser, or by the owner of the database.
--
-- A dump of the schema alone (pg_dump -s) brings everything but the rows of pghub.migrations. They are written anew.
DO $check$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
  stranger    pg_catalog.text;
  version     pg_catalog.int4;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  WITH RECURSIVE mine(id) AS (
    SELECT oid FROM pg_roles WHERE rolname = current_user
    UNION SELECT m.roleid FROM pg_auth_members m JOIN mine ON m.member = mine.id
  ), owners(id) AS (
    SELECT nspowner FROM pg_namespace WHERE nspname = 'pghub'
    UNION SELECT p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pghub'
    UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'pghub'
  )
  SELECT string_agg(coalesce(r.rolname, o.id::text), ', ') INTO stranger
  FROM owners o LEFT JOIN pg_roles r ON r.oid = o.id
  WHERE o.id NOT IN (SELECT id FROM mine) AND r.rolsuper IS NOT TRUE
    AND o.id <> (SELECT datdba FROM pg_database WHERE datname = current_database());
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'pghub: schema pghub, or something in it, is owned by %, who is neither %, nor a role of his, nor a superuser, nor the owner of the database',
        stranger, current_user
      USING ERRCODE = 'insufficient_privilege',
        HINT = 'If you did not make it, look at what is in it, and drop it. If you did, give it to the owner of the database.';
  END IF;

  IF EXISTS (SELECT FROM pg_tables WHERE schemaname = 'pghub' AND tablename = 'migrations') THEN
    PERFORM FROM pghub.migrations;
    IF FOUND THEN
      PERFORM pg_catalog.set_config('search_path', caller_path, true);
      RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(482771236194);
    IF EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE n.nspname = 'pghub' AND p.proname = 'version' AND p.pronargs = 0)
    THEN
      version := pghub.version();
    ELSE  -- before version 5; each brought something that is not in the one before
      SELECT coalesce(max(v.n), 0) INTO version
      FROM (VALUES (1, 'migrating'), (2, 'encode'), (3, 'announce_change'), (4, 'unwatch')) AS v(n, name)
      JOIN pg_proc p ON p.proname = v.name
      JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pghub';
    END IF;
    INSERT INTO pghub.migrations (version)
    SELECT n FROM generate_series(1, version) AS n ON CONFLICT DO NOTHING;
  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $check$;
