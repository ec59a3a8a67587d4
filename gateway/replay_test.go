package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/internal/pgtest"
	pghubsql "github.com/pghub/pghub/sql"
	pghubstream "github.com/pghub/pghub/stream"
)

// process is what a process has that serves a stream: a pool, a hub, a stream and a gateway.
type process struct {
	pool   *pgxpool.Pool
	hub    *pghub.Hub
	stream *pghubstream.Stream
	gw     *gateway.Gateway
}

// installed is a database with the stream.
func installed(t *testing.T) (dsn string) {
	t.Helper()
	dsn = pgtest.Database(t)
	require.NoError(t, pghubsql.Install(t.Context(), pgtest.Pool(t, dsn)))
	return dsn
}

var streamed = []string{"a", "b"}

func newProcess(t *testing.T, dsn string, cfg gateway.Config) *process {
	t.Helper()
	p := &process{pool: pgtest.Pool(t, dsn)}
	var err error
	p.hub, err = pghub.New(pghub.Config{Pool: p.pool, ReconnectMin: 5 * time.Millisecond, ReconnectMax: 50 * time.Millisecond})
	require.NoError(t, err)
	p.stream, err = pghubstream.Open(t.Context(), p.hub, pghubstream.Config{Live: streamed, Lease: 2 * time.Second})
	require.NoError(t, err)
	require.NoError(t, p.hub.Start(t.Context()))
	cfg.Stream = p.stream
	p.gw, err = gateway.New(p.hub, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.end(t) })
	return p
}

// end may be called more than once.
func (p *process) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waiting)
	defer cancel()
	require.NoError(t, p.gw.Shutdown(ctx))
	require.NoError(t, p.hub.Stop(ctx))
}

// newStreamFixture serves a process with a stream.
func newStreamFixture(t *testing.T, cfg gateway.Config) (*fixture, *process) {
	t.Helper()
	pgtest.CheckLeaks(t)
	p := newProcess(t, installed(t), cfg)
	f := serve(t, p.hub, p.gw)
	f.pool = p.pool
	return f, p
}

func (p *process) publish(t *testing.T, topic string, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		require.NoError(t, p.stream.Publish(t.Context(), topic, nil, n))
	}
}

// A stream without live topics would be of no use to clients.
func TestStreamWithoutLiveTopics(t *testing.T) {
	pool := pgtest.Pool(t, installed(t))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })
	s, err := pghubstream.Open(t.Context(), hub, pghubstream.Config{})
	require.NoError(t, err)
	_, err = gateway.New(hub, gateway.Config{Stream: s})
	require.ErrorContains(t, err, "no live topics")
}

// block is one of an event stream.
type block struct{ id, event, data string }

func (s *stream) block() (b block, ok bool) {
	for text := s.next(); text != "END"; text = s.next() {
		b = block{}
		for line := range strings.SplitSeq(text, "|") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				b.id = value
			case "event":
				b.event = value
			case "data":
				b.data = value
			}
		}
		if b.data != "" {
			return b, true
		}
	}
	return block{}, false
}

// message is what a client gets.
type message struct {
	Topic  *string
	Value  json.RawMessage
	ID     json.RawMessage
	Op     string
	Since  string
	Error  string
	Action string   `json:"-"`
	Reason string   `json:"-"`
	Topics []string `json:"-"`
}

func parsed(t *testing.T, text string) (m message) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &m), text)
	if m.Topic == nil && m.Op == "" {
		var v struct {
			Action, Reason string
			Topics         []string
		}
		require.NoError(t, json.Unmarshal(m.Value, &v))
		m.Action, m.Reason, m.Topics = v.Action, v.Reason, v.Topics
	}
	return m
}

// until reads up to an advisory, and returns the values of the events before it, and the last id.
func (s *stream) until(action string) (values []string, last block) {
	s.f.t.Helper()
	for {
		b, ok := s.block()
		require.True(s.f.t, ok, "the stream has ended before %s", action)
		m := parsed(s.f.t, b.data)
		if m.Action == action {
			return values, b
		}
		if m.Topic != nil {
			values = append(values, *m.Topic+string(m.Value))
		}
	}
}

