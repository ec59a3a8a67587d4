-- pghub 11: writing to the stream.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
  key_type    pg_catalog.text;
  value_type  pg_catalog.text;
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(11) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 11';

    -- Has the sequencer look at what this transaction writes. It holds the lock exclusively while it sleeps. Whoever gets the
    -- lock, shared and until the commit, keeps it from falling asleep before it has seen this transaction's events. Whoever does
    -- not get it wakes it.
    CREATE FUNCTION pghub.ring() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
      IF NOT pg_try_advisory_xact_lock_shared(1885816930, 1) THEN
        NOTIFY "pghub.bell";
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.ring IS 'Part of publishing: wakes the sequencer, if it sleeps.';

    CREATE FUNCTION pghub.refuse(topic text) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
      IF octet_length(topic) BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'pghub.publish: a key is a list of integers, without NULL' USING ERRCODE = 'invalid_parameter_value';
      END IF;
      RAISE EXCEPTION 'pghub.publish: topic % has % bytes; a topic has 1 to 63', coalesce(quote_literal(left(topic, 100)), 'NULL'), coalesce(octet_length(topic), 0)
        USING ERRCODE = 'invalid_parameter_value';
    END $$;
    COMMENT ON FUNCTION pghub.refuse IS 'Part of publishing: says what is wrong with a topic, or else with a key.';

    -- This one and the next are the ways into the log. SECURITY DEFINER, so that whoever may publish can write events and nothing
    -- else of the log. An event that could not be read would stop all readers, so everything is checked here. The cast to json
    -- does that for a text, and leaves it as it is.
    --
    -- Every row of a table with a durable watch comes through this one, so what it costs its writer counts. To set a search path and to reset it
    -- takes longer than all else in a small function: so this one has none, and names everything with its schema, operators too.
    -- It has few statements, all but the INSERT such that PL/pgSQL evaluates them without starting a query. The last one is pghub.ring.
    CREATE FUNCTION pghub.capture(topic text, key bigint[], value text, headers text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
      part pg_catalog.int8 := pg_catalog.pg_sequence_last_value('pghub.log_table'::pg_catalog.regclass);  -- NULL before the first rotation: 0
    BEGIN
      IF (pg_catalog.octet_length(topic) OPERATOR(pg_catalog.>) 0 AND pg_catalog.octet_length(topic) OPERATOR(pg_catalog.<) 64) IS NOT TRUE
        OR pg_catalog.array_ndims(key) OPERATOR(pg_catalog.>) 1 OR pg_catalog.array_position(key, NULL) IS NOT NULL
      THEN
        PERFORM pghub.refuse(topic);
      END IF;
      IF part OPERATOR(pg_catalog.=) 1 THEN
        INSERT INTO pghub.log_1 (topic, key, value, headers)
        VALUES (topic, CASE WHEN pg_catalog.array_ndims(key) IS NOT NULL THEN key END, value::pg_catalog.json::pg_catalog.text, headers::pg_catalog.json::pg_catalog.text);
      ELSIF part OPERATOR(pg_catalog.=) 2 THEN
        INSERT INTO pghub.log_2 (topic, key, value, headers)
        VALUES (topic, CASE WHEN pg_catalog.array_ndims(key) IS NOT NULL THEN key END, value::pg_catalog.json::pg_catalog.text, headers::pg_catalog.json::pg_catalog.text);
      ELSE
        INSERT INTO pghub.log_0 (topic, key, value, headers)
        VALUES (topic, CASE WHEN pg_catalog.array_ndims(key) IS NOT NULL THEN key END, value::pg_catalog.json::pg_catalog.text, headers::pg_catalog.json::pg_catalog.text);
      END IF;
      IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885816930, 1) THEN
        NOTIFY "pghub.bell";
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.capture IS 'Writes an event to the stream; value and headers are text that is JSON. Part of pghub.publish.';

    -- Many events, in their order, for package stream.
    CREATE FUNCTION pghub.capture_all(topics text[], keys text[], vals text[], headers text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      part bigint := (SELECT last_value FROM pghub.log_table);
    BEGIN
      IF array_to_string(keys, '') ~ '[^-0-9,{}]|[{][{]' THEN  -- one look at all of them costs less than one at each
        RAISE EXCEPTION 'pghub.publish: a key is a list of integers, without NULL' USING ERRCODE = 'invalid_parameter_value';
      END IF;
      IF part = 0 THEN
        INSERT INTO pghub.log_0 (topic, key, value, headers)
        SELECT CASE WHEN octet_length(e.topic) BETWEEN 1 AND 63 THEN e.topic ELSE pghub.refuse(e.topic) END, nullif(e.key, '{}')::bigint[], e.value::json::text, e.headers::json::text
        FROM unnest(topics, keys, vals, headers) WITH ORDINALITY AS e(topic, key, value, headers, n) ORDER BY e.n;
      ELSIF part = 1 THEN
        INSERT INTO pghub.log_1 (topic, key, value, headers)
        SELECT CASE WHEN octet_length(e.topic) BETWEEN 1 AND 63 THEN e.topic ELSE pghub.refuse(e.topic) END, nullif(e.key, '{}')::bigint[], e.value::json::text, e.headers::json::text
        FROM unnest(topics, keys, vals, headers) WITH ORDINALITY AS e(topic, key, value, headers, n) ORDER BY e.n;
      ELSE
        INSERT INTO pghub.log_2 (topic, key, value, headers)
        SELECT CASE WHEN octet_length(e.topic) BETWEEN 1 AND 63 THEN e.topic ELSE pghub.refuse(e.topic) END, nullif(e.key, '{}')::bigint[], e.value::json::text, e.headers::json::text
        FROM unnest(topics, keys, vals, headers) WITH ORDINALITY AS e(topic, key, value, headers, n) ORDER BY e.n;
      END IF;
      PERFORM pghub.ring();
    END $$;
    COMMENT ON FUNCTION pghub.capture_all IS 'Writes events to the stream, in the order of the arrays. Part of package stream.';

    CREATE FUNCTION pghub.integers(key text) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
      RETURN CASE WHEN btrim(key) ~ '^[-+]?[0-9]+$' THEN ARRAY[btrim(key)::bigint] ELSE key::bigint[] END;
    EXCEPTION WHEN data_exception THEN
      RAISE EXCEPTION 'pghub.publish: key % is neither an integer, nor an array of integers such as {1,2}', quote_literal(left(key, 100))
        USING ERRCODE = 'invalid_parameter_value';
    END $$;
    COMMENT ON FUNCTION pghub.integers IS 'A key from its text.';

    -- A value may be json, jsonb, or text that is JSON. (A literal of unknown type becomes text where a function takes text.)
    FOREACH key_type IN ARRAY '{bigint[],bigint,text}'::text[] LOOP
      FOREACH value_type IN ARRAY '{json,jsonb,text}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION pghub.publish(topic text, key %s%s, value %s%s, headers json DEFAULT NULL) RETURNS void
            LANGUAGE sql SET search_path = pg_catalog, pg_temp AS %L',
          key_type, CASE WHEN key_type = 'bigint[]' AND value_type = 'json' THEN ' DEFAULT NULL' ELSE '' END,
          value_type, CASE WHEN value_type = 'json' THEN ' DEFAULT NULL' ELSE '' END,
          format('SELECT pghub.capture(topic, %s, value::text, headers::text)',
            CASE key_type WHEN 'bigint[]' THEN 'key' WHEN 'bigint' THEN 'CASE WHEN key IS NOT NULL THEN ARRAY[key] END' ELSE 'pghub.integers(key)' END));
        EXECUTE format('COMMENT ON FUNCTION pghub.publish(text, %s, %s, json) IS ''Writes an event to the stream, in this transaction.''', key_type, value_type);
      END LOOP;
    END LOOP;

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
