package reliability

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// deafness makes connections whose other side stops reading: what is written to them then finds no room.
type deafness struct {
	mu    sync.Mutex
	conns []*deafConn
}

type deafConn struct {
	net.Conn
	closed chan struct{}

	mu       sync.Mutex
	deaf     bool
	deadline time.Time
	changed  chan struct{} // closed and replaced with the deadline
}

// config is that of a server, with connections that can become deaf.
func (all *deafness) config(s *fakepg.Server) *pgx.ConnConfig {
	cfg := s.Config()
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := s.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &deafConn{Conn: conn, closed: make(chan struct{}), changed: make(chan struct{})}
		all.mu.Lock()
		defer all.mu.Unlock()
		all.conns = append(all.conns, c)
		return c, nil
	}
	return cfg
}

// begin makes all connections deaf that there are. Later ones are not.
func (all *deafness) begin() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, c := range all.conns {
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
	}
}

func (c *deafConn) Write(p []byte) (int, error) {
	for {
		c.mu.Lock()
		deaf, deadline, changed := c.deaf, c.deadline, c.changed
		c.mu.Unlock()
		if !deaf {
			return c.Conn.Write(p)
		}
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-late:
			return 0, os.ErrDeadlineExceeded
		case <-changed:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
}

func (c *deafConn) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = at
	close(c.changed)
	c.changed = make(chan struct{})
	return c.Conn.SetWriteDeadline(at)
}

func (c *deafConn) SetDeadline(at time.Time) error {
	return errors.Join(c.SetWriteDeadline(at), c.SetReadDeadline(at))
}

func (c *deafConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return c.Conn.Close()
}

// TestFaultDeafServerProbed: a probe that a server does not even take is one that it does not answer.
func TestFaultDeafServerProbed(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var all deafness
		hub, d := startFaultHub(t, pghub.Config{ListenConfig: all.config(s)}, "t")
		d.expect(t, "connect", "subscribe t")
		all.begin()
		began := time.Now()
		d.expect(t, "disconnect")
		require.LessOrEqual(t, time.Since(began), 15*time.Second, "ProbeInterval and ProbeTimeout")
		d.expect(t, "reconnect")
		s.Notify("t", "e")
		d.expect(t, "t=e")
		require.NoError(t, stopWithin(t, hub, time.Hour))
	})
}

// TestFaultDeafServerAsked: a LISTEN that a server does not take ends the connection, and takes effect on the next one.
func TestFaultDeafServerAsked(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var all deafness
		hub, d := startFaultHub(t, pghub.Config{ListenConfig: all.config(s)}, "t")
		d.expect(t, "connect", "subscribe t")
		c := consume(t, hub, newDiary().handle)
		all.begin()
		began := time.Now()
		require.NoError(t, c.Subscribe(t.Context(), "u"))
		require.LessOrEqual(t, time.Since(began), 6*time.Second, "ProbeTimeout, and the way back")
		d.expect(t, "disconnect", "reconnect")
	})
}

// TestFaultDeafServerLeft: leave is taken of a server that takes nothing, in a time of its own, with probes or without.
func TestFaultDeafServerLeft(t *testing.T) {
	for _, interval := range []time.Duration{0, -1} {
		scripted(t, func(t *testing.T, s *fakepg.Server) {
			var all deafness
			hub, d := startFaultHub(t, pghub.Config{ListenConfig: all.config(s), ProbeInterval: interval}, "t")
			d.expect(t, "connect", "subscribe t")
			all.begin()
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, hub.Stop(ended), context.Canceled)
			select {
			case <-hub.Done():
			case <-time.After(10 * time.Second):
				require.FailNow(t, "it does not come to its end")
			}
			d.expect(t, "stop")
		})
	}
}

// TestFaultProtocolFatalInAnyLanguage: an error ends the connection by what is never translated, and by the translation
// where a pooler leaves the other one out. Others are about the statement that is under way.
func TestFaultProtocolFatalInAnyLanguage(t *testing.T) {
	for _, test := range []struct {
		severity, unlocalized string
		fatal                 bool
	}{
		{"ВАЖНО", "FATAL", true},
		{"ПАНИКА", "PANIC", true},
		{"FATAL", "", true},
		{"ОШИБКА", "ERROR", false},
		{"FATAL", "ERROR", false}, // whatever that language may be
	} {
		scripted(t, func(t *testing.T, s *fakepg.Server) {
			hub, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "t")
			d.expect(t, "connect", "subscribe t")
			release := s.Hold(func(sql string) bool { return sql == `LISTEN "u"` })
			defer release()
			c := consume(t, hub, newDiary().handle)
			subscribed := make(chan error, 1)
			go func() { subscribed <- c.Subscribe(t.Context(), "u") }()
			synctest.Wait()
			s.Send(&pgproto3.ErrorResponse{Severity: test.severity, SeverityUnlocalized: test.unlocalized, Code: "57P01", Message: "?"})
			synctest.Wait()
			if test.fatal {
				require.Equal(t, "57P01", sqlState(d.await(t, "disconnect").Advisory.Err))
				release()
				require.NoError(t, <-subscribed, "on the next connection")
				return
			}
			require.Equal(t, "subscribe t", d.last(), "the connection goes on")
			s.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			var refused *pghub.ListenError
			require.ErrorAs(t, <-subscribed, &refused)
		})
	}
}
