package promises_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/promises"
	"github.com/pghub/pghub/pghubtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestPostgreSQL(t *testing.T) {
	promises.Run(t, func(t *testing.T) promises.Backend { return openPostgreSQL(t) })
}

func TestServerInMemory(t *testing.T) {
	promises.Run(t, func(t *testing.T) promises.Backend { return openMemory(t) })
}

// Time in a bubble passes at once, and in another order of what happens at the same time.
func TestServerInMemoryInABubble(t *testing.T) {
	for _, p := range promises.All() {
		t.Run(p.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { p.Test(t, openMemory(t)) })
		})
	}
}

// memory is the server of package pghubtest.
type memory struct{ *pghubtest.Server }

func openMemory(t *testing.T) promises.Backend { return memory{pghubtest.New(t)} }

func (m memory) Publish(messages ...promises.Message) {
	for _, msg := range messages {
		m.Notify(msg.Topic, msg.Payload)
	}
}

// postgreSQL is a database of its own on a real server. The hubs reach it through a proxy, which suffers their faults;
// others reach it directly.
type postgreSQL struct {
	t      *testing.T
	proxy  *faultproxy.Proxy
	hubs   *pgxpool.Pool
	direct *pgxpool.Pool
}

func openPostgreSQL(t *testing.T) promises.Backend {
	dsn := pgtest.Database(t)
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	proxy, err := faultproxy.New(net.JoinHostPort(cfg.ConnConfig.Host, strconv.Itoa(int(cfg.ConnConfig.Port))))
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	addr, err := net.ResolveTCPAddr("tcp", proxy.Addr())
	require.NoError(t, err)
	cfg.ConnConfig.Host, cfg.ConnConfig.Port = addr.IP.String(), uint16(addr.Port)
	for _, other := range cfg.ConnConfig.Fallbacks {
		other.Host, other.Port = addr.IP.String(), uint16(addr.Port)
	}
	hubs, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(hubs.Close)
	b := &postgreSQL{t: t, proxy: proxy, hubs: hubs, direct: pgtest.Pool(t, dsn)}
	t.Cleanup(func() {
		b.Up()
		b.Resume()
	})
	return b
}

func (b *postgreSQL) Config() pghub.Config { return pghub.Config{Pool: b.hubs} }

// Publish sends every message in a transaction of its own, all of them in one go.
func (b *postgreSQL) Publish(messages ...promises.Message) {
	err := b.direct.AcquireFunc(context.Background(), func(conn *pgxpool.Conn) error {
		p := conn.Conn().PgConn().StartPipeline(context.Background())
		for _, m := range messages {
			p.SendQueryParams(`SELECT pg_notify($1, $2)`, [][]byte{[]byte(m.Topic), []byte(m.Payload)}, nil, nil, nil)
			if err := p.Sync(); err != nil {
				return err
			}
		}
		return p.Close()
	})
	if err != nil {
		b.t.Errorf("publish: %v", err)
	}
}

func (b *postgreSQL) Disconnect() {
	_, err := b.direct.Exec(context.Background(),
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pghub'`)
	if err != nil {
		b.t.Errorf("disconnect: %v", err)
	}
}

func (b *postgreSQL) Down() {
	if err := b.proxy.Refuse(true); err != nil {
		b.t.Errorf("down: %v", err)
	}
	b.proxy.Reset()
}

func (b *postgreSQL) Up() {
	if err := b.proxy.Refuse(false); err != nil {
		b.t.Errorf("up: %v", err)
	}
}

func (b *postgreSQL) Stall()  { b.proxy.Set(faultproxy.Fault{Stall: true}) }
func (b *postgreSQL) Resume() { b.proxy.Set(faultproxy.Fault{}) }
