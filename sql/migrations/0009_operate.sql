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

    -- How pghub.mutes and calls of mute and unmute write a table.
    CREATE FUNCTION pghub.table_name(relation regclass) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
    $$;
    COMMENT ON FUNCTION pghub.table_name IS 'The name of a table with its schema, as SQL writes it.';

    -- Makes the functions of the watches of a topic or table anew, as pghub.mutes now says. Those of version 4 share three functions,
    -- which get a list of whom to leave out. No lock on any table: what is new is in effect for statements that begin after the commit.
    CREATE FUNCTION pghub.apply_mutes(topic text, relation text) RETURNS integer
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

    -- What it announces is left out if the queue is nearly full, since the commit would fail then.
    CREATE FUNCTION pghub.mute(topic text DEFAULT NULL, relation regclass DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      tab text := pghub.table_name(relation);
      n   int;
    BEGIN
      -- One that was ended, and not yet announced, goes on.
      UPDATE pghub.mutes m SET ended = NULL WHERE m.topic IS NOT DISTINCT FROM mute.topic AND m.relation IS NOT DISTINCT FROM tab;
      IF NOT FOUND THEN
        INSERT INTO pghub.mutes (topic, relation) VALUES (mute.topic, tab);
      END IF;
      n := pghub.apply_mutes(topic, tab);
      IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(w.topic, format('e:{"op":"mute","schema":%s,"table":%s}', to_json(w.definition::jsonb ->> 'schema'), to_json(w.definition::jsonb ->> 'table')))
        FROM pghub.watches w
        WHERE w.definition LIKE '{%' AND (mute.topic IS NULL OR w.topic = mute.topic)
          AND (tab IS NULL OR format('%I.%I', w.definition::jsonb ->> 'schema', w.definition::jsonb ->> 'table') = tab);
      END IF;
      RETURN n;
    END $$;
    COMMENT ON FUNCTION pghub.mute IS 'Silences the watches of a topic, of a table, or all, until pghub.unmute; says how many.';

    -- The end of a mute has three steps. First the watches speak again. Then who was writing to their tables at that moment has to
    -- end: he may have written silently, and may commit only now. Then the gap is announced: whoever reads the tables behind that
    -- reads all that was not announced. Between the steps pghub.mutes has what was ended, so that after a failure a second call goes on.
    CREATE FUNCTION pghub.end_mutes(topic text, relation regclass) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      tab text := pghub.table_name(relation);
    BEGIN
      UPDATE pghub.mutes m SET ended = now()
      WHERE m.ended IS NULL AND (end_mutes.topic IS NULL AND tab IS NULL OR m.topic IS NOT DISTINCT FROM end_mutes.topic AND m.relation IS NOT DISTINCT FROM tab);
      RETURN pghub.apply_mutes(topic, tab);
    END $$;
    COMMENT ON FUNCTION pghub.end_mutes IS 'Part of pghub.unmute: the watches speak again.';

    CREATE FUNCTION pghub.unannounced(topic text, relation regclass) RETURNS TABLE (watched regclass, topic_of text, definition jsonb, since timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT w.relation, w.topic, w.definition::jsonb, min(m.since)
      FROM pghub.watches w
      JOIN pghub.mutes m ON m.ended IS NOT NULL AND (m.topic IS NULL OR m.topic = w.topic)
        AND (m.relation IS NULL OR m.relation = format('%I.%I', w.definition::jsonb ->> 'schema', w.definition::jsonb ->> 'table'))
      WHERE w.definition LIKE '{%' AND NOT w.muted
        AND ($1 IS NULL AND $2 IS NULL OR m.topic IS NOT DISTINCT FROM $1 AND m.relation IS NOT DISTINCT FROM pghub.table_name($2))
      GROUP BY w.relation, w.topic, w.definition
    $$;
    COMMENT ON FUNCTION pghub.unannounced IS 'Part of pghub.unmute: watches that speak again, and whose gap is not announced.';

    -- The transactions that write to the tables of these watches, and of those that are given the ones that are still there. Also
    -- prepared ones, whose old names nobody knows.
    CREATE FUNCTION pghub.writers(topic text, relation regclass, of_these text[] DEFAULT NULL) RETURNS text[]
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
      SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}')
      FROM pg_locks l
      WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        AND l.relation IN (SELECT u.watched FROM pghub.unannounced($1, $2) u
                           UNION SELECT t.relid FROM pghub.unannounced($1, $2) u, pg_partition_tree(u.watched) t)
        AND ($3 IS NULL OR l.virtualtransaction = ANY ($3) OR l.pid IS NULL)
    $$;
    COMMENT ON FUNCTION pghub.writers IS 'Part of pghub.unmute: transactions that may have written silently.';

    CREATE FUNCTION pghub.announce_gap(topic text, relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      tab text := pghub.table_name(relation);
    BEGIN
      PERFORM pg_notify(u.topic_of, format('e:{"pghub":"gap","op":"unmute","schema":%s,"table":%s,"since":"%s","until":"%s"}',
        to_json(u.definition ->> 'schema'), to_json(u.definition ->> 'table'),
        to_char(u.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
      FROM pghub.unannounced(topic, relation) u;
      DELETE FROM pghub.mutes m
      WHERE m.ended IS NOT NULL AND (announce_gap.topic IS NULL AND tab IS NULL OR m.topic IS NOT DISTINCT FROM announce_gap.topic AND m.relation IS NOT DISTINCT FROM tab);
    END $$;
    COMMENT ON FUNCTION pghub.announce_gap IS 'Part of pghub.unmute: what was not announced is announced as a gap.';

    -- No SET here: who sets something may not commit. So names are qualified, and there is no operator.
    CREATE PROCEDURE pghub.unmute(topic text DEFAULT NULL, relation regclass DEFAULT NULL, INOUT watches integer DEFAULT 0)
    LANGUAGE plpgsql AS $$
    DECLARE
      writers pg_catalog.text[];
    BEGIN
      watches := pghub.end_mutes(topic, relation);
      COMMIT;
      writers := pghub.writers(topic, relation);
      WHILE pg_catalog.cardinality(pghub.writers(topic, relation, writers)) OPERATOR(pg_catalog.>) 0 LOOP
        COMMIT;
        PERFORM pg_catalog.pg_sleep(0.05);
      END LOOP;
      PERFORM pghub.announce_gap(topic, relation);
    END $$;
    COMMENT ON PROCEDURE pghub.unmute IS 'Ends what pghub.mute began, with the same arguments; without any, all of it. Not in a transaction.';
    REVOKE ALL ON FUNCTION pghub.mute(text, regclass), pghub.apply_mutes(text, text), pghub.end_mutes(text, regclass), pghub.announce_gap(text, regclass) FROM PUBLIC;
    REVOKE ALL ON PROCEDURE pghub.unmute(text, regclass, integer) FROM PUBLIC;

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
