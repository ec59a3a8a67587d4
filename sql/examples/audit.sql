-- A data-change audit: who changed what, kept in a table and announced as it happens. In a database with pghub in it:
--
--   psql -q -f audit.sql
--
-- The table is the record, the events say that there is something new in it: one who was away, or who gets an event
-- without its row because that was too large ("truncated":true), reads the table from the key that he knows.
-- audit.out is what comes of it.
\pset tuples_only on
CREATE SCHEMA example;
SET search_path = example, public;

CREATE TABLE accounts (
  id      int PRIMARY KEY,
  owner   text NOT NULL,
  balance numeric NOT NULL,
  secret  text
);

CREATE TABLE audit (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  who     text NOT NULL DEFAULT session_user,
  op      text NOT NULL,
  account int NOT NULL,
  was     jsonb,
  became  jsonb
);

-- What differs between the row before and the row after, without the secret. It writes as the owner of the audit,
-- which nobody else needs to be able to write.
CREATE FUNCTION audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  was    jsonb := to_jsonb(OLD) - 'secret';
  became jsonb := to_jsonb(NEW) - 'secret';
BEGIN
  INSERT INTO example.audit (op, account, was, became) VALUES (
    TG_OP, coalesce(became ->> 'id', was ->> 'id')::int,
    (SELECT jsonb_object_agg(key, value) FROM jsonb_each(was) WHERE value IS DISTINCT FROM became -> key),
    (SELECT jsonb_object_agg(key, value) FROM jsonb_each(became) WHERE value IS DISTINCT FROM was -> key));
  RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION audit();

SELECT FROM pghub.watch('audit', topic => 'audit', operations => '{insert}', exclude => '{id,at}');

LISTEN audit;

\echo 'two accounts'
INSERT INTO accounts VALUES (1, 'Ann', 100, 'xyzzy'), (2, 'Bob', 0, NULL);

\echo 'a transfer'
BEGIN;
UPDATE accounts SET balance = balance - 30 WHERE id = 1;
UPDATE accounts SET balance = balance + 30 WHERE id = 2;
COMMIT;

\echo 'one that fails leaves no trace'
BEGIN;
UPDATE accounts SET balance = balance - 300 WHERE id = 1;
ROLLBACK;

\echo 'an account is closed'
DELETE FROM accounts WHERE id = 2;

\echo 'the record'
SELECT id, who, op, account, was, became FROM audit ORDER BY id;

UNLISTEN audit;
SET client_min_messages = warning;
DROP SCHEMA example CASCADE;
