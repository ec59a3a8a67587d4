package gateway_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/gateway/internal/browser"
	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/nodetest"
	"github.com/pghub/pghub/internal/pgtest"
	pghubsql "github.com/pghub/pghub/sql"
)

// line is what client/harness.mjs prints.
type line struct {
	Client               int
	Type, Topic, State   string
	Reason, Error, Value string
	Number               int
}

// clientText is the client that the gateway serves.
//
//go:embed client/client.js
var clientText []byte

// clientFile is the client as a file.
func clientFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client.mjs")
	require.NoError(t, os.WriteFile(path, clientText, 0o600))
	return path
}

// nodeCommand runs a script of the client's in Node.
func nodeCommand(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	return nodetest.Command(t, filepath.Join("client", script), args...)
}

// node runs the client in Node, or, if no topic is named, event streams, and returns what they say.
func node(t *testing.T, url string, clients int, topics ...string) (next func() (line, bool)) {
	t.Helper()
	if len(topics) == 0 {
		return saying(t, nodeCommand(t, "eventsources.mjs", url, strconv.Itoa(clients)))
	}
	return saying(t, nodeCommand(t, "harness.mjs", append([]string{clientFile(t), url, strconv.Itoa(clients)}, topics...)...))
}

// saying starts a script that prints lines.
func saying(t *testing.T, cmd *exec.Cmd) (next func() (line, bool)) {
	t.Helper()
	lines := nodetest.Lines(t, cmd)
	return func() (line, bool) {
		text, more := lines()
		if !more {
			return line{}, false
		}
		var raw struct {
			Client                     int
			Type, Topic, State, Reason string
			Error                      string
			Value                      json.RawMessage
		}
		if err := json.Unmarshal(text, &raw); err != nil {
			raw.Error = err.Error()
		}
		l := line{Client: raw.Client, Type: raw.Type, Topic: raw.Topic, State: raw.State, Reason: raw.Reason, Error: raw.Error, Value: string(raw.Value)}
		l.Number, _ = strconv.Atoi(l.Value)
		return l, true
	}
}

// behindProxy has clients connect through a proxy that can cut them off.
func (f *fixture) behindProxy() *faultproxy.Proxy {
	f.t.Helper()
	proxy, err := faultproxy.New(f.http.Listener.Addr().String())
	require.NoError(f.t, err)
	f.t.Cleanup(proxy.Close)
	f.http.URL = "http://" + proxy.Addr()
	return proxy
}

// inEffect waits until a client in Node has subscribed.
func inEffect(t *testing.T, next func() (line, bool)) {
	t.Helper()
	for l, more := next(); l.State != "ready"; l, more = next() {
		require.True(t, more)
	}
}

func TestClientInNode(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"a", "b", "plain"}, HistoryEvents: 100})
	proxy := f.behindProxy()
	next := node(t, f.url("/"), 1, "a", "plain")
	event := func() line {
		for {
			l, more := next()
			require.True(t, more)
			if l.State == "" {
				return l
			}
		}
	}
	inEffect(t, next)
	p.publish(t, "a", 1)
	require.Equal(t, 1, event().Number)
	f.notify("plain", "e:2")
	require.Equal(t, 2, event().Number)
	for n := 3; n < 30; n += 2 {
		proxy.Reset()
		p.publish(t, "a", n)
		require.Equal(t, line{Type: "event", Topic: "a", Value: strconv.Itoa(n), Number: n}, event())
		f.notify("plain", fmt.Sprintf("e:%d", n+1))
		require.Equal(t, line{Type: "event", Topic: "plain", Value: strconv.Itoa(n + 1), Number: n + 1}, event())
	}
	_, err := f.pool.Exec(f.ctx(), "SELECT pg_terminate_backend($1)", f.hub.Stats().PID)
	require.NoError(t, err)
	require.Equal(t, line{Type: "gap", Reason: "database"}, event(), "of the topic that is no stream's")
	f.notify("plain", `e:"end"`)
	require.Equal(t, `"end"`, event().Value)
	_, more := next()
	for ; more; _, more = next() {
	}
	eventually(t, "it has left", func() bool { return f.gw.Stats().WebSockets == 0 })
}

