package stream_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// pages watches the queries for pages of a pool.
type pages struct {
	asked, answered atomic.Int64
	last            int64         // the page whose query waits until it is cancelled; 0: none does
	waiting         chan struct{} // closed when it does
	linger          func()        // before it goes on then
}

type pageKey struct{}

func (p *pages) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(data.SQL, "FROM pghub.page(") {
		return ctx
	}
	if p.asked.Add(1) == p.last {
		close(p.waiting)
		<-ctx.Done()
		p.linger()
	}
	return context.WithValue(ctx, pageKey{}, true)
}

func (p *pages) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(pageKey{}) != nil {
		p.answered.Add(1)
	}
}

// aPage is how many events a page has in a lab of pages: one more than 8 MB have room for.
const aPage = 2

// newPagesLab is a lab with a stream of so many events, which are large.
func newPagesLab(t *testing.T, p *pages, events int) *lab {
	t.Helper()
	pgtest.CheckLeaks(t)
	l := &lab{t: t, dsn: pgtest.Database(t)}
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, l.dsn)))
	cfg, err := pgxpool.ParseConfig(l.dsn)
	require.NoError(t, err)
	cfg.ConnConfig.Tracer = p
	l.pool, err = pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(l.pool.Close)
	l.hub, l.s = processOn(t, l.pool, stream.Config{Lease: forEver})
	l.do(`SELECT pghub.publish('a', i, concat('"', repeat('x', 5000000), '"')) FROM generate_series(1, $1::int) AS i`, events)
	l.do(`SELECT pghub.tick()`)
	return l
}

// A loop that ends in its first page leaves no query behind: a connection whose query is cancelled is lost to the pool.
func TestALoopThatBreaksCostsNoConnection(t *testing.T) {
	p := &pages{}
	l := newPagesLab(t, p, 2*aPage)
	for n := range 5 {
		for ev, err := range l.s.Read(t.Context(), stream.Earliest) {
			require.NoError(t, err)
			require.EqualValues(t, 1, ev.Key[0])
			l.do(`SELECT`) // time enough for a query
			break
		}
		require.EqualValues(t, n+1, p.asked.Load())
		require.EqualValues(t, n+1, p.answered.Load())
	}
}

// Behind its second page a loop has the next one read ahead. Who leaves then waits for that to end.
func TestALoopThatBreaksWaitsForWhatIsReadAhead(t *testing.T) {
	p := &pages{last: 3, waiting: make(chan struct{})}
	l := newPagesLab(t, p, 3*aPage)
	p.linger = func() { l.do(`SELECT pg_sleep(0.1)`) }
	n := 0
	for _, err := range l.s.Read(t.Context(), stream.Earliest) {
		require.NoError(t, err)
		if n++; n == aPage+1 {
			<-p.waiting
			break
		}
	}
	require.EqualValues(t, 3, p.answered.Load())
}

// A page that was read ahead may be older than the last tick: then there is no other one to wait for.
func TestAPageReadAheadSleepsOverNothing(t *testing.T) {
	p := &pages{}
	l := newPagesLab(t, p, 0)
	for n := range 3 { // a page each
		l.do(`SELECT pghub.publish('a', $1::int, concat('"', repeat('x', 5000000), '"'))`, n+1)
		l.do(`SELECT pghub.tick()`)
	}
	l.awaitSleep()
	var n int64
	for ev, err := range l.s.Follow(pgtest.Within(t), stream.Earliest) {
		require.NoError(t, err)
		n++
		require.Equal(t, n, ev.Key[0])
		if n == 2 {
			eventually(t, "the last page is there", func() bool { return p.answered.Load() == 3 })
			ticks := l.s.Stats().Ticks
			l.publish("a", 4)
			eventually(t, "a tick", func() bool { return l.s.Stats().Ticks > ticks })
			l.awaitSleep() // there will be no tick that would wake anybody
		}
		if n == 4 {
			break
		}
	}
	require.EqualValues(t, 4, n)
}
