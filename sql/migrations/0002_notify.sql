-- pghub 2: pghub.encode and pghub.notify, the wire format from SQL.
DO $migration$
DECLARE
  caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  IF pghub.migrating(2) THEN

    -- The payload of an event: e, the keys in decimal joined by commas and, where there is a value, a colon and
    -- the value as JSON without blanks. NULL is no value, and so is JSON's null.
    CREATE FUNCTION pghub.encode(key bigint[], value jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      json text := nullif(value, 'null')::text;
    BEGIN
      IF array_ndims(key) > 1 OR array_position(key, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'pghub.encode: key % is not a list of integers without NULL', left(key::text, 100)
          USING ERRCODE = 'invalid_parameter_value';
      END IF;
      -- jsonb prints a blank behind every colon and comma between its parts. json_strip_nulls writes what it reads
      -- anew without them, at a tenth of the cost of a regular expression, so it serves wherever it has no null to strip.
      IF strpos(json, 'null') = 0 THEN
        json := json_strip_nulls(json::json)::text;
      ELSE
        json := regexp_replace(json, '("(?:[^"\\]|\\.)*")|([:,]) ', '\1\2', 'g');
      END IF;
      RETURN 'e' || coalesce(array_to_string(key, ','), '') || coalesce(':' || json, '');
    END $$;
    COMMENT ON FUNCTION pghub.encode IS 'The payload of an event with this key and value.';

    -- Sends an event when the transaction commits. Wrong topics and payloads over the limit are SQLSTATE 22023,
    -- as in pg_notify, whose texts name neither limit nor size.
    CREATE FUNCTION pghub.notify(topic text, key bigint[] DEFAULT NULL, value jsonb DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      payload text := pghub.encode(key, value);
    BEGIN
      IF topic IS NULL OR octet_length(topic) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'pghub.notify: topic % has % bytes; a topic has 1 to 63',
          coalesce(quote_literal(left(topic, 100)), 'NULL'), coalesce(octet_length(topic), 0)
          USING ERRCODE = 'invalid_parameter_value';
      ELSIF octet_length(payload) > 7999 THEN
        RAISE EXCEPTION 'pghub.notify: payload for topic % has % bytes; the limit is 7999',
          quote_literal(topic), octet_length(payload)
          USING ERRCODE = 'invalid_parameter_value', HINT = 'Send a key, and let the consumer fetch the rest.';
      END IF;
      PERFORM pg_notify(topic, payload);
    END $$;
    COMMENT ON FUNCTION pghub.notify(text, bigint[], jsonb) IS 'Sends an event when the transaction commits.';

    CREATE FUNCTION pghub.notify(topic text, key bigint, value jsonb DEFAULT NULL) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
      SELECT pghub.notify(topic, ARRAY[key], value)
    $$;
    COMMENT ON FUNCTION pghub.notify(text, bigint, jsonb) IS 'Sends an event with a key of one integer.';

    -- Without it a bare NULL or '{1,2}' as key is ambiguous between the two above: PostgreSQL prefers a string type
    -- for a literal of unknown type if one of the candidates takes it.
    CREATE FUNCTION pghub.notify(topic text, key text, value jsonb DEFAULT NULL) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
      SELECT pghub.notify(topic, key::bigint[], value)
    $$;
    COMMENT ON FUNCTION pghub.notify(text, text, jsonb) IS 'Sends an event; key is NULL or an array literal.';

  END IF;
  PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $migration$;
