package stream_test

import (
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/faultproxy"
)

// throughProxy puts a proxy before the server of a DSN, and returns the DSN that leads through it.
func throughProxy(t *testing.T, dsn string) (*faultproxy.Proxy, string) {
	t.Helper()
	p, err := faultproxy.New(addressOf(t, dsn))
	require.NoError(t, err)
	t.Cleanup(p.Close)
	parsed, err := url.Parse(dsn)
	require.NoError(t, err)
	parsed.Host = p.Addr()
	return p, parsed.String()
}

func addressOf(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
}

// network hurts the connections of a process, in one of the ways that networks have, for longer than a lease.
func (f *faults) network() string {
	i, what := f.draw()
	p := f.workers.proxies[i]
	direction := faultproxy.Direction(f.rng.IntN(2))
	heal := func() { p.Set(faultproxy.Fault{}) }
	name := ""
	switch f.rng.IntN(6) {
	case 0:
		p.Reset()
		return "reset of " + what
	case 1:
		p.HalfClose(direction)
		return "half-close of " + what
	case 2:
		p.SetDirection(direction, faultproxy.Fault{Stall: true})
		name = "stall of "
	case 3:
		p.SetDirection(direction, faultproxy.Fault{Blackhole: true})
		heal = func() {
			p.Reset() // what it has swallowed is missing
			p.Set(faultproxy.Fault{})
		}
		name = "black hole of "
	case 4:
		p.SetDirection(direction, faultproxy.Fault{Chunk: 7, Pause: time.Millisecond})
		name = "dribble of "
	default:
		if p.Refuse(true) != nil {
			return ""
		}
		p.Reset()
		heal = func() { require.NoError(f.t, p.Refuse(false)) }
		name = "no connection for "
	}
	f.healAfter(heal)
	return name + what
}
