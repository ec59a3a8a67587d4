-- pghub 6: the trigger function of level row.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(6) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 6';

    CREATE FUNCTION pghub.row_function(definition jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    DECLARE
      columns jsonb   := definition -> 'columns';  -- [number, name], …: where not all are announced
      watched text    := CASE WHEN (definition ->> 'partitioned')::boolean
        THEN format('%L::pg_catalog.regclass', format('%I.%I', definition ->> 'schema', definition ->> 'table')) ELSE 'TG_RELID' END;
      key     text[];  -- SQL that makes the key, the id and the row, of NEW and of OLD
      id      text[];
      form    text[];
      record  text;
      check_columns text := '';
      compare text := '';
      without text := '';   -- virtual generated columns
      long    text;
    BEGIN
      FOREACH record IN ARRAY '{NEW,OLD}'::text[] LOOP
        key := key || coalesce((
          SELECT format('pg_catalog.concat(%s)', string_agg(format('%s.%I', record, name), ', '','', ' ORDER BY n))
          FROM jsonb_array_elements_text(definition -> 'integers') WITH ORDINALITY AS k(name, n)
          HAVING count(*) > 0), 'NULL');
        id := id || coalesce((
          SELECT format('pg_catalog.concat(%s, ''}'')', string_agg(format(
                   CASE WHEN definition -> 'integers' ? name THEN '%L, %s.%I' ELSE '%L, pg_catalog.to_json(%s.%I)' END,
                   CASE n WHEN 1 THEN '{' ELSE ',' END || to_json(name) || ':', record, name), ', ' ORDER BY n))
          FROM jsonb_array_elements_text(definition -> 'key') WITH ORDINALITY AS k(name, n)
          HAVING count(*) > 0), 'NULL');
        form := form || CASE WHEN columns IS NULL THEN format('pg_catalog.row_to_json(%s)', record) ELSE (
          SELECT format('pg_catalog.concat(%s, ''}'')', string_agg(format('pg_catalog.concat(%s)', part), ', ' ORDER BY forty)) FROM (
            SELECT (n - 1) / 40 AS forty, string_agg(format('%L, coalesce(pg_catalog.to_json(%s.%I)::pg_catalog.text, ''null'')',
                     CASE n WHEN 1 THEN '{' ELSE ',' END || to_json(c ->> 1) || ':', record, c ->> 1), ', ' ORDER BY n) AS part
            FROM jsonb_array_elements(columns) WITH ORDINALITY AS k(c, n) GROUP BY 1) AS parts) END;  -- a call has 100 arguments
      END LOOP;
      IF columns IS NOT NULL THEN
        SELECT format(pghub.template($t$IF %s [<>] (
        SELECT @count(*) FROM @pg_attribute AS a
        WHERE a.attrelid [=] %s AND NOT a.attisdropped AND (%s))
    THEN
      astray := true;
    END IF;$t$), jsonb_array_length(columns), watched,
          string_agg(format(pghub.template('a.attnum [=] %s AND a.attname [=] %L'), (c ->> 0)::int, c ->> 1), ' OR '))
        INTO check_columns
        FROM jsonb_array_elements(columns) AS k(c);
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
  astray   @bool;  -- is the short way wrong?
  payload  @text;
  names    @text[];
  kinds    @bool[];
  query    @text;
  part     @json;
  saved    @text[];
BEGIN
  -- As few expressions as can be: PL/pgSQL prepares each of them once a transaction.
  seq := @set_config('pghub.seq', (coalesce(@substring(@current_setting('pghub.seq', true), '^[0-9]{1,17}$'), '0')::@int8 [+] 1)::@text, true);
  BEGIN
    IF TG_OP [=] 'INSERT' THEN
      this := %10$s;
      key := %6$s;
      id := %8$s;
    ELSIF TG_OP [=] 'UPDATE' THEN
      this := %10$s;
      key := %6$s;
      id := %8$s;
      old_key := %7$s;
      old_id := %9$s;
      %14$s
      %12$s
    ELSIF TG_OP [=] 'DELETE' THEN
      this := %11$s;
      key := %7$s;
      id := %9$s;
    ELSE
      payload := @concat('e:{"op":"truncate', %3$L, seq, '}');
      %2$s
      RETURN NULL;
    END IF;
    %4$s
    %5$s
    %13$s
    %15$s
  EXCEPTION WHEN OTHERS THEN
    astray := true;
  END;

  IF astray THEN
    key := NULL; old_key := NULL; id := NULL; old_id := NULL; this := NULL; was := NULL; changed := NULL;
    BEGIN
        %16$s
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
      %17$s
      IF TG_OP = 'UPDATE' THEN
        NULL;
        %12$s
      END IF;
      %13$s
      IF this::jsonb IS NULL OR was::jsonb IS NULL AND was IS NOT NULL THEN
        this := NULL;
      END IF;
        %18$s
    EXCEPTION WHEN OTHERS THEN
      this := NULL; was := NULL; changed := NULL;  -- the row has no form in JSON
    END;
  END IF;

  IF old_id IS NOT NULL OR old_key IS NOT NULL THEN
    old_id := CASE WHEN old_id [<>] id THEN @concat(',"old_id":', old_id) END;
    old_key := CASE WHEN old_key [<>] key THEN @concat(',"old_key":[', old_key, ']') END;
  END IF;
  payload := @concat('e', key, ':{"op":"', @lower(TG_OP), %3$L, seq, CASE WHEN id IS NOT NULL THEN ',"id":' END, id, old_id, old_key,
    ',"row":', this, CASE WHEN was IS NOT NULL THEN ',"old":' END, was, changed, '}');
  IF this IS NULL OR @octet_length(payload) [>] 7999 THEN
    head := @concat('e', key, ':{"op":"', @lower(TG_OP), %3$L, seq);
    payload := @concat(head, CASE WHEN id IS NOT NULL THEN ',"id":' END, id, old_id, old_key, ',"truncated":true}');
    IF @octet_length(payload) [>] 7999 THEN
      payload := @concat(head, old_key, ',"truncated":true}');
    END IF;
  END IF;
  %2$s
  RETURN NULL;
END$t$),
        definition,
        pghub.sending(definition ->> 'topic'),
        format('","schema":%s,"table":%s,"seq":', to_json(definition ->> 'schema'), to_json(definition ->> 'table')),
        pghub.fitting(definition),
        check_columns,
        key[1], key[2], id[1], id[2], form[1], form[2],
        compare, without,
        CASE WHEN (definition ->> 'old')::boolean THEN format('was := %s;', form[2]) ELSE '' END,
        -- What has no form in jsonb, such as \u0000 in a json column, goes the long way, to be found out there.
        CASE WHEN (definition ->> 'plain')::boolean THEN '' ELSE 'IF this::pg_catalog.jsonb IS NULL OR was::pg_catalog.jsonb IS NULL AND was IS NOT NULL THEN astray := true; END IF;' END,
        pghub.setting(),
        long,
        pghub.unsetting());
    END $function$;
    COMMENT ON FUNCTION pghub.row_function IS 'The trigger function of a watch at level row.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