// some reads as many events.
func (s *stream) some(n int) (values []string, last block) {
	s.f.t.Helper()
	for len(values) < n {
		b, ok := s.block()
		require.True(s.f.t, ok)
		if m := parsed(s.f.t, b.data); m.Topic != nil {
			values, last = append(values, *m.Topic+string(m.Value)), b
		}
	}
	return values, last
}

func since(id string) http.Header { return http.Header{"Last-Event-Id": {id}} }

func TestReplay(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}})
	p.publish(t, "a", 1) // before anybody is there
	s := f.stream("topic=a&topic=b", nil)
	_, begun := s.until("subscribe")
	require.NotEmpty(t, begun.id, "a client that has had nothing knows where it is, too")
	p.publish(t, "a", 2)
	p.publish(t, "b", 3)
	values, last := s.some(2)
	require.Equal(t, []string{"a2", "b3"}, values)
	require.Contains(t, last.data, `"id":"`+last.id+`"`)
	at, err := pghub.ParsePosition(last.id)
	require.NoError(t, err, "the id is the position")
	require.NoError(t, s.close())
	p.publish(t, "b", 4)
	p.publish(t, "a", 5)
	p.publish(t, "b", 6)

	s = f.stream("topic=a&topic=b", since(last.id))
	values, _ = s.some(3)
	require.Equal(t, []string{"b4", "a5", "b6"}, values)
	p.publish(t, "a", 7)
	values, last = s.some(1)
	require.Equal(t, []string{"a7"}, values)
	after, err := pghub.ParsePosition(last.id)
	require.NoError(t, err)
	require.Positive(t, after.Compare(at))
	require.NoError(t, s.close())

	s = f.stream("topic=a&topic=b", since(begun.id))
	values, _ = s.until("live")
	require.Equal(t, []string{"a2", "b3", "b4", "a5", "b6", "a7"}, values, "all since its subscription")
	require.NoError(t, s.close())

	for name, query := range map[string]string{"a time": "2000-01-01T00:00:00Z", "the beginning": "earliest"} {
		s = f.stream("topic=a&since="+query, nil)
		values, _ = s.until("live")
		require.Equal(t, []string{"a1", "a2", "a5", "a7"}, values, name)
		require.NoError(t, s.close())
	}
	status, name := f.refused("GET", "/events?topic=a&since=yesterday", "", nil)
	require.Equal(t, 400, status)
	require.Equal(t, "bad_request", name)
	require.Zero(t, f.gw.Stats().Dropped)
}

func TestReplayOnAWebSocket(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}})
	ws := f.dial("/ws")
	next := func() message { return parsed(t, f.read(ws)) }
	answered := func() message {
		for {
			if m := next(); m.Op != "" {
				return m
			}
		}
	}
	some := func(n int) (values, ids []string) {
		for len(values) < n {
			if m := next(); m.Topic != nil {
				values, ids = append(values, *m.Topic+string(m.Value)), append(ids, strings.Trim(string(m.ID), `"`))
			}
		}
		return values, ids
	}
	f.send(ws, `{"op":"subscribe","id":1,"topics":["a","b"]}`)
	begun := answered()
	require.Equal(t, "subscribed", begun.Op)
	require.NotEmpty(t, begun.Since)
	p.publish(t, "a", 1)
	p.publish(t, "b", 2)
	p.publish(t, "a", 3)
	values, ids := some(3)
	require.Equal(t, []string{"a1", "b2", "a3"}, values)
	require.NoError(t, ws.CloseNow())
	p.publish(t, "b", 4)

	ws = f.dial("/ws")
	f.send(ws, `{"op":"subscribe","topics":["a","b"],"since":"`+ids[0]+`"}`)
	values, _ = some(3)
	require.Equal(t, []string{"b2", "a3", "b4"}, values)
	require.NoError(t, ws.CloseNow())

	// Topics of different beginnings do not disturb each other.
	ws = f.dial("/ws")
	f.send(ws, `{"op":"subscribe","topics":["a"],"since":"`+begun.Since+`"}`)
	require.Equal(t, "subscribed", answered().Op)
	values, _ = some(2)
	require.Equal(t, []string{"a1", "a3"}, values)
	f.send(ws, `{"op":"subscribe","topics":["b"],"since":"`+ids[1]+`"}`)
	values, _ = some(1)
	require.Equal(t, []string{"b4"}, values)
	p.publish(t, "a", 5)
	p.publish(t, "b", 6)
	values, _ = some(2)
	require.Equal(t, []string{"a5", "b6"}, values)
	f.send(ws, `{"op":"unsubscribe","topics":["a"]}`)
	require.Equal(t, "unsubscribed", answered().Op)
	p.publish(t, "a", 7)
	p.publish(t, "b", 8)
	values, _ = some(1)
	require.Equal(t, []string{"b8"}, values)
	f.send(ws, `{"op":"subscribe","id":9,"topics":["a"],"since":"nonsense"}`)
	require.Equal(t, "error", answered().Op)
}

