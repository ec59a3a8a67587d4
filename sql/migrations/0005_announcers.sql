-- pghub 5: a trigger function for each watch, with its definition prepared in it.
--
-- A function that fits one table alone need not look anything up, and costs about half of what one costs that reads its
-- orders from the trigger's arguments. What it has to get right is the time between an ALTER TABLE and the next call of
-- pghub.watch. So each one has two ways:
--
--   The short way is right as long as the primary key is what it was: the same index by its number, which a change of a
--   column's type changes too, on columns of the same names. That is asked for every event, and costs little: PostgreSQL
--   compares the numbers once, when it plans the expression, and plans anew when the index goes.
--   The long way asks the catalog for everything, for every event. It is also taken where the short way fails.
--
-- They run with the rights of whoever writes, and name everything with its schema, operators too, so that no search path
-- changes what they do. They call nothing outside pg_catalog: a writer needs no grant on schema pghub.
--
-- They live in schema pghub, where only its owner may create anything. So pghub.compile, which makes them, is SECURITY
-- DEFINER, and nothing else but pghub.sweep is. It makes what a definition says, with every name and text quoted, under
-- a name that is the definition's hash, and attaches it to nothing: for that, pghub.watch needs its caller's rights.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(5) THEN

    -- A dump of the schema alone has no rows of pghub.migrations, but has this.
    CREATE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 5';
    COMMENT ON FUNCTION pghub.version IS 'The version of the functions of this schema.';

    -- What was muted, until it is unmuted: a topic, a table, or everything where both are NULL.
    CREATE TABLE pghub.mutes (
      topic    text,
      relation text,  -- as SQL writes it, with its schema: survives a dump
      since    timestamptz NOT NULL DEFAULT now(),
      ended    timestamptz,  -- by pghub.unmute, which has yet to announce the gap
      by       text        NOT NULL DEFAULT current_user
    );
    COMMENT ON TABLE pghub.mutes IS 'What pghub.mute silenced.';
    GRANT SELECT ON pghub.mutes TO PUBLIC;

    -- Makes the text of a function from a template, in which @name stands for pg_catalog.name and [+] for the operator +
    -- of pg_catalog. What is put into it afterwards, by format(), is not looked at.
    CREATE FUNCTION pghub.template(text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT regexp_replace(regexp_replace($1, '@([a-z])', 'pg_catalog.\1', 'g'), '\[([-=<>|+*]+)\]', 'OPERATOR(pg_catalog.\1)', 'g')
    $$;
    COMMENT ON FUNCTION pghub.template IS 'Writes @name and [operator] of a template out.';

    -- Sends payload to topic. NOTIFY itself needs no privilege, where somebody has taken pg_notify from PUBLIC; pg_notify is
    -- called within an expression, since PL/pgSQL runs those without starting a query.
    CREATE FUNCTION pghub.sending(topic text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT format(pghub.template(
        $t$IF @has_function_privilege('pg_catalog.pg_notify(pg_catalog.text,pg_catalog.text)'::@regprocedure, 'EXECUTE') THEN
    payload := @concat(@pg_notify(%1$L, payload));
  ELSE
    EXECUTE @format('NOTIFY %%I, %%L', %1$L, payload);
  END IF;$t$), $1)
    $$;
    COMMENT ON FUNCTION pghub.sending IS 'Part of a trigger function: to send.';

    -- When is the short way right? Two conditions: one that costs little, and one that asks the catalog, for an index that has
    -- another number after REINDEX CONCURRENTLY or a restore, and is the same key. NULL and an error mean no.
    -- The names that they compare with are quoted as PostgreSQL does it there.
    CREATE FUNCTION pghub.fitting(definition jsonb) RETURNS text[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      index_oid oid := to_regclass(definition ->> 'index');
      names     text;
      facts     text;
    BEGIN
      IF definition ->> 'index' IS NULL THEN
        RETURN ARRAY[pghub.template('NOT EXISTS (SELECT FROM @pg_index AS i WHERE i.indrelid [=] TG_RELID AND i.indisprimary)'), 'false'];
      END IF;
      SELECT string_agg(format(pghub.template('@pg_get_indexdef(%L::@regclass, %s, false) [=] %L'), definition ->> 'index', n, quote_ident(name)), ' AND ' ORDER BY n),
             string_agg(quote_ident(name) || CASE WHEN definition -> 'integers' ? name THEN ' integer' ELSE '' END, ', ' ORDER BY n)
      INTO names, facts
      FROM jsonb_array_elements_text(definition -> 'key') WITH ORDINALITY AS k(name, n);
      IF definition ? 'first' THEN
        -- The key is the first column, and will be as long as there is this index: so is its name in the row's JSON. (But a
        -- partition may have other columns in front.) That costs a tenth.
        names := format(pghub.template('(@starts_with(this, %L) OR %s)'), '{' || to_json(definition -> 'key' ->> 0) || ':', names);
      END IF;
      RETURN ARRAY[
        format(pghub.template('%L::@regclass [=] %s::@oid AND %s'), definition ->> 'index', coalesce(index_oid, 0), names),
        format(pghub.template($t$%L [=] (
          SELECT @string_agg(@concat(@quote_ident(a.attname), CASE WHEN t.typoutput::@oid [=] ANY (ARRAY['pg_catalog.int2out'::@regproc::@oid,
                   'pg_catalog.int4out'::@regproc::@oid, 'pg_catalog.int8out'::@regproc::@oid]) THEN ' integer' END), ', '
                   ORDER BY @array_position(i.indkey::@int2[], a.attnum))
          FROM @pg_index AS i
          JOIN @pg_attribute AS a ON a.attrelid [=] i.indrelid AND @array_position(i.indkey::@int2[], a.attnum) [<] i.indnkeyatts
          JOIN @pg_type AS t ON t.oid [=] a.atttypid
          WHERE i.indrelid [=] TG_RELID AND i.indisprimary)$t$), facts)];
    END $$;
    COMMENT ON FUNCTION pghub.fitting IS 'Part of a trigger function: when its short way is right.';

    -- Begin and end of the long way, where names are not qualified and the settings are fixed. What fails in between
    -- undoes them too.
    CREATE FUNCTION pghub.fixed_settings() RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT '{{timezone,UTC},{datestyle,"ISO, YMD"},{intervalstyle,postgres},{lc_monetary,C},{bytea_output,hex},{extra_float_digits,1},{search_path,"pg_catalog, pg_temp"}}'::text[]
    $$;
    COMMENT ON FUNCTION pghub.fixed_settings IS 'The settings that make an event the same whichever session writes.';

    CREATE FUNCTION pghub.setting() RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT pghub.template('saved := ARRAY[') || string_agg(format('pg_catalog.current_setting(%L)', s[n][1]), ', ' ORDER BY n) || E'];\n        '
          || string_agg(format('PERFORM pg_catalog.set_config(%L, %L, true);', s[n][1], s[n][2]), E'\n        ' ORDER BY n)
      FROM (SELECT pghub.fixed_settings()) AS f(s), generate_series(1, 7) AS n
    $$;
    COMMENT ON FUNCTION pghub.setting IS 'Part of a trigger function: fixes the settings.';

    CREATE FUNCTION pghub.unsetting() RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT string_agg(format('PERFORM pg_catalog.set_config(%L, saved[%s], true);', s[n][1], n), E'\n        ' ORDER BY n)
      FROM (SELECT pghub.fixed_settings()) AS f(s), generate_series(1, 7) AS n
    $$;
    COMMENT ON FUNCTION pghub.unsetting IS 'Part of a trigger function: gives the settings back.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
