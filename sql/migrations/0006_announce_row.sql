-- pghub 6: the trigger function of level row.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(6) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 6';

    -- PL/pgSQL prepares each expression once a transaction, which takes longer than to evaluate most of them. So the short way has as
    -- few as can be, and those are long: for an INSERT the operation, the row, the payload, and to send it.
    CREATE FUNCTION pghub.row_function(definition jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    DECLARE
      columns jsonb   := definition -> 'columns';  -- [number, name], ...: where not all are announced
      watched text    := CASE WHEN (definition ->> 'partitioned')::boolean
        THEN format('%L::pg_catalog.regclass', format('%I.%I', definition ->> 'schema', definition ->> 'table')) ELSE 'TG_RELID' END;
      old_too boolean := coalesce((definition ->> 'old')::boolean, false);
      head    text    := format('","schema":%s,"table":%s,"seq":', to_json(definition ->> 'schema'), to_json(definition ->> 'table'));
      -- The next number of the transaction. The first of these fails, and the long way is taken, if the session has set what is none.
      next    text    := pghub.template($t$@set_config('pghub.seq', (('0' [||] coalesce(@current_setting('pghub.seq', true), ''))::@int8 [+] 1)::@text, true)$t$);
      next_of_any text := pghub.template($t$@set_config('pghub.seq', (coalesce(@substring(@current_setting('pghub.seq', true), '^[0-9]{1,17}$'), '0')::@int8 [+] 1)::@text, true)$t$);
      fitting text[]  := pghub.fitting(definition);
      fits    text    := '(fits OR ' || fitting[1] || ')';
      key     text[];  -- of NEW and of OLD, the parts of the key and of the id, as arguments of concat; NULL where there is none
      id      text[];
      form    text[];  -- and what makes the row's JSON
      moved   text[];  -- has an update changed the key, and the id?
      full_of text[];  -- the parts of the payload, of INSERT, UPDATE and DELETE
      this_or_old int[] := '{1,1,2}';
      record  text;
      compare text := '';
      without text := '';   -- virtual generated columns
      long    text;
    BEGIN
      FOREACH record IN ARRAY '{NEW,OLD}'::text[] LOOP
        key := key || (
          SELECT string_agg(format('%s.%I', record, name), ', '','', ' ORDER BY n)
          FROM jsonb_array_elements_text(definition -> 'integers') WITH ORDINALITY AS k(name, n));
        id := id || (
          SELECT string_agg(format(CASE WHEN definition -> 'integers' ? name THEN '%L, %s.%I' ELSE '%L, pg_catalog.to_json(%s.%I)' END,
                   CASE n WHEN 1 THEN '{' ELSE ',' END || to_json(name) || ':', record, name), ', ' ORDER BY n) || ', ''}'''
          FROM jsonb_array_elements_text(definition -> 'key') WITH ORDINALITY AS k(name, n));
        form := form || CASE WHEN columns IS NULL THEN format('pg_catalog.row_to_json(%s)::pg_catalog.text', record) ELSE (
          SELECT format('pg_catalog.concat(%s, ''}'')', string_agg(format('pg_catalog.concat(%s)', part), ', ' ORDER BY forty)) FROM (
            SELECT (n - 1) / 40 AS forty, string_agg(format('%L, coalesce(pg_catalog.to_json(%s.%I)::pg_catalog.text, ''null'')',
                     CASE n WHEN 1 THEN '{' ELSE ',' END || to_json(c ->> 1) || ':', record, c ->> 1), ', ' ORDER BY n) AS part
            FROM jsonb_array_elements(columns) WITH ORDINALITY AS k(c, n) GROUP BY 1) AS parts) END;  -- a call has 100 arguments
      END LOOP;
      moved[1] := (
        SELECT string_agg(format(pghub.template('NEW.%1$I [<>] OLD.%1$I'), name), ' OR ' ORDER BY n)
        FROM jsonb_array_elements_text(definition -> 'integers') WITH ORDINALITY AS k(name, n));
      moved[2] := CASE WHEN definition -> 'key' = definition -> 'integers' THEN moved[1] ELSE format(pghub.template('@concat(%s) [<>] @concat(%s)'), id[1], id[2]) END;
      IF jsonb_array_length(definition -> 'key') > 8 THEN  -- a call has no more than 100 arguments
        key := ARRAY(SELECT format('pg_catalog.concat(%s)', k) FROM unnest(key) AS k WHERE k IS NOT NULL);
        id := ARRAY(SELECT format('pg_catalog.concat(%s)', i) FROM unnest(id) AS i);
      END IF;

      FOR n IN 1 .. 3 LOOP
        full_of[n] := concat_ws(', ',
          CASE WHEN key[1] IS NOT NULL THEN '''e''' END, key[this_or_old[n]],
          quote_literal(concat(CASE WHEN key[1] IS NULL THEN 'e' END, ':{"op":"', (ARRAY['insert', 'update', 'delete'])[n], head)), next,
          ''',"id":'', ' || id[this_or_old[n]],
          CASE n WHEN 2 THEN 'CASE WHEN ' || moved[2] || ' THEN pg_catalog.concat('',"old_id":'', ' || id[2] || ') END' END,
          CASE n WHEN 2 THEN 'CASE WHEN ' || moved[1] || ' THEN pg_catalog.concat('',"old_key":['', ' || key[2] || ', '']'') END' END,
          ''',"row":'', this',
          CASE WHEN n = 2 AND old_too THEN ''',"old":'', was' END, CASE n WHEN 2 THEN 'changed' END, '''}''');
      END LOOP;

      IF columns IS NOT NULL THEN
        SELECT fits || format(pghub.template(' AND %s [=] (SELECT @count(*) FROM @pg_attribute AS a WHERE a.attrelid [=] %s AND NOT a.attisdropped AND (%s))'),
          jsonb_array_length(columns), watched,
          string_agg(format(pghub.template('a.attnum [=] %s AND a.attname [=] %L'), (c ->> 0)::int, c ->> 1), ' OR '))
        INTO fits
        FROM jsonb_array_elements(columns) AS k(c);
      END IF;
      IF (definition ->> 'plain')::boolean IS NOT TRUE THEN
        -- What has no form in jsonb, such as \u0000 in a json column, goes the long way, to be found out there.
        fits := fits || ' AND this::pg_catalog.jsonb IS NOT NULL' || CASE WHEN old_too THEN ' AND (was IS NULL OR was::pg_catalog.jsonb IS NOT NULL)' ELSE '' END;
      END IF;
      IF (definition ->> 'changed')::boolean THEN
        compare := pghub.template($t$changed := @concat(',"changed":[', (
        SELECT @string_agg(@to_json(c)::@text, ',') FROM @json_object_keys(this::@json) AS c
        WHERE (@to_jsonb(NEW) [->] c) [<>] (@to_jsonb(OLD) [->] c)), ']');$t$);
      END IF;

      -- Virtual generated columns have no value in a trigger. None is better than a wrong one.
      IF columns IS NULL AND current_setting('server_version_num')::int >= 180000 THEN
        without := pghub.template($t$IF @strpos(this, ':null') [>] 0 OR @strpos(was, ':null') [>] 0 THEN
        names := ARRAY(SELECT a.attname FROM @pg_attribute AS a WHERE a.attrelid [=] TG_RELID AND a.attgenerated [=] 'v' AND NOT a.attisdropped);
        IF @cardinality(names) [>] 0 THEN
          this := (SELECT @concat('{', @string_agg(@concat(@to_json(k), ':', v), ','), '}') FROM @json_each(this::@json) AS e(k, v) WHERE k [<>] ALL (names));
          IF was IS NOT NULL THEN
            was := (SELECT @concat('{', @string_agg(@concat(@to_json(k), ':', v), ','), '}') FROM @json_each(was::@json) AS e(k, v) WHERE k [<>] ALL (names));
          END IF;
        END IF;
      END IF;$t$);
      END IF;
      IF columns IS NULL THEN
        long := $t$IF TG_OP = 'DELETE' THEN this := row_to_json(OLD); ELSE this := row_to_json(NEW); END IF;$t$;
        IF (definition ->> 'old')::boolean THEN
          long := long || $t$ IF TG_OP = 'UPDATE' THEN was := row_to_json(OLD); END IF;$t$;
        END IF;
      ELSE
        -- A column is announced that still has both its number and its name: neither one that took the name of an announced
        -- one, nor one that took its number. If one has gone elsewhere, no row is announced.
        long := format($t$IF EXISTS (SELECT FROM jsonb_array_elements(%1$L) AS c LEFT JOIN pg_attribute a ON a.attrelid = %2$s AND a.attnum = (c ->> 0)::int
                 WHERE a.attnum IS NULL OR NOT a.attisdropped AND a.attname <> c ->> 1)
      THEN
        RAISE undefined_column;
      END IF;
      names := ARRAY(SELECT c ->> 1 FROM jsonb_array_elements(%1$L) AS c JOIN pg_attribute a ON a.attrelid = %2$s AND a.attnum = (c ->> 0)::int
                     WHERE NOT a.attisdropped ORDER BY a.attnum);
      IF TG_OP = 'DELETE' THEN part := row_to_json(OLD); ELSE part := row_to_json(NEW); END IF;
      this := (SELECT concat('{', string_agg(concat(to_json(c), ':', part -> c), ',' ORDER BY n), '}') FROM unnest(names) WITH ORDINALITY AS u(c, n));$t$,
          columns, watched);
        IF (definition ->> 'old')::boolean THEN
          long := long || $t$
      IF TG_OP = 'UPDATE' THEN
        part := row_to_json(OLD);
        was := (SELECT concat('{', string_agg(concat(to_json(c), ':', part -> c), ',' ORDER BY n), '}') FROM unnest(names) WITH ORDINALITY AS u(c, n));
      END IF;$t$;
        END IF;
      END IF;

      RETURN format(pghub.template($t$-- %1$s
DECLARE
  seq      @text;  -- the number of the event in its transaction
  head     @text;
  key      @text;
  old_key  @text;
  id       @text;  -- NULL without a primary key
  old_id   @text;
  this     @text;  -- the row as it is now; when deleted, as it was
  was      @text;  -- the row before an update
  changed  @text;
  fits     @bool;  -- the short way is right, as the catalog says; NULL: it was not asked
  payload  @text;
  names    @text[];
  kinds    @bool[];
  query    @text;
  part     @json;
  saved    @text[];
  nothing  @text;  -- is NULL: to return it takes no expression
BEGIN
  LOOP
    BEGIN
      IF TG_OP [=] 'INSERT' THEN
        this := %2$s;
        %4$s
        payload := CASE WHEN %5$s THEN @concat(%6$s) END;
      ELSIF TG_OP [=] 'UPDATE' THEN
        this := %2$s;
        %9$s
        %10$s
        %4$s
        payload := CASE WHEN %5$s THEN @concat(%7$s) END;
      ELSIF TG_OP [=] 'DELETE' THEN
        this := %3$s;
        %4$s
        payload := CASE WHEN %5$s THEN @concat(%8$s) END;
      ELSE
        payload := @concat('e:{"op":"truncate', %11$L, %12$s, '}');
      END IF;
    EXCEPTION WHEN OTHERS THEN
      payload := NULL;
    END;
    IF @octet_length(payload) [<=] 7999 AND @has_function_privilege('pg_catalog.pg_notify(pg_catalog.text,pg_catalog.text)'::@regprocedure, 'EXECUTE') THEN
      payload := @concat(@pg_notify(%13$L, payload));
      RETURN nothing;
    END IF;
    EXIT WHEN payload IS NOT NULL OR fits IS NOT NULL;
    fits := (%14$s) IS TRUE;
  END LOOP;

  IF @octet_length(payload) [<=] 7999 THEN
    %15$s
    RETURN nothing;
  ELSIF payload IS NOT NULL THEN
    -- Too large. It has its number already.
    seq := @current_setting('pghub.seq');
    this := NULL; was := NULL; changed := NULL;
    IF TG_OP [=] 'DELETE' THEN
      key := %17$s;
      id := %19$s;
    ELSE
      key := %16$s;
      id := %18$s;
    END IF;
    IF TG_OP [=] 'UPDATE' THEN
      old_key := %17$s;
      old_id := %19$s;
    END IF;
  ELSE
    seq := %12$s;
    this := NULL; was := NULL; changed := NULL;
    BEGIN
        %20$s
      SELECT array_agg(a.attname ORDER BY k.n),
             array_agg(t.typoutput IN ('int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc) ORDER BY k.n)
      INTO names, kinds
      FROM pg_index i
      CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      JOIN pg_type t ON t.oid = a.atttypid
      WHERE i.indrelid = TG_RELID AND i.indisprimary AND k.n <= i.indnkeyatts;
      IF names IS NOT NULL THEN
        query := 'SELECT row_to_json(x.*) FROM (SELECT ' || array_to_string(ARRAY(SELECT format('($1).%%I', c) FROM unnest(names) AS c), ', ') || ') AS x';
        IF TG_OP = 'DELETE' THEN EXECUTE query INTO part USING OLD; ELSE EXECUTE query INTO part USING NEW; END IF;
        key := (SELECT coalesce(string_agg(part ->> names[n], ',' ORDER BY n), '') FROM generate_subscripts(names, 1) AS n WHERE kinds[n]);
        IF TG_OP = 'UPDATE' THEN
          EXECUTE query INTO old_id USING OLD;
          old_key := (SELECT coalesce(string_agg(old_id::json ->> names[n], ',' ORDER BY n), '') FROM generate_subscripts(names, 1) AS n WHERE kinds[n]);
        END IF;
        id := part::text;
      END IF;
      %21$s
      IF TG_OP = 'UPDATE' THEN
        NULL;
        %10$s
      END IF;
      %4$s
      IF this::jsonb IS NULL OR was::jsonb IS NULL AND was IS NOT NULL THEN
        this := NULL;
      END IF;
        %22$s
    EXCEPTION WHEN OTHERS THEN
      this := NULL; was := NULL; changed := NULL;  -- the row has no form in JSON
    END;
  END IF;

  IF old_id IS NOT NULL OR old_key IS NOT NULL THEN
    old_id := CASE WHEN old_id [<>] id THEN @concat(',"old_id":', old_id) END;
    old_key := CASE WHEN old_key [<>] key THEN @concat(',"old_key":[', old_key, ']') END;
  END IF;
  head := @concat('e', key, ':{"op":"', @lower(TG_OP), %11$L, seq);
  payload := @concat(head, CASE WHEN id IS NOT NULL THEN ',"id":' END, id, old_id, old_key,
    ',"row":', this, CASE WHEN was IS NOT NULL THEN ',"old":' END, was, changed, '}');
  IF this IS NULL OR @octet_length(payload) [>] 7999 THEN
    payload := @concat(head, CASE WHEN id IS NOT NULL THEN ',"id":' END, id, old_id, old_key, ',"truncated":true}');
    IF @octet_length(payload) [>] 7999 THEN
      payload := @concat(head, old_key, ',"truncated":true}');
    END IF;
  END IF;
  %15$s
  RETURN nothing;
END$t$),
        definition,
        form[1], form[2], without, fits, full_of[1], full_of[2], full_of[3],
        CASE WHEN old_too THEN format('was := %s;', form[2]) ELSE '' END,
        compare,
        head,
        next_of_any,
        definition ->> 'topic',
        fitting[2],
        pghub.sending(definition ->> 'topic'),
        coalesce('pg_catalog.concat(' || key[1] || ')', 'NULL'), coalesce('pg_catalog.concat(' || key[2] || ')', 'NULL'),
        coalesce('pg_catalog.concat(' || id[1] || ')', 'NULL'), coalesce('pg_catalog.concat(' || id[2] || ')', 'NULL'),
        pghub.setting(),
        long,
        pghub.unsetting());
    END $function$;
    COMMENT ON FUNCTION pghub.row_function IS 'The trigger function of a watch at level row.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
