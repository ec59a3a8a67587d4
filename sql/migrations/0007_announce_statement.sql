-- pghub 7: the trigger functions of levels statement and change, and pghub.compile, which makes all of them.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(7) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 7';

    -- The short way is for keys that are all integers. It makes one text of them, a;b;c or a,x;b,y where a row has two, and cuts it.
    CREATE FUNCTION pghub.statement_function(definition jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    DECLARE
      width int  := jsonb_array_length(definition -> 'key');
      form  text;
      list  text;
      short text := 'astray := true;';
      fitting text[] := pghub.fitting(definition);
    BEGIN
      IF width > 0 AND definition -> 'key' = definition -> 'integers' THEN
        SELECT string_agg(format('k.%I', name), ', '','', ' ORDER BY n), string_agg(format('k.%I', name), ', ' ORDER BY n) INTO form, list
        FROM jsonb_array_elements_text(definition -> 'key') WITH ORDINALITY AS k(name, n);
        form := CASE width WHEN 1 THEN format('%s::pg_catalog.text', form) ELSE format('pg_catalog.concat(%s)', form) END;
        short := format(pghub.template($t$IF (%1$s) IS NOT TRUE THEN
      astray := (%5$s) IS NOT TRUE;
    END IF;
    IF TG_OP [<>] 'INSERT' AND NOT %2$L::@bool AND astray IS NOT TRUE THEN
      -- Two rows of one key: only where another table inherits from this one.
      astray := EXISTS (SELECT FROM @pg_inherits AS i WHERE i.inhparent [=] TG_RELID);
    END IF;
    IF astray IS NOT TRUE THEN
      IF TG_OP [=] 'DELETE' THEN
        SELECT @count(*), @string_agg(%3$s, ';') INTO rows, list FROM pghub_old AS k;
      ELSE
        SELECT @count(*), @string_agg(%3$s, ';') INTO rows, list FROM pghub_new AS k;
        IF TG_OP [=] 'UPDATE' AND rows [>] 0 THEN
          SELECT @string_agg(%3$s, ';') INTO gone
          FROM (SELECT %4$s FROM pghub_old AS k EXCEPT SELECT %4$s FROM pghub_new AS k) AS k;
          IF gone IS NOT NULL THEN
            list := @concat(list, ';', gone);
          END IF;
        END IF;
      END IF;
      IF rows [=] 0 THEN
        RETURN NULL;
      END IF;
      WHILE @octet_length(list) [>] room LOOP
        -- As bytes, since characters would have to be counted from the beginning each time.
        IF bytes IS NULL THEN
          bytes := @convert_to(list, 'SQL_ASCII');
        END IF;
        part := @convert_from(@substring(bytes, at, room [+] 1), 'SQL_ASCII');
        EXIT WHEN @length(part) [<=] room;
        part := @left(part, 0 [-] @strpos(@reverse(part), ';'));
        parts := @array_append(parts, part);
        at := at [+] @length(part) [+] 1;
      END LOOP;
      parts := @array_append(parts, CASE WHEN bytes IS NULL THEN list ELSE part END);
    END IF;$t$), fitting[1], coalesce((definition ->> 'partitioned')::boolean, false), form, list, fitting[2]);
      END IF;

      RETURN format(pghub.template($t$-- %1$s
DECLARE
  seq      @text := @current_setting('pghub.seq', true);  -- the number of the last event in its transaction
  number   @int8 := CASE WHEN @ltrim(seq, '0123456789') [=] '' AND @length(seq) [>] 0 AND @length(seq) [<] 18 THEN seq::@int8 ELSE 0 END;
  head     @text := @concat('{"op":"', @lower(TG_OP), %3$L);
  room     @int4 := 7839 [-] @octet_length(head);  -- 160 bytes: all that stands around the list, with numbers of any length
  width    @int4 := %4$s;
  ints     @bool := true;                    -- is the key all integers?
  rows     @int8;                            -- that the statement touched
  list     @text;
  gone     @text;
  bytes    @bytea;
  at       @int4 := 1;
  part     @text;
  parts    @text[] := '{}';                  -- lists of keys, each as long as an event can carry
  payload  @text;
  astray   @bool;                            -- is the short way wrong?
  lost     @bool := false;                   -- an id too large for any event?
  pk       @text;
  item     @text;
  saved    @text[];
BEGIN
  IF TG_OP [=] 'TRUNCATE' THEN
    seq := @set_config('pghub.seq', (number [+] 1)::@text, true);
    payload := @concat('e:', head, ',"seq":', number [+] 1, ',"part":1,"parts":1}');
    %2$s
    RETURN NULL;
  END IF;

  BEGIN
    %5$s
  EXCEPTION WHEN OTHERS THEN
    astray := true;
  END;

  IF astray THEN
    parts := '{}';
    part := '';
    BEGIN
        %6$s
      IF TG_OP = 'DELETE' THEN
        SELECT count(*) INTO rows FROM pghub_old;
      ELSE
        SELECT count(*) INTO rows FROM pghub_new;
      END IF;
      IF rows > 0 THEN
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n), count(*),
               bool_and(t.typoutput IN ('int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc))
        INTO pk, width, ints
        FROM pg_index i
        CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        JOIN pg_type t ON t.oid = a.atttypid
        WHERE i.indrelid = TG_RELID AND i.indisprimary AND k.n <= i.indnkeyatts;
      END IF;
      IF pk IS NOT NULL THEN
        FOR item IN EXECUTE format(CASE TG_OP
            WHEN 'INSERT' THEN 'SELECT %%1$s FROM (SELECT %%2$s FROM pghub_new) AS k'
            WHEN 'DELETE' THEN 'SELECT DISTINCT %%1$s FROM (SELECT %%2$s FROM pghub_old) AS k'
            ELSE '(SELECT DISTINCT %%1$s FROM (SELECT %%2$s FROM pghub_new) AS k)
                  UNION ALL (SELECT %%1$s FROM (SELECT %%2$s FROM pghub_old) AS k
                      EXCEPT SELECT %%1$s FROM (SELECT %%2$s FROM pghub_new) AS k)'  -- keys that are gone
            END, CASE WHEN ints THEN format('concat_ws('','', %%s)', pk) ELSE 'row_to_json(k.*)::text' END, pk)
        LOOP
          IF octet_length(item) > room THEN
            lost := true;
          ELSIF octet_length(part) + octet_length(item) > room THEN
            parts := array_append(parts, substr(part, 2));
            part := ',' || item;
          ELSE
            part := part || ',' || item;
          END IF;
        END LOOP;
      END IF;
        %7$s
    EXCEPTION WHEN OTHERS THEN
      lost := true;  -- an id without a form in JSON
    END;
    IF rows [=] 0 THEN
      RETURN NULL;
    END IF;
    parts := @array_append(parts, @substr(part, 2));
  END IF;

  ints := ints AND width [>] 0;
  head := @concat(head, CASE WHEN ints AND width [>] 1 THEN @concat(',"width":', width) END, ',"count":', rows);
  FOR i IN 1 .. @cardinality(parts) LOOP
    part := parts[i];
    payload := @concat('e', CASE WHEN ints THEN @translate(part, ';', ',') END, ':', head, ',"seq":', number [+] i, ',"part":', i, ',"parts":', @cardinality(parts),
      CASE WHEN NOT ints AND width [>] 0 THEN @concat(',"ids":[', part, ']') END, CASE WHEN lost THEN ',"truncated":true}' ELSE '}' END);
    %2$s
  END LOOP;
  seq := @set_config('pghub.seq', (number [+] @cardinality(parts))::@text, true);
  RETURN NULL;
END$t$),
        definition,
        pghub.sending(definition ->> 'topic'),
        format('","schema":%s,"table":%s', to_json(definition ->> 'schema'), to_json(definition ->> 'table')),
        width, short, pghub.setting(), pghub.unsetting());
    END $function$;
    COMMENT ON FUNCTION pghub.statement_function IS 'The trigger function of a watch at level statement.';

    -- No number here: that PostgreSQL folds equal payloads is what makes it one event a transaction.
    CREATE FUNCTION pghub.change_function(definition jsonb) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
      SELECT format(pghub.template($t$-- %1$s
DECLARE
  payload @text;
BEGIN
  IF TG_OP [=] 'DELETE' THEN
    IF NOT EXISTS (SELECT FROM pghub_old) THEN
      RETURN NULL;
    END IF;
  ELSIF TG_OP [<>] 'TRUNCATE' THEN
    IF NOT EXISTS (SELECT FROM pghub_new) THEN
      RETURN NULL;
    END IF;
  END IF;
  payload := @concat(%3$L, TG_OP, '"}');
  %2$s
  RETURN NULL;
END$t$),
        definition,
        pghub.sending(definition ->> 'topic'),
        format('e:{"schema":%s,"table":%s,"action":"', to_json(definition ->> 'schema'), to_json(definition ->> 'table')))
    $function$;
    COMMENT ON FUNCTION pghub.change_function IS 'The trigger function of a watch at level change.';

    -- The name of a watch's function: what it is for, and the hash of its definition, so that nobody can put another in
    -- its place. 160 bits, since somebody might try.
    CREATE FUNCTION pghub.function_name(definition jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT concat_ws('_', definition ->> 'level', left(regexp_replace(definition ->> 'table', '[^A-Za-z0-9]', '', 'g'), 11),
                       left(encode(sha256(convert_to(definition::text, 'UTF8')), 'hex'), 40))
    $$;
    COMMENT ON FUNCTION pghub.function_name IS 'The name of the trigger function that a definition has.';

    CREATE FUNCTION pghub.is_muted(definition jsonb) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT EXISTS (SELECT FROM pghub.mutes m WHERE m.ended IS NULL AND (m.topic IS NULL OR m.topic = definition ->> 'topic')
        AND (m.relation IS NULL OR m.relation = format('%I.%I', definition ->> 'schema', definition ->> 'table')))
    $$;
    COMMENT ON FUNCTION pghub.is_muted IS 'Is a watch of this definition silenced?';

    -- The text of the function of a definition.
    CREATE FUNCTION pghub.body(definition jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      body text := CASE definition ->> 'level'
        WHEN 'row' THEN pghub.row_function(definition)
        WHEN 'statement' THEN pghub.statement_function(definition)
        WHEN 'change' THEN pghub.change_function(definition) END;
    BEGIN
      IF pghub.is_muted(definition) THEN
        body := regexp_replace(body, E'\nBEGIN\n', E'\nBEGIN\n  RETURN NULL;  -- muted\n');
      END IF;
      RETURN body;
    END $$;
    COMMENT ON FUNCTION pghub.body IS 'The text of the trigger function of a definition.';

    -- Makes, or makes anew, the function of a definition. Harmless: what is made was asked for to the letter and fires nowhere
    -- until somebody attaches it who may create triggers on the table, and then with the rights of who writes.
    CREATE FUNCTION pghub.compile(definition jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      name     text := pghub.function_name(definition);
      settings text := '';
    BEGIN
      IF definition ->> 'level' = 'row' THEN
        -- The zone always, since a column that has one may be added. The rest costs four times as much as the zone.
        settings := (SELECT string_agg(format('SET %s = %s', s[n][1], CASE s[n][1] WHEN 'search_path' THEN s[n][2] ELSE quote_literal(s[n][2]) END), ' ' ORDER BY n)
          FROM (SELECT pghub.fixed_settings()) AS f(s), generate_series(1, 7) AS n
          WHERE n = 1 OR (definition ->> 'plain')::boolean IS NOT TRUE);
      END IF;
      -- Until the transaction ends, so that nobody takes it for unused before it is attached.
      PERFORM pg_advisory_xact_lock_shared(hashtext('pghub.compile'), hashtext(name));
      EXECUTE format('CREATE OR REPLACE FUNCTION pghub.%I() RETURNS trigger LANGUAGE plpgsql %s AS %L', name, settings, pghub.body(definition));
      RETURN name;
    END $$;
    COMMENT ON FUNCTION pghub.compile IS 'Makes the trigger function of a definition; pghub.watch attaches it.';

    -- Drops the functions of watches that are no more, as after DROP TABLE. SECURITY DEFINER too, and harmless: what a trigger
    -- uses cannot be dropped, and what somebody is just about to attach is locked.
    CREATE FUNCTION pghub.sweep() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      doomed  record;
      dropped int := 0;
    BEGIN
      FOR doomed IN
        SELECT p.oid::regprocedure AS function, p.proname FROM pg_proc p
        WHERE p.pronamespace = 'pghub'::regnamespace AND p.prosrc LIKE '-- {%'
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid)
      LOOP
        IF pg_try_advisory_xact_lock(hashtext('pghub.compile'), hashtext(doomed.proname)) THEN
          BEGIN
            EXECUTE format('DROP FUNCTION IF EXISTS %s', doomed.function);
            dropped := dropped + 1;
          EXCEPTION WHEN dependent_objects_still_exist THEN
            NULL;  -- attached since we looked
          END;
        END IF;
      END LOOP;
      RETURN dropped;
    END $$;
    COMMENT ON FUNCTION pghub.sweep IS 'Drops trigger functions that no trigger uses, and says how many.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
