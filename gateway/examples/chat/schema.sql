-- A chat is a table. Whoever inserts a row, from wherever, has said something.
CREATE TABLE IF NOT EXISTS chat_messages (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  author text NOT NULL CHECK (length(author) BETWEEN 1 AND 40),
  body   text NOT NULL CHECK (length(body) BETWEEN 1 AND 1000),
  at     timestamptz NOT NULL DEFAULT now()
);

-- Each new row becomes an event on topic chat, with the row.
SELECT pghub.watch('chat_messages', topic => 'chat', operations => '{insert}');