// A position that is not kept, or not one of this server, is said, and it goes on.
func TestReplayThatDoesNotReachBack(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}})
	s := f.stream("topic=a", nil)
	_, _ = s.until("subscribe")
	p.publish(t, "a", 1, 2)
	_, last := s.some(2)
	at, err := pghub.ParsePosition(last.id)
	require.NoError(t, err)
	for _, test := range []struct {
		id, reason string
		values     []string
	}{
		{"1000000000001.1.1", "expired", []string{"a1", "a2"}},
		{pghub.Position{Tick: at.Tick + 1_000_000, Txn: 1, ID: 1}.String(), "foreign", nil},
		{"17", "unknown", nil}, // of a gateway without a stream
	} {
		s := f.stream("topic=a", since(test.id))
		_, lag := s.until("lag")
		m := parsed(t, lag.data)
		require.Equal(t, test.reason, m.Reason)
		require.Equal(t, []string{"a"}, m.Topics)
		require.Contains(t, lag.data, `"dropped":null`, "nobody knows how many")
		if test.reason != "unknown" {
			values, _ := s.until("live")
			require.Equal(t, test.values, values)
		}
		p.publish(t, "a", 9)
		values, _ := s.some(1)
		require.Equal(t, []string{"a9"}, values)
		require.NoError(t, s.close())
	}
}

// numbered follows events as one client through whatever happens: each must come once, in order.
type numbered struct {
	f    *fixture
	want int
	got  atomic.Int64
	cut  atomic.Pointer[func()]
}

