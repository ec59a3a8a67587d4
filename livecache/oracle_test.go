package livecache

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// oracle knows, for each row, the latest version whose event has been delivered to the cache. A Get that begins then must
// not return an older one. Rows only ever get newer versions.
type oracle struct {
	delivered []atomic.Int64 // by key

	// What Key was told of last. The event has been delivered when Key is called for the next one: the cache handles one at a time.
	// Owned by the cache's goroutine.
	key, version int64
}

// tell is called by Key, with the row and the version of an event.
func (o *oracle) tell(key, version int64) {
	if last := &o.delivered[o.key]; o.version > last.Load() {
		last.Store(o.version)
	}
	o.key, o.version = key, version
}

// The stress with an oracle: readers, writers, and a listener connection that is killed again and again, against a real
// server. No value is served that is older than the last change whose event was delivered before. In the end, when all is
// quiet, the cache equals the table.
func TestOracle(t *testing.T) {
	for name, change := range map[string]func(*Config[int64, int64], *pgxpool.Pool){
		"by key":   func(*Config[int64, int64], *pgxpool.Pool) {},
		"small":    func(c *Config[int64, int64], _ *pgxpool.Pool) { c.Max, c.Batch, c.Loads = 4, 2, 2 },
		"load all": func(c *Config[int64, int64], pool *pgxpool.Pool) { c.LoadAll = loadAllOf(pool) },
		"through":  func(c *Config[int64, int64], _ *pgxpool.Pool) { c.Outage = LoadThrough },
	} {
		t.Run(name, func(t *testing.T) { stress(t, change) })
	}
}

const oracleRows = 16

func loadAllOf(pool *pgxpool.Pool) func(context.Context) (map[int64]int64, error) {
	return func(ctx context.Context) (map[int64]int64, error) {
		return versions(ctx, pool, "SELECT id, version FROM rows")
	}
}

func versions(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (map[int64]int64, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]int64)
	var id, version int64
	_, err = pgx.ForEachRow(rows, []any{&id, &version}, func() error {
		found[id] = version
		return nil
	})
	return found, err
}

func stress(t *testing.T, change func(*Config[int64, int64], *pgxpool.Pool)) {
	pgtest.CheckLeaks(t)
	pool := pgtest.Pool(t, pgtest.Database(t))
	_, err := pool.Exec(t.Context(), `
		CREATE TABLE rows (id bigint PRIMARY KEY, version bigint NOT NULL);
		INSERT INTO rows SELECT id, 0 FROM generate_series(0, 15) id;
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM pg_notify('rows', 'e' || NEW.id || ':' || NEW.version); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER UPDATE ON rows FOR EACH ROW EXECUTE FUNCTION tell()`)
	require.NoError(t, err)
	hub, err := pghub.New(pghub.Config{Pool: pool, ReconnectMin: time.Millisecond, ReconnectMax: 10 * time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, hub.Stop(pgtest.Within(t))) }()
	require.NoError(t, hub.Start(pgtest.Within(t)))

	o := &oracle{delivered: make([]atomic.Int64, oracleRows)}
	cfg := Config[int64, int64]{
		Topic: "rows",
		Key: func(ev *pghub.Event) ([]int64, error) {
			version, err := pghub.Decode[int64](ev)
			if err == nil {
				o.tell(ev.Key[0], version)
			}
			return ev.Key, err
		},
		Load: func(ctx context.Context, keys []int64) (map[int64]int64, error) {
			found, err := versions(ctx, pool, "SELECT id, version FROM rows WHERE id = ANY($1)", keys)
			time.Sleep(rand.N(2 * time.Millisecond)) // the network: this is where an event overtakes
			return found, err
		},
	}
	change(&cfg, pool)
	cache, err := New(pgtest.Within(t), hub, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, cache.Close()) }()
	<-cache.Ready()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				key := rand.Int64N(oracleRows)
				least := o.delivered[key].Load()
				version, found, err := cache.Get(context.Background(), key)
				if err != nil || !found || version < least {
					t.Errorf("row %d: got version %d, found %v, error %v, after the event of version %d was delivered", key, version, found, err, least)
					return
				}
			}
		})
	}
	for w := range int64(2) {
		writers.Go(func() {
			for range 150 {
				if _, err := pool.Exec(ctx, "UPDATE rows SET version = version + 1 WHERE id = $1", 2*rand.Int64N(oracleRows/2)+w); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		before := hub.Stats().Reconnects
		_, err := pool.Exec(ctx, "SELECT pg_terminate_backend($1)", hub.Stats().PID)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return hub.Stats().Reconnects > before }, pgtest.Patience, time.Millisecond)
	}
	writers.Wait()
	// The readers go on until the cache has served one of them: on a quick machine all of the changes fit into the outages.
	require.Eventually(t, func() bool { return cache.Stats().Hits > 0 }, pgtest.Patience, time.Millisecond)
	cancel()
	readers.Wait()

	// All is quiet: soon the last event has been delivered, and nothing old is left.
	table, err := versions(t.Context(), pool, "SELECT id, version FROM rows")
	require.NoError(t, err)
	require.Len(t, table, oracleRows)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for key, want := range table {
			version, _, err := cache.Get(context.Background(), key)
			require.NoError(t, err)
			require.Equal(t, want, version, "row %d", key)
		}
	}, pgtest.Patience, 10*time.Millisecond)
}
