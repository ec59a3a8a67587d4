-- pghub 4: pghub.watch and pghub.unwatch attach and remove the triggers, pghub.watches lists them.
--
-- They run with the rights of their caller: to watch a table needs the TRIGGER privilege on it, to change or end a
-- watch its ownership, as CREATE TRIGGER and DROP TRIGGER do.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(4) THEN

    -- From the triggers themselves: dropped with their tables, restored with a dump, nothing to get out of step.
    -- Copies that PostgreSQL made for partitions are left out.
    CREATE VIEW pghub.watches AS
      SELECT t.tgrelid::regclass AS relation,
             substring(t.tgname FROM '^pghub_(.*)_[a-z]+$') AS name,
             substring(p.proname FROM '^announce_(.*)$') AS level,
             array_agg(substring(t.tgname FROM '[a-z]+$') ORDER BY t.tgname) AS operations,
             bool_and(t.tgenabled <> 'D') AS enabled,
             array_agg(t.tgname ORDER BY t.tgname) AS triggers,
             convert_from(substring(t.tgargs FOR greatest(position('\x00'::bytea IN t.tgargs) - 1, 0)),
                          getdatabaseencoding()) AS definition
      FROM pg_trigger t
      JOIN pg_proc p ON p.oid = t.tgfoid
      WHERE p.pronamespace = 'pghub'::regnamespace AND t.tgparentid = 0
      GROUP BY 1, 2, 3, 7;
    COMMENT ON VIEW pghub.watches IS 'The watches of this database; definition is JSON.';
    GRANT SELECT ON pghub.watches TO PUBLIC;

    -- The primary key as pghub.watch announces it. A domain over an integer has the integer's output function.
    CREATE FUNCTION pghub.primary_key(relation regclass, OUT columns text[], OUT integers text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT coalesce(array_agg(a.attname ORDER BY k.n), '{}'),
             coalesce(array_agg(a.attname ORDER BY k.n) FILTER (
               WHERE t.typoutput IN ('int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc)), '{}')
      FROM pg_index i
      CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      JOIN pg_type t ON t.oid = a.atttypid
      WHERE i.indrelid = relation AND i.indisprimary AND k.n <= i.indnkeyatts
    $$;
    COMMENT ON FUNCTION pghub.primary_key IS 'The primary-key columns of a table, and those of them that are integers.';

    -- An error unless all columns are the table's and triggers can read them.
    CREATE FUNCTION pghub.check_columns(relation regclass, option text, columns text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      col text;
      generated "char";
    BEGIN
      IF cardinality(columns) = 0 THEN
        RAISE EXCEPTION 'pghub.watch: % names no column', option USING ERRCODE = 'invalid_parameter_value';
      END IF;
      FOREACH col IN ARRAY coalesce(columns, '{}') LOOP
        SELECT a.attgenerated INTO generated FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = col AND a.attnum > 0 AND NOT a.attisdropped;
        IF NOT FOUND THEN
          RAISE EXCEPTION 'pghub.watch: % names column %, and % has none of this name', option, coalesce(quote_ident(col), 'NULL'), relation
            USING ERRCODE = 'undefined_column';
        ELSIF generated = 'v' AND option = 'include' THEN
          RAISE EXCEPTION 'pghub.watch: include names %, a virtual generated column: triggers cannot read it', quote_ident(col)
            USING ERRCODE = 'feature_not_supported';
        END IF;
      END LOOP;
    END $$;

    CREATE FUNCTION pghub.watch(
      relation    regclass,
      topic       text    DEFAULT NULL,     -- the table's name
      level       text    DEFAULT 'row',    -- or statement, or change
      operations  text[]  DEFAULT '{insert,update,delete,truncate}',
      "of"        text[]  DEFAULT NULL,     -- updates: those that set one of these columns
      include     text[]  DEFAULT NULL,     -- announce these columns
      exclude     text[]  DEFAULT NULL,     -- announce all but these
      old         boolean DEFAULT false,    -- updates: with the row as it was
      changed     boolean DEFAULT false,    -- updates: with the names of the columns that have new values
      condition   text    DEFAULT NULL,     -- SQL on NEW and OLD
      name        text    DEFAULT 'watch',  -- tells the watches of one table apart
      search_path text    DEFAULT pg_catalog.current_setting('search_path')  -- where condition looks names up
    ) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      rel        record;
      parent     regclass;
      pk         record;
      columns    text[];
      wanted     text;  -- the definition of the watch
      arguments  text;
      command    text;
      op         text;
    BEGIN
      -- A table whose every change this level sees?
      SELECT c.relkind, c.relname, n.nspname INTO rel
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = watch.relation;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'pghub.watch: there is no table %', coalesce(relation::text, 'NULL')
          USING ERRCODE = 'undefined_table';
      ELSIF rel.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION 'pghub.watch: % is %, not a table', relation, CASE rel.relkind
            WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table'
            WHEN 'S' THEN 'a sequence' WHEN 'c' THEN 'a type' ELSE 'an index' END
          USING ERRCODE = 'wrong_object_type';
      ELSIF level IN ('row', 'statement', 'change') IS NOT TRUE THEN
        RAISE EXCEPTION 'pghub.watch: level % is none of row, statement, change', coalesce(quote_literal(level), 'NULL')
          USING ERRCODE = 'invalid_parameter_value';
      END IF;
      SELECT i.inhparent INTO parent FROM pg_inherits i WHERE i.inhrelid = watch.relation LIMIT 1;
      IF FOUND AND level <> 'row' THEN
        RAISE EXCEPTION 'pghub.watch: level % on % would miss the statements that name its parent %', level, relation, parent
          USING ERRCODE = 'feature_not_supported', HINT = 'Watch the parent, or use level row.';
      END IF;

      -- Options that are in themselves right, and go together?
      topic := coalesce(topic, rel.relname);
      old := coalesce(old, false);
      changed := coalesce(changed, false);
      IF octet_length(topic) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'pghub.watch: topic % has % bytes; a topic has 1 to 63', quote_literal(left(topic, 100)), octet_length(topic)
          USING ERRCODE = 'invalid_parameter_value';
      ELSIF octet_length(name) BETWEEN 1 AND 40 IS NOT TRUE THEN
        RAISE EXCEPTION 'pghub.watch: name % has % bytes; a name has 1 to 40',
            coalesce(quote_literal(left(name, 100)), 'NULL'), coalesce(octet_length(name), 0)
          USING ERRCODE = 'invalid_parameter_value';
      END IF;
      operations := ARRAY(SELECT DISTINCT lower(o) FROM unnest(operations) AS o ORDER BY 1);
      SELECT coalesce(quote_literal(o), 'NULL') INTO op FROM unnest(operations) AS o
      WHERE o IN ('insert', 'update', 'delete', 'truncate') IS NOT TRUE;
      IF FOUND OR operations = '{}' THEN
        RAISE EXCEPTION 'pghub.watch: operations has %; it takes insert, update, delete and truncate', coalesce(op, 'none')
          USING ERRCODE = 'invalid_parameter_value';
      ELSIF level <> 'row' AND (num_nonnulls("of", include, exclude, condition) > 0 OR old OR changed) THEN
        RAISE EXCEPTION 'pghub.watch: of, include, exclude, old, changed and condition need level row, not %', level
          USING ERRCODE = 'invalid_parameter_value';
      ELSIF ("of" IS NOT NULL OR old OR changed) AND 'update' <> ALL (operations) THEN
        RAISE EXCEPTION 'pghub.watch: of, old and changed are about updates, which operations leaves out'
          USING ERRCODE = 'invalid_parameter_value';
      ELSIF include IS NOT NULL AND exclude IS NOT NULL THEN
        RAISE EXCEPTION 'pghub.watch: include and exclude do not go together' USING ERRCODE = 'invalid_parameter_value';
      END IF;
      PERFORM pghub.check_columns(relation, 'of', "of");
      PERFORM pghub.check_columns(relation, 'include', include);
      PERFORM pghub.check_columns(relation, 'exclude', exclude);

      -- A list of columns stays as it is until the next call: no new column is announced by accident, nor an excluded
      -- one under a new name. Virtual generated columns have no value in a trigger, so they always stay out.
      IF include IS NOT NULL OR exclude IS NOT NULL OR EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = watch.relation AND NOT a.attisdropped AND a.attgenerated = 'v')
      THEN
        columns := ARRAY(
          SELECT a.attname FROM pg_attribute a
          WHERE a.attrelid = watch.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
            AND (include IS NULL OR a.attname = ANY (include)) AND (exclude IS NULL OR a.attname <> ALL (exclude))
          ORDER BY a.attnum);
        IF columns = '{}' THEN
          RAISE EXCEPTION 'pghub.watch: no column of % is left to announce', relation USING ERRCODE = 'invalid_parameter_value';
        END IF;
      END IF;

      pk := pghub.primary_key(relation);
      wanted := jsonb_strip_nulls(jsonb_build_object(
        'schema', rel.nspname, 'table', rel.relname, 'topic', topic, 'of', "of", 'include', include, 'exclude', exclude,
        'old', nullif(old, false), 'changed', nullif(changed, false), 'condition', condition,
        'columns', columns, 'key', CASE level WHEN 'row' THEN pk.columns END));

      -- Who comes second finds the first one's triggers; where they are as wanted nothing is done, so that a service
      -- may call this at every start: DROP TRIGGER waits for all who use the table, and they then wait for it.
      PERFORM pg_advisory_xact_lock(hashtext('pghub.watch'), hashtext(relation::text));
      IF (SELECT count(*) = 1 AND bool_and(w.enabled AND w.level = watch.level AND w.operations = watch.operations
                                           AND w.definition = wanted)
          FROM pghub.watches w WHERE w.relation = watch.relation AND w.name = watch.name)
      THEN
        RETURN false;
      END IF;
      PERFORM pghub.unwatch(relation, name);

      arguments := concat_ws(', ', quote_literal(wanted), quote_literal(topic),
        quote_literal(',"schema":' || to_json(rel.nspname) || ',"table":' || to_json(rel.relname)));
      IF level = 'row' THEN
        arguments := concat_ws(', ', arguments, quote_literal(pk.columns), quote_literal(pk.integers),
          quote_literal(coalesce(columns::text, '')), quote_literal(old), quote_literal(changed));
      END IF;
      FOREACH op IN ARRAY operations LOOP
        command := concat_ws(' ',
          'CREATE TRIGGER', quote_ident('pghub_' || name || '_' || op), 'AFTER', op,
          CASE op WHEN 'update' THEN 'OF ' || (SELECT string_agg(quote_ident(c), ', ') FROM unnest("of") AS c) END,
          'ON', format('%I.%I', rel.nspname, rel.relname),
          CASE WHEN level <> 'row' THEN CASE op
            WHEN 'insert' THEN 'REFERENCING NEW TABLE AS pghub_new'
            WHEN 'update' THEN 'REFERENCING OLD TABLE AS pghub_old NEW TABLE AS pghub_new'
            WHEN 'delete' THEN 'REFERENCING OLD TABLE AS pghub_old' END END,
          CASE WHEN level = 'row' AND op <> 'truncate' THEN 'FOR EACH ROW' ELSE 'FOR EACH STATEMENT' END,
          CASE WHEN op <> 'truncate' THEN 'WHEN (' || condition || E'\n)' END,
          'EXECUTE FUNCTION', format('pghub.announce_%s(%s)', level, arguments));
        BEGIN
          PERFORM set_config('search_path', watch.search_path, true);  -- the condition is the caller's text
          EXECUTE command;
          PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        EXCEPTION WHEN invalid_object_definition THEN
          RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = SQLERRM,
            HINT = 'Name the operations that the condition is for, and give the others a watch of another name.';
        END;
      END LOOP;

      -- To compare whole rows passes CREATE TRIGGER, and fails the first UPDATE where a column has a type without
      -- equality, such as json. Compare two rows of NULLs now, so that PostgreSQL says so now.
      IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = watch.relation AND t.tgname LIKE 'pghub\_%'
        AND t.tgqual::text ~ ':varattno 0 ' AND t.tgqual::text ~ format(':opno (%s|%s) ',
          '=(record,record)'::regoperator::oid, '<>(record,record)'::regoperator::oid))
      THEN
        EXECUTE format('SELECT x.* = y.* FROM (SELECT (NULL::%1$s).*) AS x, (SELECT (NULL::%1$s).*) AS y', relation);
      END IF;
      RETURN true;
    END $$;
    COMMENT ON FUNCTION pghub.watch IS 'Announces the changes of a table. False: it was watched so already.';

    CREATE FUNCTION pghub.unwatch(relation regclass, name text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      doomed  text;
      dropped boolean := false;
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtext('pghub.watch'), hashtext(relation::text));
      FOR doomed IN
        SELECT unnest(w.triggers) FROM pghub.watches w
        WHERE w.relation = unwatch.relation AND (unwatch.name IS NULL OR w.name = unwatch.name)
      LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', doomed, relation);
        dropped := true;
      END LOOP;
      RETURN dropped;
    END $$;
    COMMENT ON FUNCTION pghub.unwatch IS 'Ends one watch of a table, or all of them. False: there was none.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
