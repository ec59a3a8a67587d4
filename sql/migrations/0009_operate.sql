-- pghub 9: what operators need: a switch that silences watches, a view of the health of it all, and errors of
-- pghub.notify that can be understood.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
  key_type    pg_catalog.text;
  old_one     pg_catalog.regprocedure;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(9) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 9';

    -- Triggers of version 4 stay until pghub.watch is called for their tables. Until then they must not announce as a key what is
    -- an integer no more, nor fail for what a session has put into pghub.seq.
    FOREACH old_one IN ARRAY ARRAY['pghub.announce_row()', 'pghub.announce_statement()']::regprocedure[] LOOP
      EXECUTE replace(replace(pg_get_functiondef(old_one),
        $$coalesce(nullif(current_setting('pghub.seq', true), ''), '0')::bigint$$,
        $$coalesce(substring(current_setting('pghub.seq', true) FROM '^[0-9]{1,17}$'), '0')::bigint$$),
        $$IF col = ANY (int_pk) THEN$$,
        $$IF col = ANY (int_pk) AND jsonb_typeof(this -> col) = 'number' AND this ->> col ~ '^-?[0-9]{1,19}$' THEN$$);
    END LOOP;

    -- A value may be json, or text that is JSON. (A literal of unknown type becomes text where a function takes text.)
    FOREACH key_type IN ARRAY '{bigint[],bigint,text}'::text[] LOOP
      EXECUTE format('CREATE FUNCTION pghub.notify(topic text, key %s, value json) RETURNS void
        LANGUAGE sql SET search_path = pg_catalog, pg_temp AS ''SELECT pghub.notify(topic, key, value::jsonb)''', key_type);
      EXECUTE format('COMMENT ON FUNCTION pghub.notify(text, %s, json) IS ''Sends an event whose value is json.''', key_type);
      EXECUTE format('CREATE FUNCTION pghub.notify(topic text, key %s, value text) RETURNS void
        LANGUAGE sql SET search_path = pg_catalog, pg_temp AS ''SELECT pghub.notify(topic, key, value::jsonb)''', key_type);
      EXECUTE format('COMMENT ON FUNCTION pghub.notify(text, %s, text) IS ''Sends an event whose value is the text of JSON.''', key_type);
    END LOOP;
    CREATE OR REPLACE FUNCTION pghub.notify(topic text, key text, value jsonb DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      integers bigint[];
    BEGIN
      BEGIN
        integers := CASE WHEN btrim(key) ~ '^[-+]?[0-9]+$' THEN ARRAY[btrim(key)::bigint] ELSE key::bigint[] END;
      EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'pghub.notify: key % is neither an integer, nor an array of integers such as {1,2}', quote_literal(left(key, 100))
          USING ERRCODE = 'invalid_parameter_value';
      END;
      PERFORM pghub.notify(topic, integers, value);
    END $$;

    -- Makes the functions of the watches of a topic or table anew, as pghub.mutes now says, and tells their topics.
    -- Those of version 4 share three functions, which get a list of whom to leave out.
    CREATE FUNCTION pghub.apply_mutes(topic text, relation text, op text, announce boolean) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      w        record;
      old_one  regprocedure;
      silenced text;
      n        int := 0;
    BEGIN
      FOR w IN
        SELECT DISTINCT v.topic, v.definition::jsonb AS definition, v.function::text LIKE 'pghub.announce\_%' AS of_version_4
        FROM pghub.watches v
        WHERE v.definition LIKE '{%' AND (apply_mutes.topic IS NULL OR v.topic = apply_mutes.topic) AND (apply_mutes.relation IS NULL
          OR format('%I.%I', v.definition::jsonb ->> 'schema', v.definition::jsonb ->> 'table') = apply_mutes.relation)
      LOOP
        IF NOT w.of_version_4 THEN
          PERFORM pghub.compile(w.definition);
        END IF;
        IF announce THEN
          PERFORM pg_notify(w.topic, format('e:{"op":"%s","schema":%s,"table":%s}', op, to_json(w.definition ->> 'schema'), to_json(w.definition ->> 'table')));
        END IF;
        n := n + 1;
      END LOOP;
      SELECT coalesce(string_agg(DISTINCT quote_literal(v.definition), ', '), 'NULL') INTO silenced
      FROM pghub.watches v
      WHERE v.function::text LIKE 'pghub.announce\_%' AND v.definition LIKE '{%' AND pghub.is_muted(v.definition::jsonb);
      FOREACH old_one IN ARRAY ARRAY['pghub.announce_row()', 'pghub.announce_statement()', 'pghub.announce_change()']::regprocedure[] LOOP
        EXECUTE regexp_replace(regexp_replace(pg_get_functiondef(old_one), E'\nBEGIN\n  IF TG_ARGV\\[0\\] IN \\([^\n]*\\) THEN RETURN NULL; END IF;\n', E'\nBEGIN\n'),
          E'\n *BEGIN\n', replace(format(E'\nBEGIN\n  IF TG_ARGV[0] IN (%s) THEN RETURN NULL; END IF;\n', silenced), '\', '\\'));
      END LOOP;
      RETURN n;
    END $$;
    COMMENT ON FUNCTION pghub.apply_mutes IS 'Part of pghub.mute and pghub.unmute.';

    -- No lock on any table: functions are made anew, and are in effect for statements that begin after the commit.
    -- What is announced is left out if the queue is nearly full, since the commit would fail then.
    CREATE FUNCTION pghub.mute(topic text DEFAULT NULL, relation regclass DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      tab text := (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
    BEGIN
      IF NOT EXISTS (SELECT FROM pghub.mutes m WHERE m.topic IS NOT DISTINCT FROM mute.topic AND m.relation IS NOT DISTINCT FROM tab) THEN
        INSERT INTO pghub.mutes (topic, relation) VALUES (mute.topic, tab);
      END IF;
      RETURN pghub.apply_mutes(topic, tab, 'mute', pg_notification_queue_usage() < 0.5);
    END $$;
    COMMENT ON FUNCTION pghub.mute IS 'Silences the watches of a topic, of a table, or all, until pghub.unmute; says how many.';

    CREATE FUNCTION pghub.unmute(topic text DEFAULT NULL, relation regclass DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      tab text := (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
    BEGIN
      DELETE FROM pghub.mutes m
      WHERE (unmute.topic IS NULL AND tab IS NULL) OR (m.topic IS NOT DISTINCT FROM unmute.topic AND m.relation IS NOT DISTINCT FROM tab);
      RETURN pghub.apply_mutes(topic, tab, 'unmute', true);
    END $$;
    COMMENT ON FUNCTION pghub.unmute IS 'Ends what pghub.mute began, with the same arguments; without any, all of it.';
    REVOKE ALL ON FUNCTION pghub.mute(text, regclass), pghub.unmute(text, regclass), pghub.apply_mutes(text, text, text, boolean) FROM PUBLIC;

    -- One row, for a monitor. Who waits and who holds what is in docs/dba.md.
    CREATE VIEW pghub.health AS
      SELECT pghub.version() AS version,
             pg_notification_queue_usage() AS queue_usage,                       -- of 8 GB, or max_notify_queue_pages; 1 is full
             (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pghub%' AND datname = current_database()) AS hubs,
             (SELECT count(*) FROM pg_locks l WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.objid = 0 AND NOT l.granted) AS waiting_to_notify,
             (SELECT max(clock_timestamp() - a.query_start) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
              WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.objid = 0 AND NOT l.granted) AS longest_wait,
             (SELECT max(clock_timestamp() - xact_start) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()) AS oldest_transaction,
             count(w.relation) AS watches,
             count(w.relation) FILTER (WHERE NOT w.enabled) AS disabled,
             count(w.relation) FILTER (WHERE w.muted) AS muted,
             count(w.relation) FILTER (WHERE w.warning IS NOT NULL) AS warnings
      FROM pghub.watches w;
    COMMENT ON VIEW pghub.health IS 'How the notifications of this database are: one row, for a monitor.';
    GRANT SELECT ON pghub.health TO PUBLIC;

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
