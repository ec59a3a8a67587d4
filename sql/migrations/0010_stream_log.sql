-- pghub 10: the stream's tables. Package stream's documentation has the whole of it.
--
-- The log is three tables of one shape, written in turn, so that what is old goes by TRUNCATE. Sequence pghub.log_table
-- names the one that is written. Ticks (see migration 12) rotate with it.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(10) THEN

    CREATE OR REPLACE FUNCTION pghub.version() RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 10';

    CREATE TABLE pghub.stream_settings (
      one    boolean  PRIMARY KEY DEFAULT true CHECK (one),
      retain interval NOT NULL DEFAULT '72 hours' CHECK (retain >= '1 second'),
      bell   boolean  NOT NULL DEFAULT true
    );
    INSERT INTO pghub.stream_settings DEFAULT VALUES;
    COMMENT ON TABLE pghub.stream_settings IS 'Set by pghub.configure.';

    CREATE SEQUENCE pghub.log_id;  -- CACHE 1: ids of one transaction grow in the order of its events, whatever session writes
    CREATE SEQUENCE pghub.log_table MINVALUE 0 MAXVALUE 2 START 0 CYCLE;

    -- value and headers are text that is JSON: jsonb would refuse \u0000 and change what was sent.
    CREATE TABLE pghub.log (
      id      bigint      NOT NULL DEFAULT nextval('pghub.log_id'),
      xid     xid8        NOT NULL DEFAULT pg_current_xact_id(),
      topic   text        NOT NULL,
      key     bigint[],
      value   text,
      headers text,
      at      timestamptz NOT NULL DEFAULT clock_timestamp(),
      CONSTRAINT in_its_parts CHECK (false) NO INHERIT
    );
    COMMENT ON TABLE pghub.log IS 'The events of the stream, in three parts that are written in turn.';
    ALTER SEQUENCE pghub.log_id OWNED BY pghub.log.id;

    -- The events of a tick are those that its snapshot sees and that of the tick before does not. events and bytes are sums since
    -- the beginning of the stream. large: its transactions are in pghub.runs, in their order.
    CREATE TABLE pghub.ticks (
      tick     bigint      NOT NULL,
      at       timestamptz NOT NULL DEFAULT clock_timestamp(),
      snapshot pg_snapshot NOT NULL,
      events   bigint      NOT NULL,
      bytes    bigint      NOT NULL,
      large    boolean     NOT NULL,
      CONSTRAINT in_its_parts CHECK (false) NO INHERIT
    );
    COMMENT ON TABLE pghub.ticks IS 'The marks that give the log its order.';

    CREATE TABLE pghub.runs (
      tick bigint NOT NULL,
      txn  bigint NOT NULL,  -- the greatest id of the transaction
      xid  xid8   NOT NULL,
      CONSTRAINT in_its_parts CHECK (false) NO INHERIT
    );
    COMMENT ON TABLE pghub.runs IS 'The transactions of large ticks.';

    -- Empty, but without an index a plan would cost as if all were read, and be compiled for that.
    CREATE INDEX ON pghub.log (xid, id);
    CREATE INDEX ON pghub.ticks (tick);
    CREATE INDEX ON pghub.runs (tick, txn);
    FOR part IN 0 .. 2 LOOP
      EXECUTE format('CREATE TABLE pghub.log_%s () INHERITS (pghub.log)', part);
      EXECUTE format('CREATE INDEX ON pghub.log_%s (xid, id)', part);
      EXECUTE format('CREATE TABLE pghub.ticks_%s (PRIMARY KEY (tick)) INHERITS (pghub.ticks)', part);
      EXECUTE format('CREATE TABLE pghub.runs_%s (PRIMARY KEY (tick, txn)) INHERITS (pghub.runs)', part);
    END LOOP;

    -- A snapshot that sees what had ended when this transaction got its number, and has ended. (In pg_current_snapshot() this one is missing,
    -- as if it had ended too.)
    CREATE FUNCTION pghub.ended() RETURNS pg_snapshot
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
      SELECT concat(least(pg_snapshot_xmin(s), top), ':', top, ':', (SELECT string_agg(x::text, ',' ORDER BY x) FROM pg_snapshot_xip(s) AS x WHERE x < top))::pg_snapshot
      FROM (SELECT s, least(pg_snapshot_xmax(s), own) AS top FROM (SELECT pg_current_snapshot() AS s, pg_current_xact_id() AS own) AS q) AS q
    $$;
    COMMENT ON FUNCTION pghub.ended IS 'The snapshot of a tick in a transaction that has written something.';

    -- The least number that a tick of this time, or of a later one, can have: Unix time in ms, so that a server that was set back in time by
    -- a restore does not give a number twice, and rounded up, so that no number is below its time.
    CREATE FUNCTION pghub.tick_at(at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT CASE WHEN isfinite(at) THEN ceil(extract(epoch FROM at) * 1000)::bigint WHEN at > now() THEN 9223372036854775807 ELSE 0 END
    $$;
    COMMENT ON FUNCTION pghub.tick_at IS 'The number of a tick from its time.';
    INSERT INTO pghub.ticks_0 (tick, at, snapshot, events, bytes, large)
    SELECT pghub.tick_at(now_at), now_at, pghub.ended(), 0, 0, false FROM clock_timestamp() AS now_at;

    -- One row for each task that one process does for all, and who does it.
    CREATE TABLE pghub.leases (
      task  text        PRIMARY KEY,
      owner text        NOT NULL,
      until timestamptz NOT NULL
    );
    COMMENT ON TABLE pghub.leases IS 'Which process does what is to be done once.';

    -- A position says what is done: all up to and with it. txn is the greatest id of the event's transaction. Where txn and id
    -- are 9223372036854775807, the whole tick is done.
    CREATE TABLE pghub.consumers (
      name   text        PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 63),
      topics text[],               -- NULL: all
      tick   bigint      NOT NULL,
      txn    bigint      NOT NULL,
      id     bigint      NOT NULL,
      token  bigint      NOT NULL DEFAULT 0,  -- a process works and stores with the last one alone
      owner  text,                 -- NULL: nobody works
      until  timestamptz,          -- when another process may take over
      deaths integer     NOT NULL DEFAULT 0,  -- of owners, without a stored position in between
      made   timestamptz NOT NULL DEFAULT clock_timestamp(),
      stored timestamptz           -- when the position was
    ) WITH (fillfactor = 50);
    COMMENT ON TABLE pghub.consumers IS 'The named consumers of the stream.';

    -- Attempts of events that failed, or that somebody may have died of.
    CREATE TABLE pghub.attempts (
      consumer text    NOT NULL REFERENCES pghub.consumers ON UPDATE CASCADE ON DELETE CASCADE,
      tick     bigint  NOT NULL,
      txn      bigint  NOT NULL,
      id       bigint  NOT NULL,
      attempts integer NOT NULL,
      error    text,
      PRIMARY KEY (consumer, tick, txn, id)
    );
    COMMENT ON TABLE pghub.attempts IS 'Events of named consumers that are tried again.';

    CREATE TABLE pghub.parked (
      consumer text        NOT NULL REFERENCES pghub.consumers ON UPDATE CASCADE ON DELETE CASCADE,
      tick     bigint      NOT NULL,
      txn      bigint      NOT NULL,
      id       bigint      NOT NULL,
      topic    text        NOT NULL,
      key      bigint[],
      value    text,
      headers  text,
      at       timestamptz NOT NULL,
      attempts integer     NOT NULL,
      error    text,                -- NULL: it was not parked, but is replayed
      parked   timestamptz NOT NULL DEFAULT clock_timestamp(),
      again    boolean     NOT NULL DEFAULT false,  -- its consumer is to take it up
      PRIMARY KEY (consumer, tick, txn, id)
    );
    CREATE INDEX ON pghub.parked (consumer) WHERE again;
    COMMENT ON TABLE pghub.parked IS 'Events that a named consumer could not handle, and events that it is to handle again.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
