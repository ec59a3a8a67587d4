package sql

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// BenchmarkCommits measures what events cost a server's commits: sessions that insert a row a transaction, with a hub that listens. It
// needs a server on the disk in question, with fsync on, and a database that it may fill:
//
//	PGHUB_COMMITS_DSN=postgres://… go test ./sql -run '^$' -bench Commits -benchtime 1x
//
// It prints the table of docs/dba.md: medians of three rounds, all kinds of watches in turn.
func BenchmarkCommits(b *testing.B) {
	dsn := os.Getenv("PGHUB_COMMITS_DSN")
	if dsn == "" {
		b.Skip("PGHUB_COMMITS_DSN names no server")
	}
	const rounds, each = 3, 4 * time.Second
	ctx := b.Context()
	pool, err := pgxpool.New(ctx, dsn)
	require.NoError(b, err)
	defer pool.Close()
	require.NoError(b, Install(ctx, pool))
	kinds := []string{"none", "change", "statement", "row", "durable"}
	for _, kind := range kinds {
		_, err := pool.Exec(ctx, fmt.Sprintf(`DROP TABLE IF EXISTS people_%[1]s; CREATE TABLE people_%[1]s (id bigserial PRIMARY KEY, name text)`, kind))
		require.NoError(b, err)
		w := Watch{Table: "people_" + kind, Level: Level(kind)}
		switch kind {
		case "none":
			continue
		case "durable":
			w.Level, w.Durable = Row, true
		}
		require.NoError(b, Apply(ctx, pool, w))
	}
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(b, err)
	_, err = stream.Open(ctx, hub, stream.Config{Live: []string{"people_durable"}})
	require.NoError(b, err)
	_, err = hub.Consumer(ctx, func(context.Context, *pghub.Event) {},
		&pghub.ConsumerConfig{Topics: []string{"people_change", "people_statement", "people_row", "people_durable"}})
	require.NoError(b, err)
	require.NoError(b, hub.Start(ctx))
	defer func() { _ = hub.Stop(context.Background()) }()

	for range b.N {
		var table strings.Builder
		for _, sessions := range []int{1, 8, 64} {
			rates, latest := make(map[string][]float64), make(map[string][]time.Duration)
			for range rounds {
				for _, kind := range kinds {
					rate, p99 := commits(b, dsn, sessions, each, "INSERT INTO people_"+kind+" (name) VALUES ('John Malkovich')")
					rates[kind], latest[kind] = append(rates[kind], rate), append(latest[kind], p99)
				}
			}
			fmt.Fprintf(&table, "| %d |", sessions)
			for _, kind := range kinds {
				fmt.Fprintf(&table, " %.0f |", medianOf(rates[kind]))
			}
			for _, kind := range kinds {
				fmt.Fprintf(&table, " %.1f |", medianOf(latest[kind]).Seconds()*1000)
			}
			table.WriteByte('\n')
		}
		b.Logf("sessions | commits/s: %v | p99 in ms\n%s", kinds, table.String())
	}
}

// commits has sessions run a statement for some time, and says how many a second, and how long 99 of 100 took at most.
func commits(b *testing.B, dsn string, sessions int, d time.Duration, statement string) (rate float64, p99 time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	conns := make([]*pgx.Conn, sessions)
	for i := range conns {
		var err error
		conns[i], err = pgx.Connect(b.Context(), dsn)
		require.NoError(b, err)
	}
	began := time.Now()
	for _, conn := range conns {
		all.Go(func() {
			var mine []time.Duration
			for time.Since(began) < d {
				at := time.Now()
				if _, err := conn.Exec(b.Context(), statement); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	all.Wait()
	passed := time.Since(began)
	for _, conn := range conns {
		_ = conn.Close(b.Context())
	}
	slices.Sort(took)
	return float64(len(took)) / passed.Seconds(), took[len(took)*99/100]
}

func medianOf[T cmp.Ordered](list []T) T {
	slices.Sort(list)
	return list[len(list)/2]
}
