-- pghub 16: durable watches, whose events go to the stream. They have the same JSON, and any size: nothing is truncated.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
  old_one     pg_catalog.regprocedure;
  was         pg_catalog.text;
  text_of     pg_catalog.text;
  change      pg_catalog.text[];
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(16) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 16';

    -- The text of a trigger function, as before, but for durable watches: no limit of size, and the stream instead of NOTIFY.
    ALTER FUNCTION pghub.body(jsonb) RENAME TO notifying_body;
    CREATE FUNCTION pghub.body(definition jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      body    text := pghub.notifying_body(definition);
      writing text;
    BEGIN
      IF (definition ->> 'durable')::boolean IS NOT TRUE THEN
        RETURN body;
      END IF;
      body := replace(body, pghub.template('@octet_length(payload) [<=] 7999'), 'payload IS NOT NULL');
      body := replace(body, pghub.template('@octet_length(payload) [>] 7999'), 'false');
      body := replace(body, pghub.template('@has_function_privilege(''pg_catalog.pg_notify(pg_catalog.text,pg_catalog.text)''::@regprocedure, ''EXECUTE'')'), 'true');
      -- The payload is e, the key, a colon and the value. All is one expression, which PL/pgSQL runs without starting a query.
      writing := format(
        pghub.template('pghub.capture(%L, @string_to_array(@substr(payload, 2, @strpos(payload, '':'') [-] 2), '','')::@int8[], @substr(payload, @strpos(payload, '':'') [+] 1), NULL)'),
        definition ->> 'topic');
      body := replace(body, pghub.template('@pg_notify(') || quote_literal(definition ->> 'topic') || ', payload)', writing);
      -- The short way of level row has one expression less.
      body := replace(body, pghub.template(E'IF payload IS NOT NULL AND true THEN\n      payload := @concat(') || writing || ');',
        pghub.template('IF (CASE WHEN payload IS NOT NULL THEN @concat(') || writing || ') IS NOT NULL END) THEN');
      body := replace(body, pghub.template(format('EXECUTE @format(''NOTIFY %%I, %%L'', %L, payload);', definition ->> 'topic')), 'NULL;');
      IF body ~ '7999|pg_notify|NOTIFY %' THEN
        RAISE EXCEPTION 'pghub.body: a durable watch would notify';
      END IF;
      RETURN body;
    END $$;
    COMMENT ON FUNCTION pghub.body IS 'The text of the trigger function of a definition.';

    -- pghub.plan and pghub.watch, with one parameter more.
    FOREACH old_one IN ARRAY ARRAY[
      'pghub.plan(regclass, text, text, text[], text[], text[], text[], boolean, boolean, text, text, integer)',
      'pghub.watch(regclass, text, text, text[], text[], text[], text[], boolean, boolean, text, text, text, integer)']::regprocedure[]
    LOOP
      text_of := pg_get_functiondef(old_one);
      FOREACH change SLICE 1 IN ARRAY CASE WHEN old_one::text LIKE 'pghub.plan(%' THEN ARRAY[
        ['generation integer DEFAULT 0', 'generation integer DEFAULT 0, durable boolean DEFAULT false'],
        ['      changed := coalesce(changed, false);', $p$      changed := coalesce(changed, false);
      durable := coalesce(durable, false);
      IF durable AND level = 'change' THEN
        RAISE EXCEPTION 'pghub.watch: level change folds the events of a transaction into one, which the stream does not'
          USING ERRCODE = 'feature_not_supported', HINT = 'Use level statement.';
      END IF;$p$],
        ['''columns'', columns,', '''columns'', columns, ''durable'', nullif(durable, false),']]
      ELSE ARRAY[
        ['generation integer DEFAULT 0', 'generation integer DEFAULT 0, durable boolean DEFAULT false'],
        ['name, generation)', 'name, generation, durable)']] END
      LOOP
        was := text_of;
        text_of := replace(text_of, change[1], change[2]);
        IF text_of = was THEN
          RAISE EXCEPTION 'pghub: % is not what version 15 made', old_one;
        END IF;
      END LOOP;
      EXECUTE text_of;
      EXECUTE format('DROP FUNCTION %s', old_one);
    END LOOP;
    COMMENT ON FUNCTION pghub.plan IS 'What pghub.watch would run, and the locks that it takes.';
    COMMENT ON FUNCTION pghub.watch IS 'Announces the changes of a table. False: it was watched so already.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
