-- pghub 15: what operators see of the stream, and who may do what with it.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(15) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 15';

    CREATE FUNCTION pghub.position(tick bigint, txn bigint, id bigint) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT CASE WHEN txn = 9223372036854775807 THEN tick::text ELSE concat_ws('.', tick, txn, id) END
    $$;
    COMMENT ON FUNCTION pghub.position IS 'A position as text, as pghub.seek takes it.';

    CREATE VIEW pghub.stream_consumers AS
      SELECT c.name, c.topics, pghub."position"(c.tick, c.txn, c.id) AS "position",
             CASE WHEN c.until > clock_timestamp() THEN c.owner END AS owner,
             c.until,
             greatest(latest.events - coalesce(done.events, 0), 0) AS events_behind,  -- of all topics
             greatest(latest.bytes - coalesce(done.bytes, 0), 0) AS bytes_behind,
             coalesce(extract(epoch FROM clock_timestamp() - waiting.at), 0)::float8 AS seconds_behind,  -- age of what it has not done
             (SELECT count(*) FROM pghub.parked p WHERE p.consumer = c.name AND NOT p.again) AS parked,
             (SELECT count(*) FROM pghub.attempts a WHERE a.consumer = c.name) AS failing,
             c.made, c.stored
      FROM pghub.consumers c
      CROSS JOIN LATERAL (SELECT t.events, t.bytes FROM pghub.ticks t ORDER BY t.tick DESC LIMIT 1) AS latest
      LEFT JOIN LATERAL (SELECT t.events, t.bytes FROM pghub.ticks t WHERE t.tick <= c.tick - CASE WHEN c.txn = 9223372036854775807 THEN 0 ELSE 1 END
                         ORDER BY t.tick DESC LIMIT 1) AS done ON true
      LEFT JOIN LATERAL (SELECT t.at FROM pghub.ticks t WHERE t.tick >= c.tick + CASE WHEN c.txn = 9223372036854775807 THEN 1 ELSE 0 END
                         ORDER BY t.tick LIMIT 1) AS waiting ON waiting.at IS NOT NULL AND latest.events > coalesce(done.events, 0);
    COMMENT ON VIEW pghub.stream_consumers IS 'The named consumers of the stream, and how far they are behind.';

    CREATE VIEW pghub.stream_parked AS
      SELECT p.consumer, pghub."position"(p.tick, p.txn, p.id) AS "position", p.topic, p.key, p.value, p.headers, p.at, p.attempts, p.error, p.parked, p.again
      FROM pghub.parked p ORDER BY p.consumer, p.tick, p.txn, p.id;
    COMMENT ON VIEW pghub.stream_parked IS 'Events that a consumer could not handle, or is to handle again.';

    CREATE VIEW pghub.stream AS
      SELECT earliest.tick AS earliest, earliest.at AS earliest_at, latest.tick AS latest, latest.at AS latest_at,
             latest.events - earliest.events AS events, latest.events AS events_ever,
             (SELECT sum(pg_total_relation_size(format('pghub.%s_%s', t, n)::regclass)) FROM unnest('{log,ticks,runs}'::text[]) AS t, generate_series(0, 2) AS n)::bigint AS bytes,
             s.retain, s.bell,
             (SELECT l.owner FROM pghub.leases l WHERE l.task = 'sequencer' AND l.until > clock_timestamp()) AS sequencer
      FROM pghub.stream_settings s
      CROSS JOIN LATERAL (SELECT t.* FROM pghub.ticks t ORDER BY t.tick LIMIT 1) AS earliest
      CROSS JOIN LATERAL (SELECT t.* FROM pghub.ticks t ORDER BY t.tick DESC LIMIT 1) AS latest;
    COMMENT ON VIEW pghub.stream IS 'The stream: one row.';

    -- Everybody may publish, as everybody may NOTIFY, until that is revoked: the writers of tables with durable watches have to.
    -- Nobody else may do anything, until pghub.allow says so.
    CREATE FUNCTION pghub.allow(role regrole, what text, allowed boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      reading  text[] := '{page,locate,running,adopted,lead,resign,tick,rotate,attach,store,detach,holding,fenced,attempt,succeeded,park}';
      names    text[] := CASE what
        WHEN 'publish' THEN '{publish,capture,capture_all}'
        WHEN 'read' THEN reading
        WHEN 'administer' THEN reading || '{unpark,seek,replay,forget,configure}'::text[] END;
      relation text;
      function regprocedure;
      command  text := CASE WHEN allowed THEN 'GRANT %s ON %s TO %s' ELSE 'REVOKE %s ON %s FROM %s' END;
      who      text := CASE WHEN role = 0 THEN 'PUBLIC' ELSE role::text END;
    BEGIN
      IF names IS NULL THEN
        RAISE EXCEPTION 'pghub.allow: % is none of publish, read, administer', quote_nullable(what) USING ERRCODE = 'invalid_parameter_value';
      END IF;
      FOR function IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'pghub'::regnamespace AND p.proname = ANY (names) LOOP
        EXECUTE format(command, 'EXECUTE', 'FUNCTION ' || function, who);
      END LOOP;
      IF what <> 'publish' THEN
        FOREACH relation IN ARRAY '{log,ticks,runs,consumers,attempts,parked,leases,stream_settings,stream,stream_consumers,stream_parked}'::text[] LOOP
          EXECUTE format(command, 'SELECT', 'pghub.' || relation, who);
        END LOOP;
      END IF;
    END $$;
    COMMENT ON FUNCTION pghub.allow IS 'Lets a role (0: everybody) publish to, read, or administer the stream, or no more.';
    REVOKE ALL ON FUNCTION pghub.allow(regrole, text, boolean), pghub.adopt(), pghub.newest(), pghub.ended(), pghub.tick_at(timestamptz), pghub.tick_before(timestamptz), pghub.next_token(bigint) FROM PUBLIC;
    PERFORM pghub.allow(0, 'administer', false);

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
