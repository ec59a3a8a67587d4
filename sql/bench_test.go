package sql

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkInsert measures what a watch costs a writer: rows a second into four tables that are watched at no level,
// at level change, statement and row, in turn within every round, with one connection listening. Each INSERT is a
// transaction.
//
//	go test ./sql -run '^$' -bench Insert -benchtime 300x
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			bench := setUp(b, "people_change", "people_statement", "people_row")
			levels := []string{"none", "change", "statement", "row"}
			for _, level := range levels {
				table := "people_" + level
				bench.do(`CREATE TABLE ` + table + ` (id bigint PRIMARY KEY, name text, height numeric, born timestamptz, tags text[], meta jsonb)`)
				if level != "none" {
					require.NoError(b, Apply(b.Context(), bench.conn, Watch{Table: table, Level: Level(level)}))
				}
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
				for i := range levels {
					level := levels[(i+round)%len(levels)] // nobody always goes first
					start := time.Now()
					_, err := bench.conn.Exec(b.Context(), `INSERT INTO people_`+level+`
						SELECT i, 'John Malkovich', 1.83, '1953-12-09', '{actor,puppeteer}', '{"city": "Christopher"}' FROM generate_series($1::bigint, $2::bigint) i`,
						next, next+rows-1)
					took[level] = append(took[level], time.Since(start))
					require.NoError(b, err)
				}
				next += rows
			}
			b.StopTimer()
			cancel()
			<-events
			for _, level := range levels {
				slices.Sort(took[level]) // the median: what else the machine does shall not count
				b.ReportMetric(float64(rows)/took[level][b.N/2].Seconds(), level+"-rows/s")
			}
			b.ReportMetric(0, "ns/op") // of four different things
		})
	}
}
