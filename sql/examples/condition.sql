-- Events from a table, under a condition. In a database with pghub in it:
--
--   psql -q -f condition.sql
--
-- psql prints an event behind the command that follows its arrival. condition.out is what comes of it.
\pset tuples_only on
CREATE SCHEMA example;
SET search_path = example, public;

CREATE TABLE people (
  id     int PRIMARY KEY,
  name   text NOT NULL,
  height numeric NOT NULL
);

-- Whoever is, or becomes, taller than two metres; and whoever no longer is, for which OLD and NEW are both needed.
-- A DELETE has no NEW and an INSERT no OLD, so that each has a watch of its own name.
SELECT FROM pghub.watch('people', topic => 'tall', name => 'in', operations => '{insert}', condition => 'NEW.height > 2.0');
SELECT FROM pghub.watch('people', topic => 'tall', name => 'out', operations => '{delete}', condition => 'OLD.height > 2.0');
SELECT FROM pghub.watch('people', topic => 'tall', name => 'change', operations => '{update}', old => true,
                        condition => 'NEW.height > 2.0 OR OLD.height > 2.0');

LISTEN tall;

\echo 'one of three is tall'
INSERT INTO people VALUES (1, 'Ann', 1.80), (2, 'Bob', 2.05), (3, 'Cid', 2.00);

\echo 'one grows'
UPDATE people SET height = height + 0.01 WHERE name = 'Cid';

\echo 'nobody tall'
UPDATE people SET name = 'Anna' WHERE name = 'Ann';

\echo 'one shrinks'
UPDATE people SET height = 1.99 WHERE name = 'Bob';

\echo 'what is rolled back is not announced'
BEGIN;
UPDATE people SET height = 3;
ROLLBACK;

\echo 'the last one goes'
DELETE FROM people;

UNLISTEN tall;
SET client_min_messages = warning;
DROP SCHEMA example CASCADE;
