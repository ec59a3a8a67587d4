-- pghub 14: named consumers.
--
-- One process at a time works for a name. Its lease says until when nobody else does; its token says that nobody else did
-- meanwhile. Whatever is stored is stored with the token, by a function that raises PGH01 if it is not the last one: so
-- a process that was stopped, or cut off, and comes back can do no harm. Tokens are times, as ticks are, so that a server that was set
-- back does not give one twice.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(14) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 14';

    -- Tokens are times, in microseconds, so that a server that was set back does not give one twice.
    CREATE FUNCTION pghub.next_token(token bigint) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
      SELECT greatest(token + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    $$;
    COMMENT ON FUNCTION pghub.next_token IS 'Part of pghub.attach and pghub.seek.';

    -- Makes the consumer where it is new, and takes it where nobody works for it. token is NULL if somebody does, who has it until
    -- wait has passed at the least. deaths: so many owners in a row ended without a word, and without progress.
    CREATE FUNCTION pghub.attach(name text, owner text, lease interval, topics text[], "from" text,
      OUT token bigint, OUT tick bigint, OUT txn bigint, OUT id bigint, OUT deaths integer, OUT wait interval)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      start pghub.consumers;  -- where it begins, if it is new
      c     pghub.consumers;
    BEGIN
      IF octet_length(attach.name) BETWEEN 1 AND 63 IS NOT TRUE THEN
        RAISE EXCEPTION 'pghub: a consumer''s name has 1 to 63 bytes' USING ERRCODE = 'invalid_parameter_value';
      END IF;
      LOOP
        IF NOT EXISTS (SELECT FROM pghub.consumers k WHERE k.name = attach.name) THEN
          IF start.tick IS NULL THEN
            SELECT l.tick, l.txn, l.id INTO start.tick, start.txn, start.id FROM pghub.locate("from") AS l;
          END IF;
          INSERT INTO pghub.consumers (name, topics, tick, txn, id) VALUES (attach.name, attach.topics, start.tick, start.txn, start.id)
          ON CONFLICT DO NOTHING;
        END IF;
        SELECT k.* INTO c FROM pghub.consumers k WHERE k.name = attach.name FOR UPDATE;
        EXIT WHEN FOUND;  -- else somebody has just forgotten it
      END LOOP;
      IF c.owner <> attach.owner AND c.until > clock_timestamp() THEN
        wait := c.until - clock_timestamp();
        RETURN;
      END IF;
      UPDATE pghub.consumers k SET owner = attach.owner, until = clock_timestamp() + lease, token = pghub.next_token(k.token), topics = attach.topics,
        deaths = CASE WHEN c.owner IS NULL THEN 0 WHEN c.owner = attach.owner THEN k.deaths ELSE k.deaths + 1 END
      WHERE k.name = attach.name
      RETURNING k.token, k.tick, k.txn, k.id, k.deaths INTO attach.token, attach.tick, attach.txn, attach.id, attach.deaths;
    END $$;
    COMMENT ON FUNCTION pghub.attach IS 'Takes a named consumer for a process, if it is free.';

    CREATE FUNCTION pghub.fenced(name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
      RAISE EXCEPTION 'pghub: somebody else works for consumer % now', quote_literal(name) USING ERRCODE = 'PGH01';
    END $$;
    COMMENT ON FUNCTION pghub.fenced IS 'Says that a token is out of date.';

    -- Keeps the lease, and stores a position if it is ahead of the one that is stored, or back says that it need not be. A NULL
    -- position: keeps the lease alone.
    --
    -- A server may have been set back since the caller last asked: by a failover that lost commits, or by a crash where
    -- synchronous_commit is off. Two things show it, and are PGH02: what is stored is before since, which the caller knows to have been
    -- stored; or the position is ahead in a tick that the server does not know (and that is not among those that it has dropped).
    CREATE FUNCTION pghub.store(name text, token bigint, lease interval, tick bigint, txn bigint, id bigint, back boolean DEFAULT false,
      since_tick bigint DEFAULT NULL, since_txn bigint DEFAULT NULL, since_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      c pghub.consumers;
    BEGIN
      UPDATE pghub.consumers k SET until = clock_timestamp() + lease, stored = clock_timestamp(), deaths = 0,
        tick = store.tick, txn = store.txn, id = store.id
      WHERE k.name = store.name AND k.token = store.token
        AND ((store.tick, store.txn, store.id) > (k.tick, k.txn, k.id)
             AND ((since_tick, since_txn, since_id) > (k.tick, k.txn, k.id)) IS NOT TRUE
             AND (EXISTS (SELECT FROM pghub.ticks t WHERE t.tick = store.tick) OR store.tick < (SELECT min(t.tick) FROM pghub.ticks t))
             OR store.back);
      IF FOUND THEN
        RETURN;
      END IF;
      UPDATE pghub.consumers k SET until = clock_timestamp() + lease WHERE k.name = store.name AND k.token = store.token RETURNING k.* INTO c;
      IF NOT FOUND THEN
        PERFORM pghub.fenced(store.name);
      ELSIF (since_tick, since_txn, since_id) > (c.tick, c.txn, c.id) OR (store.tick, store.txn, store.id) > (c.tick, c.txn, c.id) THEN
        RAISE EXCEPTION 'pghub: position % of consumer % is not one of this server, which has been set back',
          concat_ws('.', store.tick, store.txn, store.id), quote_literal(store.name) USING ERRCODE = 'PGH02';
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.store IS 'Stores how far a consumer has come.';

    CREATE FUNCTION pghub.detach(name text, token bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    BEGIN
      UPDATE pghub.consumers k SET owner = NULL, until = NULL, deaths = 0 WHERE k.name = detach.name AND k.token = detach.token;
      IF FOUND THEN
        PERFORM pg_notify('pghub.stream', 'free ' || detach.name);
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.detach IS 'Gives a consumer up, so that another process can take over at once.';

    -- Locks the consumer against its being taken meanwhile.
    CREATE FUNCTION pghub.holding(name text, token bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    BEGIN
      PERFORM FROM pghub.consumers k WHERE k.name = holding.name AND k.token = holding.token FOR UPDATE;
      IF NOT FOUND THEN
        PERFORM pghub.fenced(holding.name);
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.holding IS 'Fails unless the token is the last one.';

    -- Counts an attempt that begins, or that failed with error, and says which one it is.
    CREATE FUNCTION pghub.attempt(name text, token bigint, tick bigint, txn bigint, id bigint, attempts integer, error text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      n integer;
    BEGIN
      PERFORM pghub.holding(attempt.name, attempt.token);
      INSERT INTO pghub.attempts AS a (consumer, tick, txn, id, attempts, error)
      VALUES (attempt.name, attempt.tick, attempt.txn, attempt.id, coalesce(attempt.attempts, 1), attempt.error)
      ON CONFLICT ON CONSTRAINT attempts_pkey DO UPDATE
        SET attempts = coalesce(attempt.attempts, a.attempts + 1), error = coalesce(attempt.error, a.error)
      RETURNING a.attempts INTO n;
      RETURN n;
    END $$;
    COMMENT ON FUNCTION pghub.attempt IS 'Stores how often an event was tried.';

    -- Forgets the attempts of an event that is done.
    CREATE FUNCTION pghub.succeeded(name text, token bigint, tick bigint, txn bigint, id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    BEGIN
      PERFORM pghub.holding(succeeded.name, succeeded.token);
      DELETE FROM pghub.attempts a WHERE a.consumer = succeeded.name AND a.tick = succeeded.tick AND a.txn = succeeded.txn AND a.id = succeeded.id;
      DELETE FROM pghub.parked p WHERE p.consumer = succeeded.name AND p.tick = succeeded.tick AND p.txn = succeeded.txn AND p.id = succeeded.id AND p.again;
    END $$;
    COMMENT ON FUNCTION pghub.succeeded IS 'Forgets the attempts of an event.';

    CREATE FUNCTION pghub.park(name text, token bigint, tick bigint, txn bigint, id bigint, topic text, key bigint[], value text, headers text, at timestamptz,
      attempts integer, error text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    BEGIN
      PERFORM pghub.holding(park.name, park.token);
      INSERT INTO pghub.parked AS p (consumer, tick, txn, id, topic, key, value, headers, at, attempts, error)
      VALUES (park.name, park.tick, park.txn, park.id, park.topic, park.key, park.value, park.headers, park.at, park.attempts, park.error)
      ON CONFLICT ON CONSTRAINT parked_pkey DO UPDATE
        SET attempts = excluded.attempts, error = excluded.error, parked = clock_timestamp(), again = false;
      DELETE FROM pghub.attempts a WHERE a.consumer = park.name AND a.tick = park.tick AND a.txn = park.txn AND a.id = park.id;
    END $$;
    COMMENT ON FUNCTION pghub.park IS 'Puts an event aside that cannot be handled.';

    -- What operators do with parked events, and with positions.

    CREATE FUNCTION pghub.unpark(name text, tick bigint DEFAULT NULL, txn bigint DEFAULT NULL, id bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      n bigint;
    BEGIN
      UPDATE pghub.parked p SET again = true, attempts = 0
      WHERE p.consumer = unpark.name AND (unpark.tick IS NULL OR p.tick = unpark.tick) AND (unpark.txn IS NULL OR p.txn = unpark.txn) AND (unpark.id IS NULL OR p.id = unpark.id);
      GET DIAGNOSTICS n = ROW_COUNT;
      PERFORM pg_notify('pghub.stream', 'again ' || unpark.name);
      RETURN n;
    END $$;
    COMMENT ON FUNCTION pghub.unpark IS 'Has a consumer try parked events again: one, those of a tick, or all; says how many.';

    CREATE FUNCTION pghub.seek(name text, "to" text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      goal record;
    BEGIN
      IF "to" = 'latest' THEN
        SELECT pghub.newest() AS tick, 9223372036854775807 AS txn, 9223372036854775807 AS id INTO goal;
      ELSE
        SELECT * INTO goal FROM pghub.locate("to");
      END IF;
      UPDATE pghub.consumers k SET tick = goal.tick, txn = goal.txn, id = goal.id, token = pghub.next_token(k.token), owner = NULL, until = NULL, deaths = 0
      WHERE k.name = seek.name;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'pghub.seek: there is no consumer %', quote_nullable(seek.name) USING ERRCODE = 'undefined_object';
      END IF;
      DELETE FROM pghub.attempts a WHERE a.consumer = seek.name;
      PERFORM pg_notify('pghub.stream', 'free ' || seek.name);
    END $$;
    COMMENT ON FUNCTION pghub.seek IS 'Has a consumer go on behind a position: earliest, latest, a position, or a time. Whoever works for it begins anew there.';

    -- Puts events of a time once more before a consumer, which stays where it is: those of its topics, up to its position. What comes
    -- behind that it gets anyway. Whoever works for it stores the position once a second: so this waits until that has happened
    -- twice, ten seconds at most, or there is no need.
    CREATE FUNCTION pghub.replay(name text, since timestamptz, until timestamptz DEFAULT clock_timestamp(), topics text[] DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      at     record;
      ev     record;
      c      pghub.consumers;
      stored timestamptz;
      stores int := -1;
      stop   bigint := coalesce(pghub.tick_before(replay.until), 0);
      n      bigint := 0;
    BEGIN
      FOR i IN 1 .. 200 LOOP
        SELECT k.* INTO c FROM pghub.consumers k WHERE k.name = replay.name;
        IF NOT FOUND THEN
          RAISE EXCEPTION 'pghub.replay: there is no consumer %', quote_nullable(replay.name) USING ERRCODE = 'undefined_object';
        ELSIF stores < 0 OR c.stored IS DISTINCT FROM stored THEN
          stores := stores + 1;
          stored := c.stored;
        END IF;
        EXIT WHEN c.tick > stop OR c.tick = stop AND c.txn = 9223372036854775807 OR stores = 2 OR c.until > clock_timestamp() IS NOT TRUE;
        PERFORM pg_sleep(0.05);
      END LOOP;
      IF c.topics IS NOT NULL THEN
        topics := CASE WHEN topics IS NULL THEN c.topics ELSE ARRAY(SELECT unnest(c.topics) INTERSECT SELECT unnest(topics)) END;
      END IF;
      SELECT * INTO at FROM pghub.locate(since::text);
      WHILE (at.tick, at.txn) < (stop, 9223372036854775807) AND (at.tick, at.txn, at.id) < (c.tick, c.txn, c.id) LOOP
        FOR ev IN SELECT * FROM pghub.page(at.tick, at.txn, at.id, topics) LOOP
          IF ev.topic IS NOT NULL AND ev.tick <= stop AND (ev.tick, ev.txn, ev.id) <= (c.tick, c.txn, c.id) THEN
            INSERT INTO pghub.parked (consumer, tick, txn, id, topic, key, value, headers, at, attempts, again)
            VALUES (replay.name, ev.tick, ev.txn, ev.id, ev.topic, ev.key, ev.value, ev.headers, ev.at, 0, true)
            ON CONFLICT ON CONSTRAINT parked_pkey DO UPDATE SET again = true, attempts = 0;
            n := n + 1;
          END IF;
        END LOOP;
        SELECT ev.tick, ev.txn, ev.id INTO at;
      END LOOP;
      PERFORM pg_notify('pghub.stream', 'again ' || replay.name);
      RETURN n;
    END $$;
    COMMENT ON FUNCTION pghub.replay IS 'Has a consumer handle once more what it has had in a time, beside what it is doing; says how many.';

    CREATE FUNCTION pghub.forget(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    #variable_conflict use_column
    BEGIN
      DELETE FROM pghub.consumers k WHERE k.name = forget.name;
      RETURN FOUND;
    END $$;
    COMMENT ON FUNCTION pghub.forget IS 'Drops a named consumer with its parked events, and says whether there was one.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
