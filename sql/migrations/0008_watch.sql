-- pghub 8: pghub.watches, pghub.plan, pghub.watch and pghub.unwatch for the functions of pghub.compile.
--
-- Watches that exist stay as they are, with the functions of version 4, until pghub.watch is next called for them.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(8) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 8';

    -- From the triggers themselves and their functions: dropped with their tables, restored with a dump, nothing to get
    -- out of step. Copies that PostgreSQL made for partitions are left out.
    CREATE OR REPLACE VIEW pghub.watches AS
      SELECT w.relation, w.name, w.level,
             array_agg(substring(w.tgname FROM '[a-z]+$') ORDER BY w.tgname) AS operations,
             bool_and(w.tgenabled IN ('O', 'A')) AS enabled,
             array_agg(w.tgname ORDER BY w.tgname) AS triggers,
             w.definition,
             CASE WHEN w.definition LIKE '{%' THEN w.definition::jsonb ->> 'topic' END AS topic,
             w.muted,
             CASE WHEN count(DISTINCT w.tgenabled) > 1 THEN 'mixed'
                  ELSE (ARRAY['origin', 'always', 'replica', 'disabled'])[strpos('OARD', min(w.tgenabled::text))] END AS fires,
             w.function,
             nullif(concat_ws('; ',
               CASE WHEN w.level <> 'row' THEN (
                 SELECT format('statements that name its parent %s are missed: watch that one', min(i.inhparent::regclass::text))
                 FROM pg_inherits i WHERE i.inhrelid = w.relation HAVING count(*) > 0) END,
               CASE WHEN w.function::text LIKE 'pghub.announce\_%' THEN 'made by version 4: call pghub.watch again' END), '') AS warning
      FROM (
        SELECT t.tgrelid::regclass AS relation, t.tgname, t.tgenabled, t.tgfoid::regproc AS function,
               CASE WHEN made.definition IS NULL THEN substring(t.tgname FROM '^pghub_(.*)_[a-z]+$') ELSE made.definition::jsonb ->> 'name' END AS name,
               CASE WHEN made.definition IS NULL THEN substring(p.proname FROM '^announce_(.*)$') ELSE made.definition::jsonb ->> 'level' END AS level,
               coalesce(made.definition, convert_from(substring(t.tgargs FOR greatest(position('\x00'::bytea IN t.tgargs) - 1, 0)), getdatabaseencoding())) AS definition,
               CASE WHEN made.definition IS NOT NULL THEN strpos(p.prosrc, E'\nBEGIN\n  RETURN NULL;  -- muted\n') > 0
                    ELSE strpos(p.prosrc, E'\nBEGIN\n  IF TG_ARGV[0] IN (') > 0 AND pghub.is_muted(nullif(convert_from(
                      substring(t.tgargs FOR greatest(position('\x00'::bytea IN t.tgargs) - 1, 0)), getdatabaseencoding()), '')::jsonb) END AS muted
        FROM pg_trigger t
        JOIN pg_proc p ON p.oid = t.tgfoid
        CROSS JOIN LATERAL (SELECT substring(p.prosrc FROM '^-- (\{[^\n]*\})\n') AS definition) AS made
        WHERE p.pronamespace = 'pghub'::regnamespace AND t.tgparentid = 0) AS w
      GROUP BY w.relation, w.name, w.level, w.definition, w.muted, w.function;
    COMMENT ON VIEW pghub.watches IS 'The watches of this database; definition is JSON.';

    -- Are all columns of types whose JSON is the same whatever a session has set, but for the zone?
    CREATE FUNCTION pghub.is_plain(relation regclass) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT NOT EXISTS (
        SELECT FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
          AND coalesce(e.typtype, t.typtype) <> 'e'
          AND coalesce(e.oid, t.oid)::regtype <> ALL ('{bool,int2,int4,int8,numeric,text,varchar,bpchar,name,"\"char\"",uuid,jsonb,date,time,timestamp,timestamptz,inet,cidr,macaddr,macaddr8,bit,varbit,oid}'::regtype[]))
    $$;
    COMMENT ON FUNCTION pghub.is_plain IS 'Is the JSON of a table''s rows the same whatever a session has set?';

    DROP FUNCTION pghub.watch(regclass, text, text, text[], text[], text[], text[], boolean, boolean, text, text, text);
    DROP FUNCTION pghub.unwatch(regclass, text);

    -- What pghub.watch would run, and the lock on the table that each command takes. Empty: it is in effect already.
    CREATE FUNCTION pghub.plan(
      relation    regclass,
      topic       text    DEFAULT NULL,     -- the table's name, behind its schema's unless that is public
      level       text    DEFAULT 'row',    -- or statement, or change
      operations  text[]  DEFAULT '{insert,update,delete,truncate}',
      "of"        text[]  DEFAULT NULL,     -- updates: those that set one of these columns
      include     text[]  DEFAULT NULL,     -- announce these columns
      exclude     text[]  DEFAULT NULL,     -- announce all but these
      old         boolean DEFAULT false,    -- updates: with the row as it was
      changed     boolean DEFAULT false,    -- updates: with the names of the columns that have new values
      condition   text    DEFAULT NULL,     -- SQL on NEW and OLD
      name        text    DEFAULT 'watch',  -- tells the watches of one table apart
      generation  integer DEFAULT 0,        -- a watch of a higher one is left alone
      OUT command text,
      OUT locks   text
    ) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_variable
    DECLARE
      rel        record;
      parent     regclass;
      pk         record;
      columns    jsonb;
      wanted     jsonb;  -- the definition of the watch
      there      record; -- the watch that exists
      replace    boolean := current_setting('server_version_num')::int >= 140000;
      prefix     text;
      trig       text;
      always     text;
      op         text;
    BEGIN
      -- A table whose every change this level sees?
      SELECT c.relkind, c.relname, n.nspname, c.relpersistence INTO rel
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
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
      SELECT i.inhparent INTO parent FROM pg_inherits i WHERE i.inhrelid = relation LIMIT 1;
      IF FOUND AND level <> 'row' THEN
        RAISE EXCEPTION 'pghub.watch: level % on % would miss the statements that name its parent %', level, relation, parent
          USING ERRCODE = 'feature_not_supported', HINT = 'Watch the parent, or use level row.';
      END IF;

      -- Options that are in themselves right, and go together? A topic of its own if the table is not in public, but a watch
      -- that has the table's name from an earlier version keeps it.
      SELECT w.* INTO there FROM pghub.watches w WHERE w.relation = relation AND w.name = name;
      topic := coalesce(topic, CASE WHEN rel.nspname = 'public' OR rel.relpersistence = 't' OR there.topic = rel.relname
        THEN rel.relname ELSE rel.nspname || '.' || rel.relname END);
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
      ELSIF btrim(condition, E' \t\r\n') = '' THEN
        RAISE EXCEPTION 'pghub.watch: condition is empty; NULL is none' USING ERRCODE = 'invalid_parameter_value';
      END IF;
      PERFORM pghub.check_columns(relation, 'of', "of");
      PERFORM pghub.check_columns(relation, 'include', include);
      PERFORM pghub.check_columns(relation, 'exclude', exclude);

      -- A list of columns stays as it is until the next call: no new column is announced by accident.
      IF include IS NOT NULL OR exclude IS NOT NULL THEN
        SELECT jsonb_agg(jsonb_build_array(a.attnum, a.attname) ORDER BY a.attnum) INTO columns
        FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
          AND (include IS NULL OR a.attname = ANY (include)) AND (exclude IS NULL OR a.attname <> ALL (exclude));
        IF columns IS NULL THEN
          RAISE EXCEPTION 'pghub.watch: no column of % is left to announce', relation USING ERRCODE = 'invalid_parameter_value';
        END IF;
      END IF;

      pk := pghub.primary_key(relation);
      wanted := jsonb_strip_nulls(jsonb_build_object(
        'name', name, 'level', level, 'schema', rel.nspname, 'table', rel.relname, 'topic', topic,
        'of', "of", 'include', include, 'exclude', exclude, 'condition', condition,
        'old', nullif(old, false), 'changed', nullif(changed, false), 'generation', nullif(generation, 0), 'columns', columns,
        'partitioned', nullif(rel.relkind = 'p', false)));
      IF level <> 'change' THEN
        wanted := wanted || jsonb_strip_nulls(jsonb_build_object('key', pk.columns, 'integers', pk.integers,
          'plain', CASE level WHEN 'row' THEN pghub.is_plain(relation) END,
          'first', CASE WHEN level = 'row' AND columns IS NULL AND cardinality(pk.columns) = 1 THEN
            (SELECT nullif(a.attname = pk.columns[1], false) FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum LIMIT 1) END,
          'index', (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indrelid = relation AND i.indisprimary)));
      END IF;

      -- In effect already? (There may be two of the name, if somebody dropped some of its triggers.)
      IF there.relation IS NOT NULL THEN
        IF (SELECT count(*) = 1 AND bool_and(w.enabled AND w.operations = operations AND w.definition = wanted::text)
            FROM pghub.watches w WHERE w.relation = relation AND w.name = name)
        THEN
          IF (SELECT p.prosrc = pghub.body(wanted) FROM pg_proc p WHERE p.oid = there.function) THEN
            RETURN;
          END IF;
          command := format('SELECT pghub.compile(%L)', wanted);
          locks := 'none';
          RETURN NEXT;
          RETURN;
        ELSIF there.definition LIKE '{%' AND coalesce((there.definition::jsonb ->> 'generation')::int, 0) > coalesce(generation, 0) THEN
          RAISE WARNING 'pghub.watch: % on % has generation %, which is higher than %: left alone',
            quote_literal(name), relation, there.definition::jsonb ->> 'generation', coalesce(generation, 0);
          RETURN;
        END IF;
      END IF;

      command := format('SELECT pghub.compile(%L)', wanted);
      locks := 'none';
      RETURN NEXT;

      -- The triggers of a partitioned table have names that no partition's watch has: PostgreSQL copies them to partitions.
      prefix := 'pghub_' || name;
      IF rel.relkind = 'p' AND (there.triggers IS NULL OR there.triggers[1] LIKE 'pghub\_%~______\_%') THEN
        prefix := prefix || '~' || left(md5(rel.nspname || '.' || rel.relname), 6);
      END IF;
      FOR trig IN
        SELECT DISTINCT t FROM pghub.watches w, unnest(w.triggers) AS t
        WHERE w.relation = relation AND w.name = name
          AND (NOT replace OR t <> ALL (ARRAY(SELECT (prefix || '_' || o)::name FROM unnest(operations) AS o)))
      LOOP
        command := format('DROP TRIGGER IF EXISTS %I ON %s', trig, relation);
        locks := 'ACCESS EXCLUSIVE';
        RETURN NEXT;
      END LOOP;
      FOREACH op IN ARRAY operations LOOP
        trig := prefix || '_' || op;
        command := concat_ws(' ',
          CASE WHEN replace THEN 'CREATE OR REPLACE TRIGGER' ELSE 'CREATE TRIGGER' END, quote_ident(trig), 'AFTER', op,
          CASE op WHEN 'update' THEN 'OF ' || (SELECT string_agg(quote_ident(c), ', ') FROM unnest("of") AS c) END,
          'ON', format('%I.%I', rel.nspname, rel.relname),
          CASE WHEN level <> 'row' THEN CASE op
            WHEN 'insert' THEN 'REFERENCING NEW TABLE AS pghub_new'
            WHEN 'update' THEN 'REFERENCING OLD TABLE AS pghub_old NEW TABLE AS pghub_new'
            WHEN 'delete' THEN 'REFERENCING OLD TABLE AS pghub_old' END END,
          CASE WHEN level = 'row' AND op <> 'truncate' THEN 'FOR EACH ROW' ELSE 'FOR EACH STATEMENT' END,
          CASE WHEN op <> 'truncate' THEN 'WHEN (' || condition || E'\n)' END,
          format('EXECUTE FUNCTION pghub.%I()', pghub.function_name(wanted)));
        locks := 'SHARE ROW EXCLUSIVE';
        RETURN NEXT;
        -- Who had it fire for replicated changes too goes on to have it so.
        SELECT t.tgname INTO always FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = trig AND t.tgenabled = 'A';
        IF FOUND THEN
          command := format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER %I', rel.nspname, rel.relname, trig);
          RETURN NEXT;
        END IF;
      END LOOP;
    END $$;
    COMMENT ON FUNCTION pghub.plan IS 'The commands that pghub.watch would run, and the locks on the table that they take.';

    CREATE FUNCTION pghub.watch(
      relation    regclass,
      topic       text    DEFAULT NULL,
      level       text    DEFAULT 'row',
      operations  text[]  DEFAULT '{insert,update,delete,truncate}',
      "of"        text[]  DEFAULT NULL,
      include     text[]  DEFAULT NULL,
      exclude     text[]  DEFAULT NULL,
      old         boolean DEFAULT false,
      changed     boolean DEFAULT false,
      condition   text    DEFAULT NULL,
      name        text    DEFAULT 'watch',
      search_path text    DEFAULT pg_catalog.current_setting('search_path'),  -- where condition looks names up
      generation  integer DEFAULT 0
    ) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      step record;
      mode text;
      patience text := current_setting('lock_timeout');
    BEGIN
      -- What is in effect locks nothing, so that a service may call this at every start.
      SELECT CASE WHEN bool_or(p.locks = 'ACCESS EXCLUSIVE') THEN 'ACCESS EXCLUSIVE' WHEN bool_or(p.locks <> 'none') THEN 'SHARE ROW EXCLUSIVE' ELSE min(p.locks) END
      INTO mode
      FROM pghub.plan(relation, topic, level, operations, "of", include, exclude, old, changed, condition, name, generation) AS p;
      IF mode IS NULL THEN
        RETURN false;
      END IF;

      IF mode <> 'none' AND EXISTS (SELECT FROM pghub.watches w WHERE w.relation = watch.relation AND w.name = watch.name)
         AND NOT pg_has_role((SELECT c.relowner FROM pg_class c WHERE c.oid = relation), 'USAGE')
      THEN
        RAISE EXCEPTION 'pghub.watch: must be owner of relation %', (SELECT c.relname FROM pg_class c WHERE c.oid = relation) USING ERRCODE = 'insufficient_privilege';
      END IF;

      -- Whoever waits for a lock makes all wait who come after him. Two seconds, unless the session has chosen.
      PERFORM set_config('lock_timeout', CASE patience WHEN '0' THEN '2s' ELSE patience END, true);
      IF mode <> 'none' THEN
        -- The table's own lock, and at once the strongest that is needed: who comes second waits here, and with whom has written to
        -- the table in the same transaction there is no deadlock. Without the right to lock it, an advisory one.
        IF has_table_privilege(relation, 'UPDATE') OR has_table_privilege(relation, 'DELETE') OR has_table_privilege(relation, 'TRUNCATE') THEN
          EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', relation, mode);
        ELSE
          PERFORM pg_advisory_xact_lock(hashtext('pghub.watch'), relation::oid::int);
        END IF;
      END IF;
      mode := NULL;
      FOR step IN SELECT * FROM pghub.plan(relation, topic, level, operations, "of", include, exclude, old, changed, condition, name, generation) LOOP
        BEGIN
          mode := step.locks;
          PERFORM set_config('search_path', watch.search_path, true);  -- the condition is the caller's text
          EXECUTE step.command;
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
      PERFORM pghub.sweep();
      PERFORM set_config('lock_timeout', patience, true);
      RETURN mode IS NOT NULL;
    END $$;
    COMMENT ON FUNCTION pghub.watch IS 'Announces the changes of a table. False: it was watched so already.';

    CREATE FUNCTION pghub.unwatch(relation regclass, name text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      doomed   text;
      dropped  boolean := false;
      patience text := current_setting('lock_timeout');
    BEGIN
      PERFORM set_config('lock_timeout', CASE patience WHEN '0' THEN '2s' ELSE patience END, true);
      FOR doomed IN
        SELECT DISTINCT unnest(w.triggers) FROM pghub.watches w
        WHERE w.relation = unwatch.relation AND (unwatch.name IS NULL OR w.name = unwatch.name)
      LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', doomed, relation);
        dropped := true;
      END LOOP;
      IF dropped THEN
        PERFORM pghub.sweep();
      END IF;
      PERFORM set_config('lock_timeout', patience, true);
      RETURN dropped;
    END $$;
    COMMENT ON FUNCTION pghub.unwatch IS 'Ends one watch of a table, or all of them. False: there was none.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
