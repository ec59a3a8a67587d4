-- pghub 12: the sequencer's functions. Package stream calls them, on a connection of its own.
--
-- Ids and transaction numbers are given before the commit, so neither says in which order transactions became visible. A
-- tick is a snapshot: what it sees, and the tick before does not, is what was committed between the two.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(12) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 12';

    -- One process at a time works at a task. Says whether that is the caller until the lease ends.
    CREATE FUNCTION pghub.lead(task text, owner text, lease interval) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
      WITH taken AS (
        INSERT INTO pghub.leases AS l (task, owner, until) VALUES (lead.task, lead.owner, clock_timestamp() + lease)
        ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET owner = excluded.owner, until = excluded.until
        WHERE l.owner = excluded.owner OR l.until < clock_timestamp()
        RETURNING 1)
      SELECT EXISTS (SELECT FROM taken)
    $$;
    COMMENT ON FUNCTION pghub.lead IS 'Takes or keeps a task.';

    CREATE FUNCTION pghub.resign(task text, owner text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
      DELETE FROM pghub.leases l WHERE l.task = resign.task AND l.owner = resign.owner
    $$;
    COMMENT ON FUNCTION pghub.resign IS 'Gives a task up.';

    -- The transactions of a snapshot that had not ended, as an array for an index to look up.
    CREATE FUNCTION pghub.running(pg_snapshot) RETURNS xid8[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT ARRAY(SELECT pg_snapshot_xip($1))';
    COMMENT ON FUNCTION pghub.running IS 'The transactions of a snapshot that had not ended.';

    -- The numbers of transactions that came from another server begin here; see pghub.adopt.
    CREATE FUNCTION pghub.adopted() RETURNS xid8
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$SELECT '4611686018427387904'::xid8$$;
    COMMENT ON FUNCTION pghub.adopted IS 'Part of pghub.adopt.';

    -- Writes a tick, if there is anything new, and says what it has. Two callers at a time do no harm: the snapshot is taken in
    -- a statement after the one that waited for the lock, so a later tick has a later snapshot. That needs READ COMMITTED. The
    -- commit of the tick is flushed, with all that was committed before it: what a tick shows, no crash takes back. A transaction
    -- that has a number is missing in its own snapshot, as if it had ended; so it makes no tick.
    CREATE FUNCTION pghub.tick(OUT tick bigint, OUT events bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
    #variable_conflict use_column
    DECLARE
      before  record;
      fresh   record;
      this    pghub.ticks;
      part    bigint;
      pending xid8[];  -- transactions that had not ended then: found out once, and not for each table of the log
    BEGIN
      IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'pghub.tick: needs READ COMMITTED, not %', upper(current_setting('transaction_isolation')) USING ERRCODE = 'invalid_transaction_state';
      END IF;
      IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'pghub.tick: not in a transaction that has written something' USING ERRCODE = 'active_sql_transaction';
      END IF;
      PERFORM pg_advisory_xact_lock(1885816930, 2);
      SELECT t.*, right(t.tableoid::regclass::text, 1)::bigint AS part, t.xmin::text::bigint AS writer INTO before FROM pghub.ticks t ORDER BY t.tick DESC LIMIT 1;
      part := coalesce(pg_sequence_last_value('pghub.log_table'::regclass), 0);
      IF before.part <> part THEN  -- a rotation was rolled back, which setval is not
        part := before.part;
        PERFORM setval('pghub.log_table', part);
      END IF;
      IF before.tick IS NULL THEN  -- a dump of the schema alone was restored; all events come after this tick
        INSERT INTO pghub.stream_settings DEFAULT VALUES ON CONFLICT DO NOTHING;
        EXECUTE format('INSERT INTO pghub.ticks_%s SELECT pghub.tick_at(now_at), now_at, ''3:3:'', 0, 0, false FROM clock_timestamp() AS now_at', part);
        RETURN;
      END IF;
      pending := ARRAY(SELECT pg_snapshot_xip(before.snapshot));
      SELECT count(*) AS events, coalesce(sum(l.bytes), 0) AS bytes, pg_current_snapshot() AS snapshot INTO fresh FROM (
        SELECT coalesce(octet_length(value), 0) + coalesce(octet_length(headers), 0) + octet_length(topic) + 40 AS bytes
        FROM pghub.log WHERE xid >= pg_snapshot_xmax(before.snapshot) AND xid < pghub.adopted()
        UNION ALL
        SELECT coalesce(octet_length(value), 0) + coalesce(octet_length(headers), 0) + octet_length(topic) + 40
        FROM pghub.log WHERE xid = ANY (pending)) AS l;
      -- The row of a tick is written after its snapshot was taken. Where its writer has a smaller number, a restore wrote it. (A row's xmin has
      -- 32 bits, which come again.)
      IF pg_snapshot_xmax(fresh.snapshot) < pg_snapshot_xmax(before.snapshot)
        OR (before.writer - pg_snapshot_xmax(before.snapshot)::text::bigint) & 4294967295 >= 2147483648
      THEN
        PERFORM pghub.adopt();
        RETURN;
      ELSIF fresh.events = 0 THEN
        RETURN;
      END IF;
      this.at := clock_timestamp();
      this.tick := greatest(before.tick + 1, pghub.tick_at(this.at));
      this.snapshot := fresh.snapshot;
      this.events := before.events + fresh.events;
      this.bytes := before.bytes + fresh.bytes;
      this.large := fresh.events > 10000 OR fresh.bytes > 8388608;
      IF part = 0 THEN
        INSERT INTO pghub.ticks_0 SELECT this.*;
      ELSIF part = 1 THEN
        INSERT INTO pghub.ticks_1 SELECT this.*;
      ELSE
        INSERT INTO pghub.ticks_2 SELECT this.*;
      END IF;
      IF this.large THEN
        EXECUTE format('INSERT INTO pghub.runs_%s SELECT $1, max(id), xid FROM pghub.log
            WHERE (xid >= pg_snapshot_xmax($2) AND xid < pghub.adopted() OR xid = ANY (pghub.running($2))) AND pg_visible_in_snapshot(xid, $3) GROUP BY xid', part)
          USING this.tick, before.snapshot, this.snapshot;
      END IF;
      IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
      END IF;
      tick := this.tick;
      events := fresh.events;
    END $$;
    COMMENT ON FUNCTION pghub.tick IS 'Makes what was committed since the last tick readable.';

    -- A logical restore brings transaction numbers of another server, which come again here. So every tick becomes a large one, whose
    -- transactions are written down with their order, and their numbers go to where no server ever comes. Positions stay what
    -- they are. What no tick had yet is what this transaction has written: the next tick finds it. So is what was published here since:
    -- its rows are younger than those of the ticks, and than the index, which a restore makes when the log is filled.
    CREATE FUNCTION pghub.adopt() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    DECLARE
      last     pghub.ticks;
      before   pg_snapshot;
      t        record;
      restored integer;  -- so old, or older, are the rows of the log that were restored
    BEGIN
      LOCK TABLE pghub.log, pghub.ticks, pghub.runs IN ACCESS EXCLUSIVE MODE;
      restored := least((SELECT min(age(k.xmin)) FROM pghub.ticks k),
        (SELECT min(age(c.xmin)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid IN ('pghub.log_0'::regclass, 'pghub.log_1'::regclass, 'pghub.log_2'::regclass)));
      FOR t IN SELECT k.*, right(k.tableoid::regclass::text, 1) AS part FROM pghub.ticks k ORDER BY k.tick LOOP
        IF before IS NOT NULL AND NOT t.large THEN
          EXECUTE format('INSERT INTO pghub.runs_%s SELECT $1, max(l.id), l.xid FROM pghub.log l
              WHERE (l.xid >= pg_snapshot_xmax($2) AND l.xid < pg_snapshot_xmax($3) OR l.xid = ANY (pghub.running($2))) AND pg_visible_in_snapshot(l.xid, $3)
                AND age(l.xmin) >= $4
              GROUP BY l.xid', t.part) USING t.tick, before, t.snapshot, restored;
        END IF;
        before := t.snapshot;
      END LOOP;
      UPDATE pghub.ticks SET large = true WHERE NOT large;
      UPDATE pghub.log l SET xid = CASE WHEN age(l.xmin) >= restored AND EXISTS (SELECT FROM pghub.runs r WHERE r.xid = l.xid)
        THEN (l.xid::text::numeric + pghub.adopted()::text::numeric)::text::xid8 ELSE pg_current_xact_id() END
      WHERE l.xid < pghub.adopted();
      UPDATE pghub.runs SET xid = (xid::text::numeric + pghub.adopted()::text::numeric)::text::xid8 WHERE xid < pghub.adopted();
      SELECT k.* INTO last FROM pghub.ticks k ORDER BY k.tick DESC LIMIT 1;
      -- A tick without events. What is at work now may still publish, and is not seen.
      EXECUTE format('INSERT INTO pghub.ticks_%s SELECT greatest($1 + 1, pghub.tick_at(now_at)), now_at, pghub.ended(), $2, $3, false FROM clock_timestamp() AS now_at',
        (SELECT last_value FROM pghub.log_table)) USING last.tick, last.events, last.bytes;
    END $$;
    COMMENT ON FUNCTION pghub.adopt IS 'Part of pghub.tick: takes over what was restored.';

    -- The last tick before a time. Its number is not below its time, so those of later times are looked for from there on: a look at the times
    -- alone would go through all ticks.
    CREATE FUNCTION pghub.tick_before(since timestamptz) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
      SELECT max(t.tick) FROM pghub.ticks t WHERE t.tick < coalesce(
        (SELECT l.tick FROM pghub.ticks l WHERE l.tick >= pghub.tick_at(since) AND l.at >= since ORDER BY l.tick LIMIT 1), 9223372036854775807)
    $$;
    COMMENT ON FUNCTION pghub.tick_before IS 'The last tick before a time.';

    -- Goes on to the next of the three tables, and empties it, once the events of the one that is written are older than half of the
    -- retention. Lock first, look then: a writer that still holds the table has not committed, and a look before the lock would
    -- not see what it writes. Nobody waits for the lock for long, so that nobody waits behind it.
    CREATE FUNCTION pghub.rotate() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
    DECLARE
      part    bigint := (SELECT last_value FROM pghub.log_table);
      next    bigint := (part + 1) % 3;
      retain  interval := (SELECT s.retain FROM pghub.stream_settings s);
      since   timestamptz;
      expires timestamptz;
      horizon pg_snapshot;
      oldest  bigint;   -- the horizon's tick
      closing pg_snapshot;
      used    boolean;
      late    boolean;
    BEGIN
      IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'pghub.rotate: needs READ COMMITTED, not %', upper(current_setting('transaction_isolation')) USING ERRCODE = 'invalid_transaction_state';
      END IF;
      IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'pghub.rotate: not in a transaction that has written something' USING ERRCODE = 'active_sql_transaction';
      END IF;
      EXECUTE format('SELECT min(at) FROM pghub.ticks_%s WHERE tick = (SELECT min(tick) FROM pghub.ticks_%s)', part, part) INTO since;
      IF since > clock_timestamp() - retain / 2 OR since IS NULL THEN
        RETURN false;
      END IF;
      PERFORM pg_advisory_xact_lock(1885816930, 2);
      IF part <> (SELECT right(t.tableoid::regclass::text, 1)::bigint FROM pghub.ticks t ORDER BY t.tick DESC LIMIT 1) THEN
        RETURN false;  -- another one was quicker, or was rolled back: the next tick puts the sequence back
      END IF;
      PERFORM set_config('lock_timeout', '20ms', true);
      BEGIN
        EXECUTE format('LOCK TABLE pghub.log_%s, pghub.ticks_%s, pghub.runs_%s IN ACCESS EXCLUSIVE MODE', next, next, next);
      EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        RETURN false;
      END;
      expires := clock_timestamp() - retain;
      SELECT t.snapshot, t.tick INTO horizon, oldest FROM pghub.ticks t WHERE t.tick = pghub.tick_before(expires);
      EXECUTE format('SELECT EXISTS (SELECT FROM pghub.ticks_%1$s WHERE tick >= $3 AND at >= $1)
          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE $2 IS NULL)
          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE xid >= pg_snapshot_xmax($2) AND xid < pghub.adopted())
          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE xid >= pghub.adopted())
             AND EXISTS (SELECT FROM pghub.runs r JOIN pghub.ticks t USING (tick) WHERE r.tick >= $3 AND t.tick >= $3 AND r.xid >= pghub.adopted() AND t.at >= $1)
          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE xid = ANY (pghub.running($2)))', next)
        INTO used USING expires, horizon, pghub.tick_at(expires);
      IF used OR (SELECT last_value FROM pghub.log_table) <> part THEN
        RETURN false;
      END IF;
      -- An event that was written when the table was no longer the one to write has its tick in a later one. If such go now, so do all ticks
      -- older than the retention: whoever is there is told, and does not go on without them.
      EXECUTE format('SELECT t.snapshot FROM pghub.ticks_%s t ORDER BY t.tick DESC LIMIT 1', next) INTO closing;
      EXECUTE format('SELECT EXISTS (SELECT FROM pghub.log_%1$s WHERE $1 IS NULL)
          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE xid >= pg_snapshot_xmax($1) AND xid < pghub.adopted())
          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE xid = ANY (pghub.running($1)))', next) INTO late USING closing;
      IF late THEN
        BEGIN
          LOCK TABLE pghub.ticks IN ACCESS EXCLUSIVE MODE;  -- a page that is being read needs them
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
          RETURN false;
        END;
        DELETE FROM pghub.ticks t WHERE t.tick < oldest;
      END IF;
      EXECUTE format('TRUNCATE pghub.log_%s, pghub.ticks_%s, pghub.runs_%s', next, next, next);
      -- The last tick has to be in the table that is written, where it outlives what is before it.
      EXECUTE format('INSERT INTO pghub.ticks_%s SELECT greatest(t.tick + 1, pghub.tick_at(now_at)), now_at, t.snapshot, t.events, t.bytes, false
          FROM (SELECT * FROM pghub.ticks ORDER BY tick DESC LIMIT 1) AS t, clock_timestamp() AS now_at', next);
      PERFORM setval('pghub.log_table', next);
      RETURN true;
    END $$;
    COMMENT ON FUNCTION pghub.rotate IS 'Drops what is older than the retention, if it is time, and says whether it did.';

    -- Without a bell the sequencer never sleeps, and no writer ever sends a NOTIFY: what PREPARE TRANSACTION needs.
    CREATE FUNCTION pghub.configure(retain interval DEFAULT NULL, bell boolean DEFAULT NULL) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
      INSERT INTO pghub.stream_settings DEFAULT VALUES ON CONFLICT DO NOTHING;
      UPDATE pghub.stream_settings s SET retain = coalesce(configure.retain, s.retain), bell = coalesce(configure.bell, s.bell);
      NOTIFY "pghub.stream", 'settings';
    $$;
    COMMENT ON FUNCTION pghub.configure IS 'Sets how long the stream keeps events, at least, and whether writers wake its sequencer.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
