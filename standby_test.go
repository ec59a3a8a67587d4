package pghub

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/internal/pgwire"
	"github.com/pghub/pghub/internal/source"
)

// A server that has become a standby, or another one that something has put in its place, would never send anything again.
func TestAServerThatBecomesAStandbyIsLeft(t *testing.T) {
	says := map[string]func(*fakepg.Server){
		"when it is asked": func(server *fakepg.Server) { server.SetStandby(true) },
		"by itself": func(server *fakepg.Server) {
			server.SetStandby(true)
			server.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "on"})
		},
	}
	for name, says := range says {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				hub := fakeHub(t, server, Config{})
				w, _ := watch(t, hub, "a")
				startHub(t, hub)
				w.expect(t, lineConnect, lineSubscribe("a"))
				said := time.Now()
				says(server)
				lost := w.take(t)
				require.Equal(t, lineDisconnect, lineOf(lost))
				require.ErrorIs(t, lost.Advisory.Err, ErrStandby)
				if name == "by itself" {
					require.Equal(t, said, time.Now())
				} else {
					require.Equal(t, defaultProbeInterval, time.Since(said))
				}
				server.SetStandby(false)
				w.expect(t, lineReconnect)
			})
		})
	}
}

// What would come in another encoding would not be understood.
func TestAnotherEncodingIsLeft(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		w, _ := watch(t, hub, "a")
		startHub(t, hub)
		w.expect(t, lineConnect, lineSubscribe("a"))
		server.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"}, &pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"})
		server.Notify("a", "e1")
		w.expect(t, "a e1")
		server.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "LATIN1"})
		lost := w.take(t)
		require.Equal(t, lineDisconnect, lineOf(lost))
		require.ErrorContains(t, lost.Advisory.Err, "LATIN1")
		w.expect(t, lineReconnect)
	})
}

func configOf(t *testing.T, dsn string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return cfg
}

// nobody is a sink that wants nothing.
type nobody struct{}

func (nobody) Attach(chan<- struct{})                   {}
func (nobody) Changes() ([]source.Change, bool)         { return nil, false }
func (nobody) Acknowledge([]source.Change, error) error { return nil }
func (nobody) Retry()                                   {}
func (nobody) Burst([]source.Message, bool)             {}

// A real standby, to which no hub would have come: the session that is there leaves it, and stays with a primary.
func TestASessionLeavesARealStandby(t *testing.T) {
	primary := pgtest.Private(t, pgtest.Options{})
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	run := func(dsn string) (*session, <-chan error) {
		conn, err := pgconn.Connect(within(t), dsn)
		require.NoError(t, err)
		l, err := hijack(within(t), conn)
		require.NoError(t, err)
		cfg, err := Config{ListenConfig: configOf(t, dsn), ProbeInterval: time.Millisecond, ProbeTimeout: time.Minute}.withDefaults()
		require.NoError(t, err)
		s := newSession(l, &cfg, newReporter(&cfg))
		return s, background(func() error { return s.Run(t.Context(), nobody{}) })
	}
	_, ended := run(standby.DSN())
	require.ErrorIs(t, outcome(t, ended), ErrStandby)

	s, ended := run(primary.DSN())
	heard := s.lastRead.Load()
	require.Eventually(t, func() bool { return s.lastRead.Load() != heard }, time.Minute, time.Millisecond, "it is probed")
	s.terminate()
	require.ErrorIs(t, outcome(t, ended), ErrStopped)
}

// settingsOf returns what a listener connection with these parameters has for settings, by its own session.
func settingsOf(t *testing.T, params map[string]string, names ...string) (values []string) {
	t.Helper()
	cfg := configOf(t, pgtest.Database(t))
	for name, value := range params {
		cfg.RuntimeParams[name] = value
	}
	full, err := Config{ListenConfig: cfg}.withDefaults()
	require.NoError(t, err)
	l, err := connect(within(t), &full)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.conn.Close()) }()
	wire := pgproto3.NewFrontend(l.conn, l.conn)
	for _, name := range names {
		_, err := l.conn.Write(pgwire.AppendQuery(nil, "SHOW "+name))
		require.NoError(t, err)
		for ready := false; !ready; {
			msg, err := wire.Receive()
			require.NoError(t, err)
			switch msg := msg.(type) {
			case *pgproto3.DataRow:
				values = append(values, string(msg.Values[0]))
			case *pgproto3.ReadyForQuery:
				ready = true
			}
		}
	}
	return values
}

// The server ends a listener that has vanished, or is stopped, and not one that is idle.
func TestTheServerWatchesTheListener(t *testing.T) {
	names := []string{"tcp_user_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"}
	require.Equal(t, []string{"60000", "30", "10", "3"}, settingsOf(t, nil, names...))
	given := map[string]string{"tcp_user_timeout": "0", "tcp_keepalives_idle": "300"}
	require.Equal(t, []string{"0", "300", "10", "3"}, settingsOf(t, given, names...), "what the user says stands")
}