// sse follows on /events, and comes back as EventSource does.
func (n *numbered) sse(ctx context.Context, begun chan<- struct{}) error {
	id := ""
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for n.got.Load() < int64(n.want) {
		conn, cut := context.WithCancel(ctx)
		err := func() error {
			defer cut()
			stop := func() { cut() }
			n.cut.Store(&stop)
			req, err := http.NewRequestWithContext(conn, http.MethodGet, n.f.url("/events?topic=a&topic=b"), nil)
			if err != nil {
				return err
			}
			if id != "" {
				req.Header.Set("Last-Event-ID", id)
			}
			resp, err := client.Do(req)
			if err != nil {
				return nil // and again
			}
			defer func() { _ = resp.Body.Close() }()
			lines := bufio.NewScanner(resp.Body)
			var b block
			for lines.Scan() {
				name, value, _ := strings.Cut(lines.Text(), ": ")
				switch name {
				case "id":
					b.id = value
				case "event":
					b.event = value
				case "data":
					b.data = value
				case "":
					if b.id != "" {
						id = b.id
					}
					if b.data != "" {
						if err := n.take(b.data, begun); err != nil || n.got.Load() == int64(n.want) {
							return err
						}
					}
					b = block{}
				}
			}
			return nil
		}()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// ws follows on /ws.
func (n *numbered) ws(ctx context.Context, begun chan<- struct{}) error {
	id := ""
	for n.got.Load() < int64(n.want) && ctx.Err() == nil {
		ws, _, err := websocket.Dial(ctx, n.f.url("/ws"), nil)
		if err != nil {
			continue // and again
		}
		stop := func() { _ = ws.CloseNow() }
		n.cut.Store(&stop)
		_ = ws.Write(ctx, websocket.MessageText, []byte(`{"op":"subscribe","topics":["a","b"],"since":"`+id+`"}`))
		for n.got.Load() < int64(n.want) {
			_, data, err := ws.Read(ctx)
			if err != nil {
				break
			}
			var m struct {
				Op, Since, ID string
				Topic         *string
			}
			if err := json.Unmarshal(data, &m); err != nil {
				return err
			}
			switch {
			case m.Op == "subscribed" && id == "":
				id = m.Since
				if begun != nil {
					close(begun)
					begun = nil
				}
			case m.Topic != nil:
				if err := n.take(string(data), nil); err != nil {
					return err
				}
				id = m.ID
			}
		}
		_ = ws.CloseNow()
	}
	return nil
}

func (n *numbered) take(data string, begun chan<- struct{}) error {
	var m struct {
		Topic *string
		Value json.RawMessage
	}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		return err
	}
	if m.Topic == nil {
		switch {
		case strings.Contains(data, `"lag"`):
			return fmt.Errorf("a lag: %s", data)
		case strings.Contains(data, `"subscribe"`) && n.got.Load() == 0:
			select {
			case begun <- struct{}{}:
			default:
			}
		}
		return nil
	}
	want := int(n.got.Load())
	if topic := streamed[want%2]; string(m.Value) != fmt.Sprint(want) || *m.Topic != topic {
		return fmt.Errorf("got %s, not event %d of %s", data, want, topic)
	}
	n.got.Add(1)
	return nil
}

// Whatever dies meanwhile, and how often: each event comes exactly once, in order.
func TestReplayThroughFaults(t *testing.T) {
	for _, way := range []string{"events", "ws"} {
		t.Run(way, func(t *testing.T) {
			pgtest.CheckLeaks(t)
			dsn := installed(t)
			admin := pgtest.Pool(t, dsn)
			cfg := gateway.Config{Topics: []string{"*"}, Retry: time.Millisecond, MaxRate: -1}
			now := newProcess(t, dsn, cfg)
			var served switched
			served.Store(now.gw)
			mux := http.NewServeMux()
			mux.Handle("/pg/", http.StripPrefix("/pg", &served))
			server := httptest.NewUnstartedServer(mux)
			server.Config.ConnContext = gateway.ConnContext
			server.Start()
			t.Cleanup(func() {
				server.CloseClientConnections()
				server.Close()
			})
			f := &fixture{t: t, http: server}

			const faults, each = 12, 20
			n := &numbered{f: f, want: faults * each}
			ctx, cancel := context.WithTimeout(t.Context(), 3*waiting)
			t.Cleanup(cancel)
			begun, ended := make(chan struct{}, 1), make(chan error, 1)
			go func() {
				if way == "ws" {
					ended <- n.ws(ctx, begun)
				} else {
					ended <- n.sse(ctx, begun)
				}
			}()
			select {
			case <-begun:
			case err := <-ended:
				t.Fatal(err)
			case <-ctx.Done():
				t.Fatal("it does not begin")
			}
			for i := range faults {
				published := make(chan error, 1)
				go func() { // at the same time
					for e := i * each; e < (i+1)*each; e++ {
						if _, err := admin.Exec(ctx, "SELECT pghub.publish($1, value => to_json($2::int))", streamed[e%2], e); err != nil {
							published <- err
							return
						}
					}
					published <- nil
				}()
				switch i % 4 {
				case 0, 2:
					(*n.cut.Load())()
				case 1:
					_, err := admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pghub%' AND datname = current_database()")
					require.NoError(t, err)
				case 3:
					next := newProcess(t, dsn, cfg)
					served.Store(next.gw)
					now.end(t)
					now = next
				}
				require.NoError(t, <-published)
				if !assert.Eventually(t, func() bool { return n.got.Load() == int64(i+1)*each }, 2*waiting, time.Millisecond) {
					cancel()
					t.Fatalf("after fault %d there are %d events of %d: %v", i, n.got.Load(), (i+1)*each, <-ended)
				}
			}
			require.NoError(t, <-ended)
		})
	}
}
