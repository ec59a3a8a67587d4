-- pghub 13: reading the stream.
--
-- The order of events is (tick, greatest id of their transaction, id): transactions are whole, and everybody sees the same.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(13) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 13';

    -- Returns up to 10,000 events, and 8 MB unless a single one is larger, of what comes after a position, and as its last row, without a
    -- topic, how far that goes. The value of that row says:
    --   more     there is more
    --   end      there was no more
    --   expired  what comes after the position is older than what is kept: go on from this row's position
    --   foreign  there was no such tick: the position is of another server, or of another time of this one; so is this row's
    -- topics: only events of these; NULL: of all. In a transaction with a snapshot of its own it would not see what rotation has
    -- emptied meanwhile, so it needs READ COMMITTED.
    CREATE FUNCTION pghub.page(after_tick bigint, after_txn bigint, after_id bigint, topics text[])
    RETURNS TABLE (tick bigint, txn bigint, id bigint, topic text, key bigint[], value text, headers text, at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET max_parallel_workers_per_gather = 0 AS $$
    #variable_conflict use_column
    DECLARE
      last    CONSTANT bigint := 9223372036854775807;
      here    pghub.ticks;  -- the tick of the position
      before  pghub.ticks;  -- the tick before the first to be read
      first   pghub.ticks;
      found   record;
      run     record;       -- the ticks of a page: list, their xmax as tops, and until, the last one
      pending xid8[];       -- transactions that had not ended before: found out once, and not for each table of the log
    BEGIN
      IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'pghub.page: needs READ COMMITTED, not %', upper(current_setting('transaction_isolation')) USING ERRCODE = 'invalid_transaction_state';
      END IF;
      -- The first query locks all parts of pghub.ticks against rotation until the end of the transaction.
      SELECT t.* INTO here FROM pghub.ticks t WHERE t.tick = after_tick;
      IF here.tick IS NOT NULL AND after_txn = last THEN
        before := here;
      ELSIF here.tick IS NOT NULL THEN
        SELECT t.* INTO before FROM pghub.ticks t WHERE t.tick < after_tick ORDER BY t.tick DESC LIMIT 1;
      END IF;
      IF before.tick IS NULL THEN
        SELECT t.* INTO first FROM pghub.ticks t ORDER BY t.tick LIMIT 1;
        RETURN QUERY SELECT first.tick, last, last, NULL::text, NULL::bigint[],
          CASE WHEN after_tick <= first.tick THEN 'expired' ELSE 'foreign' END, NULL::text, first.at;
        RETURN;
      END IF;

      SELECT t.* INTO first FROM pghub.ticks t WHERE t.tick > before.tick ORDER BY t.tick LIMIT 1;
      IF first.large THEN
        -- Its transactions in their order, each by the index of the log.
        FOR found IN
          SELECT r.* FROM (
            SELECT r.*, sum(r.size) OVER (ORDER BY r.txn, r.id) - r.size AS ahead FROM (
              SELECT r.txn, l.id, l.topic, l.key, l.value, l.headers, l.at, coalesce(octet_length(l.value), 0) AS size
              FROM pghub.runs r
              CROSS JOIN LATERAL (
                SELECT l.* FROM pghub.log l
                WHERE l.xid = r.xid AND l.id > CASE WHEN r.tick = after_tick AND r.txn = after_txn THEN after_id ELSE 0 END
                ORDER BY l.id LIMIT 10000) AS l
              WHERE r.tick = first.tick AND r.txn >= CASE WHEN first.tick = after_tick THEN after_txn ELSE 0 END
              ORDER BY r.txn, l.id LIMIT 10000) AS r) AS r
          WHERE r.ahead < 8388608 ORDER BY r.txn, r.id
        LOOP
          tick := first.tick;
          txn := found.txn;
          id := found.id;
          IF topics IS NULL OR found.topic = ANY (topics) THEN
            topic := found.topic;
            key := found.key;
            value := found.value;
            headers := found.headers;
            at := found.at;
            RETURN NEXT;
          END IF;
        END LOOP;
        IF tick IS NULL THEN  -- there was none left
          tick := first.tick;
          txn := last;
          id := last;
        END IF;
        topic := NULL;
        key := NULL;
        value := 'more';
        headers := NULL;
        at := first.at;
        RETURN NEXT;
        RETURN;
      END IF;

      -- As many ticks as fit into a page. One that is not large does. Behind a large one, which may have been restored, so that its snapshot
      -- is another server's, there is but one. If there is none, the query that follows finds nothing, and is planned: that takes a session longer than
      -- to run it twenty times, and so no event has to wait for it.
      SELECT array_agg(t.tick ORDER BY t.tick) AS list, array_agg(pg_snapshot_xmax(t.snapshot) ORDER BY t.tick) AS tops,
        max(t.tick) AS until INTO run
      FROM pghub.ticks t WHERE t.tick >= first.tick AND t.tick < coalesce(
        (SELECT b.tick FROM pghub.ticks b
         WHERE b.tick > before.tick AND (b.events > before.events + 10000 OR b.bytes > before.bytes + 8388608 OR before.large AND b.tick > first.tick)
         ORDER BY b.tick LIMIT 1), last);
      pending := ARRAY(SELECT pg_snapshot_xip(before.snapshot) WHERE run.until IS NOT NULL);
      -- One look at the log for all of these ticks. A transaction is in the first tick that sees it. For most that is the first whose xmax
      -- is above it. Some were not seen by that one, since they had not ended: they are in the tick behind the last one that lists them.
      RETURN QUERY
        SELECT e.tick, e.txn, e.id, e.topic, e.key, e.value, e.headers, e.at FROM (
          SELECT run.list[1 + CASE WHEN late.unseen IS NULL THEN width_bucket(l.xid, run.tops) ELSE width_bucket(late.unseen, run.list) END] AS tick,
                 max(l.id) OVER (PARTITION BY l.xid) AS txn, l.*
          FROM (SELECT l.* FROM pghub.log l WHERE l.xid >= pg_snapshot_xmax(before.snapshot) AND l.xid < run.tops[cardinality(run.tops)]
                UNION ALL
                SELECT l.* FROM pghub.log l WHERE l.xid = ANY (pending)) AS l
          LEFT JOIN (SELECT x.xid, max(t.tick) AS unseen FROM pghub.ticks t CROSS JOIN pg_snapshot_xip(t.snapshot) AS x(xid)
                     WHERE t.tick > before.tick AND t.tick <= run.until GROUP BY x.xid) AS late ON late.xid = l.xid) AS e
        WHERE (e.tick, e.txn, e.id) > (after_tick, after_txn, after_id) AND (topics IS NULL OR e.topic = ANY (topics))
        ORDER BY e.tick, e.txn, e.id;
      RETURN QUERY
        SELECT t.tick, last, last, NULL::text, NULL::bigint[],
               CASE WHEN EXISTS (SELECT FROM pghub.ticks n WHERE n.tick > t.tick) THEN 'more' ELSE 'end' END, NULL::text, t.at
        FROM pghub.ticks t WHERE t.tick = coalesce(run.until, before.tick);
    END $$;
    COMMENT ON FUNCTION pghub.page IS 'The events that follow a position, in their order.';

    -- A position from what people write: earliest, latest, a position as 1700000000000 or 1700000000000.7.5, or a time.
    CREATE FUNCTION pghub.locate("where" text, OUT tick bigint, OUT txn bigint, OUT id bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      part text[] := string_to_array("where", '.');
    BEGIN
      txn := 9223372036854775807;
      id := 9223372036854775807;
      IF NOT EXISTS (SELECT FROM pghub.ticks) THEN
        PERFORM pghub.tick();
      END IF;
      IF "where" = 'earliest' THEN
        SELECT min(t.tick) INTO tick FROM pghub.ticks t;
      ELSIF "where" = 'latest' THEN
        IF (SELECT k.tick FROM pghub.tick() AS k) IS NOT NULL THEN
          NOTIFY "pghub.stream", 'tick';  -- others wait for it
        END IF;
        SELECT max(t.tick) INTO tick FROM pghub.ticks t;
      ELSE
        BEGIN
          IF "where" ~ '^[0-9]{1,19}$' THEN
            tick := "where"::bigint;
          ELSIF "where" ~ '^[0-9]{1,19}(\.[0-9]{1,19}){2}$' THEN
            tick := part[1]::bigint;
            txn := part[2]::bigint;
            id := part[3]::bigint;
          ELSE
            tick := coalesce(pghub.tick_before("where"::timestamptz), (SELECT min(t.tick) FROM pghub.ticks t));
          END IF;
        EXCEPTION WHEN data_exception THEN
          RAISE EXCEPTION 'pghub: % is no position: earliest, latest, one such as 1700000000000 or 1700000000000.7.5, or a time', quote_nullable("where")
            USING ERRCODE = 'invalid_parameter_value';
        END;
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.locate IS 'A position of the stream from its text, or from a time.';

    -- The last tick, once it shows all that is committed now. The caller's transaction may stay open, and a tick of its own would keep
    -- everybody's from being made meanwhile: so this waits for the sequencer, ten seconds at most, if there is one.
    CREATE FUNCTION pghub.newest() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
    DECLARE
      now_seen CONSTANT pg_snapshot := pg_current_snapshot();
      own      CONSTANT xid8 := pg_current_xact_id_if_assigned();
      newest   pghub.ticks;
    BEGIN
      IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'pghub.seek: needs READ COMMITTED, not %', upper(current_setting('transaction_isolation')) USING ERRCODE = 'invalid_transaction_state';
      END IF;
      FOR i IN 1 .. 2000 LOOP
        SELECT t.* INTO newest FROM pghub.ticks t ORDER BY t.tick DESC LIMIT 1;
        EXIT WHEN newest.tick IS NULL;
        IF NOT EXISTS (
          SELECT FROM pghub.log l WHERE l.xid >= pg_snapshot_xmax(newest.snapshot) AND l.xid < pghub.adopted()
            AND pg_visible_in_snapshot(l.xid, now_seen) AND l.xid IS DISTINCT FROM own
          UNION ALL
          SELECT FROM pghub.log l WHERE l.xid = ANY (pghub.running(newest.snapshot))
            AND pg_visible_in_snapshot(l.xid, now_seen) AND l.xid IS DISTINCT FROM own)
        THEN
          RETURN newest.tick;
        END IF;
        EXIT WHEN NOT EXISTS (SELECT FROM pghub.leases l WHERE l.task = 'sequencer' AND l.until > clock_timestamp());
        PERFORM pg_sleep(0.005);
      END LOOP;
      RETURN (SELECT k.tick FROM pghub.locate('latest') AS k);
    END $$;
    COMMENT ON FUNCTION pghub.newest IS 'Part of pghub.seek.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
