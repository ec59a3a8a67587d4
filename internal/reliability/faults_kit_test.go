package reliability

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
)

// faultPatience is how long a test waits for what must come; a loaded machine makes it no failure.
var faultPatience = time.Minute

func init() {
	flag.DurationVar(&faultPatience, "fault.patience", faultPatience, "how long fault tests wait for what must come")
}

// diary is a handler that writes down what it is given, one word for each: "connect", "subscribe t", "lag 3",
// "t=payload".
type diary struct {
	mu      sync.Mutex
	words   []string
	events  []*pghub.Event
	read    int           // words that await has gone past
	changed chan struct{} // closed and replaced with each word
}

func newDiary() *diary { return &diary{changed: make(chan struct{})} }

func (d *diary) handle(_ context.Context, ev *pghub.Event) {
	word := ev.Topic + "=" + string(ev.Payload)
	if a := ev.Advisory; a != nil {
		word = string(a.Action)
		switch a.Action {
		case pghub.ActionSubscribe:
			word += " " + a.Topic
		case pghub.ActionLag:
			word += fmt.Sprintf(" %d", a.Dropped)
		}
	}
	d.write(word, ev)
}

func (d *diary) write(word string, ev *pghub.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.words = append(d.words, word)
	d.events = append(d.events, ev)
	close(d.changed)
	d.changed = make(chan struct{})
}

// blockAt returns a handler that blocks after a certain word: it says so, and waits until it may leave.
func (d *diary) blockAt(word string, enter, leave chan struct{}) pghub.Handler {
	return func(ctx context.Context, ev *pghub.Event) {
		d.handle(ctx, ev)
		if d.last() == word {
			enter <- struct{}{}
			<-leave
		}
	}
}

func (d *diary) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.words[len(d.words)-1]
}

// next returns the next word and its event.
func (d *diary) next(t *testing.T) (string, *pghub.Event) {
	t.Helper()
	timeout := time.NewTimer(faultPatience)
	defer timeout.Stop()
	for {
		d.mu.Lock()
		read, changed := d.read, d.changed
		if read < len(d.words) {
			d.read++
			word, ev := d.words[read], d.events[read]
			d.mu.Unlock()
			return word, ev
		}
		d.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			require.FailNow(t, "nothing came", "so far: %q", d.all())
		}
	}
}

// await waits for a word, and returns its event. What came before it is skipped.
func (d *diary) await(t *testing.T, word string) *pghub.Event {
	t.Helper()
	for {
		if next, ev := d.next(t); next == word {
			return ev
		}
	}
}

// expect waits for exactly these words.
func (d *diary) expect(t *testing.T, words ...string) {
	t.Helper()
	for _, word := range words {
		next, _ := d.next(t)
		require.Equal(t, word, next, "so far: %q", d.all())
	}
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.words...)
}

// trouble is an OnError that keeps what it is told.
type trouble struct {
	mu      sync.Mutex
	errs    []error
	changed chan struct{}
}

func newTrouble() *trouble { return &trouble{changed: make(chan struct{})} }

func (tr *trouble) note(err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.errs = append(tr.errs, err)
	close(tr.changed)
	tr.changed = make(chan struct{})
}

// await waits until n errors have come that match, and returns the last of them.
func (tr *trouble) await(t *testing.T, n int, match func(error) bool) error {
	t.Helper()
	timeout := time.NewTimer(faultPatience)
	defer timeout.Stop()
	for {
		tr.mu.Lock()
		changed := tr.changed
		var found []error
		for _, err := range tr.errs {
			if match(err) {
				found = append(found, err)
			}
		}
		errs := tr.errs
		tr.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-changed:
		case <-timeout.C:
			require.FailNow(t, "OnError has not heard of it", "so far: %v", errs)
		}
	}
}

// hasCode matches errors with an SQLSTATE.
func hasCode(code string) func(error) bool {
	return func(err error) bool { return sqlState(err) == code }
}

// quickly makes a hub come back soon and notice silence soon.
func quickly(cfg pghub.Config) pghub.Config {
	cfg.ReconnectMin, cfg.ReconnectMax = 5*time.Millisecond, 50*time.Millisecond
	if cfg.ProbeInterval == 0 {
		cfg.ProbeInterval, cfg.ProbeTimeout = 200*time.Millisecond, 2*time.Second
	}
	return cfg
}

// startFaultHub starts a hub with one consumer of the topics. It is stopped, and must stop, at the end of the test.
func startFaultHub(t *testing.T, cfg pghub.Config, topics ...string) (*pghub.Hub, *diary) {
	t.Helper()
	hub, d := newFaultHub(t, cfg, topics...)
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	require.NoError(t, hub.Start(ctx))
	return hub, d
}

func newFaultHub(t *testing.T, cfg pghub.Config, topics ...string) (*pghub.Hub, *diary) {
	t.Helper()
	hub, err := pghub.New(quickly(cfg))
	require.NoError(t, err)
	d := newDiary()
	_, err = hub.Consumer(context.Background(), d.handle, &pghub.ConsumerConfig{Topics: topics})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), faultPatience)
		defer cancel()
		require.NoError(t, hub.Stop(ctx))
	})
	return hub, d
}

// faultProxy puts a proxy before the server of a DSN, and returns the DSN that leads through it.
func faultProxy(t *testing.T, dsn string) (*faultproxy.Proxy, string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	target := net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
	proxy, err := faultproxy.New(target)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	require.Contains(t, dsn, target, "the DSN names the server in a form that the test does not know")
	return proxy, strings.Replace(dsn, target, proxy.Addr(), 1)
}

// listenTo returns the configuration of a listener connection.
func listenTo(t *testing.T, dsn string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return cfg
}

// sqlState returns the SQLSTATE of an error of the server, "" for others.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// run runs a statement, directly.
func runSQL(t *testing.T, dsn, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// publishUntil publishes numbered events, directly, until one of them has come to d.
func publishUntil(t *testing.T, d *diary, pool *pgxpool.Pool, topic string) {
	t.Helper()
	for n := 0; ; n++ {
		_, err := pool.Exec(t.Context(), `SELECT pg_notify($1, $2)`, topic, fmt.Sprintf("e%d", n))
		require.NoError(t, err)
		for _, word := range d.all() {
			if strings.HasPrefix(word, topic+"=e") {
				return
			}
		}
	}
}
