package sql

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// peers are the triggers that others recommend, written anew from what they describe: pg_eventserv's sends each row as
// jsonb from a BEFORE trigger, pg-hub-n's the keys of a statement's rows, and none of them from 300 rows on.
const peers = `
	CREATE FUNCTION eventserv() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
	  document jsonb;
	BEGIN
	  SELECT to_jsonb(NEW.*) INTO document;
	  document := jsonb_set(document, '{dml_action}', to_jsonb(TG_OP));
	  PERFORM (SELECT pg_notify('people_eventserv', document::text));
	  RETURN NEW;
	END $$;
	CREATE FUNCTION hubn() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
	  n    int := 0;
	  keys text := '';
	BEGIN
	  SELECT count(id) FROM fresh INTO n;
	  IF n < 300 THEN
	    SELECT string_agg(id::text, ',') FROM fresh INTO keys;
	  END IF;
	  PERFORM pg_notify('people_hubn', 'e' || keys || ':{"op":"' || lower(substring(TG_OP, 1, 3)) || '","count":' || n || '}');
	  RETURN NULL;
	END $$;
	CREATE TRIGGER eventserv BEFORE INSERT ON people_eventserv FOR EACH ROW EXECUTE FUNCTION eventserv();
	CREATE TRIGGER hubn AFTER INSERT ON people_hubn REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION hubn();`

// BenchmarkInsert measures what a watch costs a writer: the time of an INSERT into tables that are watched at no level, at
// each level, and by the peers' triggers, in turn within every round, with one connection listening. Each INSERT is a
// transaction. It reports the medians of the rounds' own quotients: how many times as long as without a trigger.
//
//	go test ./sql -run '^$' -bench Insert -benchtime 300x
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{1, 100, 299, 10_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			kinds := []string{"none", "change", "statement", "hubn", "row", "eventserv"}
			bench := setUp(b, "people_change", "people_statement", "people_row", "people_eventserv", "people_hubn")
			for _, kind := range kinds {
				bench.do(`CREATE TABLE people_` + kind + ` (id bigint PRIMARY KEY, name text, height numeric, born timestamptz, tags text[], meta jsonb)`)
			}
			bench.do(peers)
			for _, level := range []Level{Change, Statement, Row} {
				require.NoError(b, Apply(b.Context(), bench.conn, Watch{Table: "people_" + string(level), Level: level}))
			}
			ctx, cancel := context.WithCancel(b.Context())
			events := make(chan int)
			go func() {
				n := 0
				for {
					if _, err := bench.ear.WaitForNotification(ctx); err != nil {
						events <- n
						return
					}
					n++
				}
			}()

			took := map[string][]time.Duration{}
			next := 1
			b.ResetTimer()
			for round := range b.N {
				for i := range kinds {
					kind := kinds[(i+round)%len(kinds)] // nobody always goes first
					start := time.Now()
					_, err := bench.conn.Exec(b.Context(), `INSERT INTO people_`+kind+`
						SELECT i, 'John Malkovich', 1.83, '1953-12-09', '{actor,puppeteer}', '{"city": "Christopher"}' FROM generate_series($1::bigint, $2::bigint) i`,
						next, next+rows-1)
					took[kind] = append(took[kind], time.Since(start))
					require.NoError(b, err)
				}
				next += rows
			}
			b.StopTimer()
			cancel()
			<-events
			for _, kind := range kinds {
				quotients := make([]float64, b.N)
				for i := range quotients {
					quotients[i] = float64(took[kind][i]) / float64(took["none"][i])
				}
				slices.Sort(quotients) // the median: what else the machine does shall not count
				b.ReportMetric(quotients[b.N/2], kind+"-x")
			}
			slices.Sort(took["none"])
			b.ReportMetric(float64(took["none"][b.N/2].Microseconds()), "none-µs")
			b.ReportMetric(0, "ns/op") // of different things
		})
	}
}
