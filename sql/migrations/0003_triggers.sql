-- pghub 3: the trigger functions that pghub.watch attaches, one a level.
--
-- They run with the rights of whoever writes the row, call nothing outside pg_catalog and read nothing but what the
-- statement wrote: a writer needs no grant on schema pghub, and no forgotten one can fail his statement.
-- The settings fixed on them make an event the same whichever session wrote the row.
--
-- Arguments of a trigger, as pghub.watch writes them:
--   0 the watch as JSON, for pghub.watches   1 topic   2 ,"schema":...,"table":...
-- and for level row also
--   3 primary-key columns   4 those of them that are integers   5 columns to announce, empty for all
--   6 with old values?      7 with the names of changed columns?
--
-- The setting pghub.seq counts the events of the running transaction. Without that number PostgreSQL would fold
-- equal payloads: of insert, delete, insert of one row the second insert, and the delete would be the last word.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(3) THEN

    CREATE FUNCTION pghub.announce_row() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET lc_monetary = 'C'
    SET bytea_output = 'hex' SET extra_float_digits = 1
    AS $$
    DECLARE
      topic    text   := TG_ARGV[1];
      pk       text[] := TG_ARGV[3];
      int_pk   text[] := TG_ARGV[4];
      columns  text[] := nullif(TG_ARGV[5], '');
      seq      bigint := coalesce(nullif(current_setting('pghub.seq', true), ''), '0')::bigint + 1;
      head     text   := '{"op":"' || lower(TG_OP) || '"' || TG_ARGV[2] || ',"seq":' || seq;
      this     jsonb;  -- the row as it is now; when deleted, as it was
      was      jsonb;  -- the row before an update
      this_row text;   -- both as they are announced; NULL where they are not
      was_row  text;
      changed  text;
      key      text := '';
      id       text := '';
      old_id   text := '';
      payload  text;
      col      text;
    BEGIN
      PERFORM set_config('pghub.seq', seq::text, true);
      IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify(topic, 'e:' || head || '}');
        RETURN NULL;
      END IF;

      -- No trouble in here may fail the user's statement. (pg_notify stays outside: called within a block with
      -- EXCEPTION it keeps 8 kB of memory until the transaction ends, for every row.)
      BEGIN
        IF TG_OP = 'DELETE' THEN
          this := to_jsonb(OLD);
          this_row := row_to_json(OLD);
        ELSE
          this := to_jsonb(NEW);
          this_row := row_to_json(NEW);
        END IF;
        IF NOT this ?& pk THEN
          RAISE undefined_column;  -- renamed since
        END IF;
        IF TG_OP = 'UPDATE' THEN
          was := to_jsonb(OLD);
          was_row := row_to_json(OLD);
        END IF;
        IF columns IS NOT NULL THEN
          SELECT '{' || string_agg(to_json(c)::text || ':' || (this -> c)::text, ',') || '}',
                 '{' || string_agg(to_json(c)::text || ':' || (was -> c)::text, ',') || '}'
          INTO this_row, was_row
          FROM unnest(columns) AS c WHERE this ? c;
        END IF;
        IF TG_OP = 'UPDATE' AND TG_ARGV[7]::boolean THEN
          SELECT '[' || coalesce(string_agg(to_json(c)::text, ','), '') || ']' INTO changed
          FROM unnest(coalesce(columns, ARRAY(SELECT json_object_keys(row_to_json(NEW))))) AS c
          WHERE this -> c IS DISTINCT FROM was -> c;
        END IF;
      EXCEPTION WHEN OTHERS THEN
        -- A row that has no form in jsonb (\u0000 in a json column, hundreds of megabytes), or key columns under new
        -- names: announce the key alone, from the catalog as it is now.
        this_row := NULL;
        BEGIN
          SELECT coalesce(array_agg(a.attname ORDER BY k.n), '{}'),
                 coalesce(array_agg(a.attname ORDER BY k.n) FILTER (
                   WHERE t.typoutput IN ('int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc)), '{}')
          INTO pk, int_pk
          FROM pg_index i
          CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
          JOIN pg_type t ON t.oid = a.atttypid
          WHERE i.indrelid = TG_RELID AND i.indisprimary AND k.n <= i.indnkeyatts;

          IF TG_OP <> 'INSERT' THEN
            EXECUTE 'SELECT to_jsonb(x.*) FROM (SELECT ' || array_to_string(ARRAY(
              SELECT format('($1).%I', c) FROM unnest(pk) AS c), ', ') || ') AS x' INTO was USING OLD;
          END IF;
          IF TG_OP = 'DELETE' THEN
            this := was;
            was := NULL;
          ELSE
            EXECUTE 'SELECT to_jsonb(x.*) FROM (SELECT ' || array_to_string(ARRAY(
              SELECT format('($1).%I', c) FROM unnest(pk) AS c), ', ') || ') AS x' INTO this USING NEW;
          END IF;
        EXCEPTION WHEN OTHERS THEN
          pk := '{}';  -- beyond a gigabyte: not even that
        END;
      END;

      FOREACH col IN ARRAY pk LOOP
        id := id || ',' || to_json(col) || ':' || (this -> col);
        old_id := old_id || ',' || to_json(col) || ':' || (was -> col);
        IF col = ANY (int_pk) THEN
          key := key || ',' || (this ->> col);
        END IF;
      END LOOP;
      key := 'e' || substr(key, 2) || ':';
      old_id := CASE WHEN old_id <> id THEN ',"old_id":{' || substr(old_id, 2) || '}' ELSE '' END;
      id := CASE WHEN id <> '' THEN ',"id":{' || substr(id, 2) || '}' ELSE '' END;

      payload := key || head || id || old_id || ',"row":' || this_row
        || CASE WHEN TG_ARGV[6]::boolean THEN coalesce(',"old":' || was_row, '') ELSE '' END
        || coalesce(',"changed":' || changed, '') || '}';
      IF payload IS NULL OR octet_length(payload) > 7999 THEN
        payload := key || head || id || old_id || ',"truncated":true}';
        IF octet_length(payload) > 7999 THEN
          payload := key || head || ',"truncated":true}';
        END IF;
      END IF;
      PERFORM pg_notify(topic, payload);
      RETURN NULL;
    END $$;
    COMMENT ON FUNCTION pghub.announce_row IS 'Trigger: one event a row. Attached by pghub.watch.';

    CREATE FUNCTION pghub.announce_statement() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET lc_monetary = 'C'
    SET bytea_output = 'hex' SET extra_float_digits = 1
    AS $$
    DECLARE
      topic  text   := TG_ARGV[1];
      seq    bigint := coalesce(nullif(current_setting('pghub.seq', true), ''), '0')::bigint;
      head   text   := '{"op":"' || lower(TG_OP) || '"' || TG_ARGV[2];
      pk     text;             -- the primary-key columns as SQL
      width  int;              -- how many they are
      ints   boolean;          -- all of them integers?
      form   text;             -- SQL for an item
      item   text;             -- what is announced of one row: its keys, or its id as JSON
      part   text   := '';
      parts  text[] := '{}';   -- lists of items, each as long as one event can carry
      room   int;              -- bytes for such a list
      n      bigint;           -- rows the statement touched
      lost   boolean := false; -- an item too large for any event?
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        PERFORM set_config('pghub.seq', (seq + 1)::text, true);
        PERFORM pg_notify(topic, 'e:' || head || ',"seq":' || seq + 1 || ',"part":1,"parts":1}');
        RETURN NULL;
      ELSIF TG_OP = 'DELETE' THEN
        SELECT count(*) INTO n FROM pghub_old;
      ELSE
        SELECT count(*) INTO n FROM pghub_new;
      END IF;
      IF n = 0 THEN
        RETURN NULL;
      END IF;

      -- Asked anew for every statement, so that key columns may be renamed. A domain over an integer has its output.
      SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n), count(*),
             bool_and(t.typoutput IN ('int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc))
      INTO pk, width, ints
      FROM pg_index i
      CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      JOIN pg_type t ON t.oid = a.atttypid
      WHERE i.indrelid = TG_RELID AND i.indisprimary AND k.n <= i.indnkeyatts;

      IF pk IS NOT NULL THEN
        room := 7999 - 160 - octet_length(head);  -- 160: all that stands around the list, with numbers of any length
        form := CASE WHEN ints THEN format('concat_ws('','', %s)', pk) ELSE 'row_to_json(k.*)::text' END;
        FOR item IN EXECUTE format(CASE TG_OP
            WHEN 'INSERT' THEN 'SELECT %1$s FROM (SELECT %2$s FROM pghub_new) AS k'
            WHEN 'DELETE' THEN 'SELECT %1$s FROM (SELECT %2$s FROM pghub_old) AS k'
            ELSE 'SELECT %1$s FROM (SELECT %2$s FROM pghub_new) AS k
                  UNION ALL (SELECT %1$s FROM (SELECT %2$s FROM pghub_old) AS k
                      EXCEPT SELECT %1$s FROM (SELECT %2$s FROM pghub_new) AS k)'  -- keys that are gone
            END, form, pk)
        LOOP
          IF octet_length(item) > room THEN
            lost := true;
          ELSIF octet_length(part) + octet_length(item) > room THEN
            parts := array_append(parts, part);
            part := ',' || item;
          ELSE
            part := part || ',' || item;
          END IF;
        END LOOP;
      END IF;
      parts := array_append(parts, part);

      head := head || CASE WHEN ints AND width > 1 THEN ',"width":' || width ELSE '' END || ',"count":' || n;
      FOR i IN 1 .. cardinality(parts) LOOP
        part := substr(parts[i], 2);
        PERFORM pg_notify(topic, 'e' || CASE WHEN ints THEN part ELSE '' END || ':' || head
          || ',"seq":' || seq + i || ',"part":' || i || ',"parts":' || cardinality(parts)
          || CASE WHEN pk IS NOT NULL AND NOT ints THEN ',"ids":[' || part || ']' ELSE '' END
          || CASE WHEN lost THEN ',"truncated":true}' ELSE '}' END);
      END LOOP;
      PERFORM set_config('pghub.seq', (seq + cardinality(parts))::text, true);
      RETURN NULL;
    END $$;
    COMMENT ON FUNCTION pghub.announce_statement IS 'Trigger: the keys of all rows of a statement. Attached by pghub.watch.';

    -- No number here: that PostgreSQL folds equal payloads is what makes it one event a transaction.
    CREATE FUNCTION pghub.announce_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      touched boolean := true;
    BEGIN
      IF TG_OP = 'DELETE' THEN
        touched := EXISTS (SELECT FROM pghub_old);
      ELSIF TG_OP <> 'TRUNCATE' THEN
        touched := EXISTS (SELECT FROM pghub_new);
      END IF;
      IF touched THEN
        PERFORM pg_notify(TG_ARGV[1], 'e:{' || substr(TG_ARGV[2], 2) || ',"action":"' || TG_OP || '"}');
      END IF;
      RETURN NULL;
    END $$;
    COMMENT ON FUNCTION pghub.announce_change IS 'Trigger: once a transaction that a table changed. Attached by pghub.watch.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