// someEvents returns the next events of one client; anything but an event is an error, except for how the connection is.
func someEvents(t *testing.T, next func() (line, bool), n int) (values []string) {
	t.Helper()
	for len(values) < n {
		l, more := next()
		require.True(t, more)
		if l.State == "" {
			require.Equal(t, "event", l.Type, "%+v", l)
			values = append(values, l.Topic+l.Value)
		}
	}
	return values
}

// A pattern is followed as the topics that it stands for, each from where it is.
func TestClientInNodeFollowsPatterns(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a", "b", "other", `odd\*`, "odd?"}, HistoryEvents: 100})
	proxy := f.behindProxy()
	next := node(t, f.url("/"), 1, "?", "[a-b]", `odd\*`)
	inEffect(t, next)
	for n := range 5 {
		for _, topic := range []string{"other", "oddx", "a", "b", "odd*"} {
			f.notify(topic, fmt.Sprintf("e:%d", n))
		}
		want := []string{fmt.Sprintf("a%d", n), fmt.Sprintf("b%d", n), fmt.Sprintf("odd*%d", n)}
		require.ElementsMatch(t, want, someEvents(t, next, 3))
		proxy.Reset()
	}
}

// Who began with all that there was goes on behind what it has had, of the gateway's memory too.
func TestClientInNodeGoesOnFromTheBeginning(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"a", "plain"}, HistoryEvents: 100})
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","topics":["plain"]}`) // so that it is remembered
	for !strings.Contains(f.read(ws), "subscribed") {
	}
	proxy := f.behindProxy()
	p.publish(t, "a", 1)
	f.notify("plain", "e:1")
	next := node(t, f.url("/"), 1, "a", "plain", "since=earliest")
	require.ElementsMatch(t, []string{"a1", "plain1"}, someEvents(t, next, 2))
	for n := 2; n < 6; n++ {
		proxy.Reset()
		p.publish(t, "a", n)
		f.notify("plain", fmt.Sprintf("e:%d", n))
		require.ElementsMatch(t, []string{fmt.Sprintf("a%d", n), fmt.Sprintf("plain%d", n)}, someEvents(t, next, 2))
	}
}

func TestClientInNodeIsRefused(t *testing.T) {
	for topic, code := range map[string]string{
		"secret":                 "topic_not_allowed",
		strings.Repeat("x", 100): "bad_topic", // which the answer does not name whole
		"nothing*":               "no_topic_matches",
		"[":                      "bad_topic",
	} {
		f := newFixture(t, gateway.Config{Topics: []string{"a"}})
		next := node(t, f.url("/"), 1, "a", topic)
		for l, more := next(); ; l, more = next() {
			require.True(t, more)
			if l.Error != "" {
				require.Equal(t, code, l.Error)
				break
			}
		}
	}
}

// Without a history what a lost connection may have missed is a gap.
func TestClientInNodeHasGaps(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a"}})
	proxy := f.behindProxy()
	next := node(t, f.url("/"), 1, "a")
	inEffect(t, next)
	f.notify("a", "e:1")
	for l, more := next(); l.Number != 1; l, more = next() {
		require.True(t, more)
	}
	proxy.Reset()
	for l, more := next(); l.Type != "gap"; l, more = next() {
		require.True(t, more)
	}
}

func TestClientInBrowser(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 100})
	proxy := f.behindProxy()
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(f.url("/healthz")), chromedp.Evaluate[chromedp.Void](`
		window.got = [], window.gaps = [];
		import("/pg/client.js").then(async ({ connect }) => {
			window.client = connect("/pg/", { minDelay: 10, maxDelay: 50 });
			const events = client.subscribe("a", "b");
			events.ready.then(() => window.ready = true);
			for await (const e of events) (e.type === "event" ? got : gaps).push(e.type === "event" ? e.topic + e.value : e.reason);
			window.ended = true;
		});`), browser.Becomes(`window.ready === true`))
	want := []string{}
	for n := range 10 {
		proxy.Reset()
		p.publish(t, streamed[n%2], n)
		want = append(want, streamed[n%2]+strconv.Itoa(n))
		text, err := json.Marshal(want)
		require.NoError(t, err)
		browser.Do(ctx, t, browser.Becomes(`JSON.stringify(got) === %q`, string(text)))
	}
	browser.Do(ctx, t, browser.Becomes(`gaps.length === 0`), chromedp.Evaluate[chromedp.Void](`client.close()`), browser.Becomes(`window.ended === true`))
	resp, err := http.Get(f.url("/client.js"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "text/javascript; charset=utf-8", resp.Header.Get("Content-Type"))
}

// serveAt serves at an address until the test has ended or stop is called, which stops listening; ended is closed when all streams have.
func serveAt(t *testing.T, address string, handler http.Handler) (stop func() (ended <-chan struct{})) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ConnContext: gateway.ConnContext}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // until it is stopped
	}()
	t.Cleanup(func() {
		_ = server.Close() // or it has ended
		<-served
	})
	return func() <-chan struct{} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ctx, cancel := context.WithTimeout(context.Background(), waiting)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}()
		<-served
		return ended
	}
}

// Three hundred EventSources, of which Chromium has fifty, through a restart of the database and one of the program: nothing is
// missed, and nothing comes twice.
func TestManyEventSourcesThroughRestarts(t *testing.T) {
	pgtest.CheckLeaks(t)
	database := pgtest.Private(t, pgtest.Options{})
	installer := pgtest.Conn(t, database.DSN())
	require.NoError(t, pghubsql.Install(t.Context(), installer))
	require.NoError(t, installer.Close(t.Context()))
	cfg := gateway.Config{Topics: []string{"*"}, MaxClientsPerAddress: -1, Retry: 100 * time.Millisecond, Origins: []string{"*"}}
	first := newProcess(t, database.DSN(), cfg)
	address := pgtest.FixedAddress(t)
	url := "http://" + address
	stopServing := serveAt(t, address, first.gw)
	sent := 0
	publish := func(n int) {
		t.Helper()
		conn := pgtest.Conn(t, database.DSN()) // one of a pool may be gone with the restart
		for range n {
			_, err := conn.Exec(t.Context(), "SELECT pghub.publish($1, value => to_json($2::int))", streamed[sent%2], sent)
			require.NoError(t, err)
			sent++
		}
		require.NoError(t, conn.Close(t.Context()))
	}

	const inBrowser, hosts = 50, 10 // a browser has six connections to a host
	inNode := 250
	if racing {
		inNode = 50
	}
	next := node(t, url+"/events?topic=a&topic=b", inNode)
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(url+"/healthz"), chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`
		window.got = Array.from({ length: %d }, () => []), window.begun = new Set(), window.lags = 0;
		for (let i = 0; i < got.length; i++) {
			const source = new EventSource("http://h" + i %% %d + ".localhost:" + location.port + "/events?topic=a&topic=b");
			source.onmessage = e => got[i].push(JSON.parse(e.data).value);
			source.addEventListener("advisory", e => {
				const a = JSON.parse(e.data).value.action;
				if (a === "subscribe") begun.add(i);
				if (a === "lag") lags++;
			});
		}`, inBrowser, hosts)), browser.Becomes(`begun.size === %d`, inBrowser))
	got := make([][]string, inNode)
	begun, ended := make(map[int]bool), 0
	take := func() {
		l, more := next()
		require.True(t, more)
		switch {
		case l.Type == "event" && l.Value == `"end"`:
			ended++
		case l.Type == "event":
			got[l.Client] = append(got[l.Client], l.Value)
		case l.State == "subscribe":
			begun[l.Client] = true
		default:
			require.NotEqual(t, "lag", l.State)
		}
	}
	for len(begun) < inNode {
		take()
	}
	publish(20)
	require.NoError(t, database.Restart(t.Context(), pgtest.Fast))
	publish(20)
	stopped := stopServing() // listening, before clients leave
	first.end(t)
	<-stopped
	publish(20) // while nobody serves, and connections are refused
	second := newProcess(t, database.DSN(), cfg)
	serveAt(t, address, second.gw)
	publish(20)
	_, err := pgtest.Conn(t, database.DSN()).Exec(t.Context(), `SELECT pghub.publish('a', value => '"end"')`)
	require.NoError(t, err)
	for ended < inNode {
		take()
	}
	want := make([]string, sent)
	for i := range want {
		want[i] = strconv.Itoa(i)
	}
	for i := range got {
		require.Equal(t, want, got[i], "client %d", i)
	}
	browser.Do(ctx, t, browser.Becomes(`lags === 0 && got.every(g => g.join() === %q)`, strings.Join(want, ",")+",end"))
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
}
