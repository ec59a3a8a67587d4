package gateway_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

func TestFilters(t *testing.T) {
	for name, cfg := range map[string]gateway.Config{"plain": {}, "with a history": {HistoryEvents: 100}} {
		t.Run(name, func(t *testing.T) {
			cfg.Topics = []string{"*"}
			f := newFixture(t, cfg)
			ws := f.dial("/ws")
			f.send(ws, `{"op":"subscribe","topics":["a"],"filter":{"key":[7],"where":{"status":"s\u006fld","n":1.50,"o":{"x": 1}}}}`)
			f.send(ws, `{"op":"subscribe","id":1,"topics":["b"]}`)
			s := f.stream("topic=a&key=7&where="+url.QueryEscape(`{"n":1.50}`), nil)
			_, _ = s.until("subscribe")
			for m := parsed(t, f.read(ws)); string(m.ID) != "1"; m = parsed(t, f.read(ws)) {
			}
			for _, payload := range []string{
				`e7:{"status":"sold","n":1.5,"o":{"x":1}}`, // 1.5 is not 1.50: numbers are compared as they are written
				`e8:{"status":"sold","n":1.50,"o":{"x":1}}`,
				`e:{"status":"sold","n":1.50,"o":{"x":1}}`,
				`e7:{"status":"open","n":1.50,"o":{"x":1}}`,
				`e7:{"n":1.50,"o":{"x":1}}`,
				`e7:[1]`, `e7`, `plain`,
				`e7,9:{"status":"sold","n":1.50,"o":{"x":1}}`,
			} {
				f.notify("a", payload)
			}
			f.notify("b", "e7")
			event := func() string {
				for {
					if m := f.read(ws); parsed(t, m).Topic != nil {
						return m
					}
				}
			}
			require.Contains(t, event(), `"key":[7,9]`)
			require.Contains(t, event(), `"topic":"b"`)
			values, _ := s.some(3)
			require.Equal(t, []string{`a{"status":"open","n":1.50,"o":{"x":1}}`, `a{"n":1.50,"o":{"x":1}}`, `a{"status":"sold","n":1.50,"o":{"x":1}}`}, values)

			f.send(ws, `{"op":"subscribe","id":2,"topics":["c"],"filter":{"key":["x"]}}`)
			require.Equal(t, "bad_request", parsed(t, f.read(ws)).Error)

			for _, query := range []string{"topic=a&key=x", "topic=a&where=7"} {
				status, name := f.refused("GET", "/events?"+query, "", nil)
				require.Equal(t, 400, status)
				require.Equal(t, "bad_request", name)
			}
			if cfg.HistoryEvents > 0 { // what is replayed passes the filter, too
				again := f.stream("topic=a&key=8&since=earliest", nil)
				values, _ := again.until("live")
				require.Len(t, values, 1)
			}
		})
	}
}

// A publisher that has announced a gap means everybody, whatever they want of its events. Keys are numbers, however they are written.
func TestFiltersLetGapsThrough(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	s := f.stream("topic=a&key=07,-0&where="+url.QueryEscape(`{"n":1}`), nil)
	_, _ = s.until("subscribe")
	f.notify("a", `e:{"pghub":"gap","since":"2026-01-31T12:00:00Z"}`)
	f.notify("a", `e:{"pghub":"gaps"}`)
	f.notify("a", `e:{"pghub":"gap"}`)
	f.notify("a", `e7:{"pghub":"gap"}`)
	f.notify("a", `e7,0:{"n":1}`)
	values, _ := s.some(3)
	require.Equal(t, []string{`a{"pghub":"gap","since":"2026-01-31T12:00:00Z"}`, `a{"pghub":"gap"}`, `a{"n":1}`}, values)
}

func TestPatternsOfClients(t *testing.T) {
	f := newFixture(t, gateway.Config{
		Topics: []string{"chat_a", "chat_b", "chat_secret", "orders", "wild_*", `odd\*`},
		Authorize: func(_ *http.Request, a gateway.Access) error {
			if a.Topic == "chat_secret" {
				return gateway.Refuse(http.StatusForbidden, "secret")
			}
			return nil
		},
	})
	ws := f.dial("/ws")
	answer := func() string {
		for {
			if m := f.read(ws); strings.Contains(m, `"op"`) {
				return m
			}
		}
	}
	f.send(ws, `{"op":"subscribe","id":1,"topics":["chat_*","wild_1"]}`)
	require.Equal(t, `{"op":"subscribed","id":1,"topics":["chat_a","chat_b","wild_1"]}`, answer(), "and not the one that it may not have")
	f.send(ws, `{"op":"subscribe","id":2,"topics":["wild_*","wild_2"]}`)
	require.Contains(t, answer(), `"error":"no_topic_matches"`, "nobody knows what there is")
	f.send(ws, `{"op":"subscribe","id":3,"topics":["odd\\*"]}`)
	require.Equal(t, `{"op":"subscribed","id":3,"topics":["odd*"]}`, answer())
	f.send(ws, `{"op":"unsubscribe","id":4,"topics":["*_a"]}`)
	require.Equal(t, `{"op":"unsubscribed","id":4,"topics":["chat_a"]}`, answer())
	f.send(ws, `{"op":"subscribe","id":5,"topics":["[a"]}`)
	require.Contains(t, answer(), `"error":"bad_topic"`)

	s := f.stream("topic=chat_%3F", nil)
	_, _ = s.until("subscribe")
	_, _ = s.until("subscribe")
	f.notify("chat_b", "e:1")
	values, _ := s.some(1)
	require.Equal(t, []string{"chat_b1"}, values)
	status, name := f.refused("GET", "/events?topic=secret*", "", nil)
	require.Equal(t, 403, status)
	require.Equal(t, "no_topic_matches", name)
}

// A live topic of the stream is open to clients where Topics say so.
func TestPatternsOfAStream(t *testing.T) {
	f, _ := newStreamFixture(t, gateway.Config{Topics: []string{"a", "c*"}}) // live are a and b
	ws := f.dial("/ws")
	f.send(ws, `{"op":"subscribe","topics":["*"]}`)
	require.Contains(t, f.answer(ws), `"topics":["a"]`)
}

// However many patterns a topic matches, Authorize is asked about it once, and that it says no to some is nothing to write down. Where
// there are too many topics it is asked about no more of them.
func TestPatternsAskOnce(t *testing.T) {
	var log shared
	asked := make(chan string, 100)
	f := newFixture(t, gateway.Config{
		Topics: []string{"chat_a", "chat_b", "chat_secret", "d", "e", "f", "g"}, MaxTopics: 4, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Authorize: func(_ *http.Request, a gateway.Access) error {
			if a.Action == gateway.ActionListen {
				asked <- a.Topic
			}
			if a.Topic == "chat_secret" {
				return errors.New("somebody else's")
			}
			return nil
		},
	})
	topics := func() (all []string) {
		for {
			select {
			case topic := <-asked:
				all = append(all, topic)
			default:
				return all
			}
		}
	}
	ws := f.dial("/ws")
	answer := func(topics string) string {
		f.send(ws, `{"op":"subscribe","topics":[`+topics+`]}`)
		return f.answer(ws)
	}
	require.Equal(t, `{"op":"subscribed","topics":["chat_a","chat_b"]}`, answer(`"chat_*","chat_?*","*_*","chat_b"`))
	require.ElementsMatch(t, []string{"chat_a", "chat_b", "chat_secret"}, topics())
	require.Contains(t, answer(`"chat_a","*_s*"`), `"no_topic_matches"`)
	require.ElementsMatch(t, []string{"chat_a", "chat_secret"}, topics())
	require.Contains(t, answer(`"*","?"`), `"too_many_topics"`)
	require.ElementsMatch(t, []string{"chat_a", "chat_b", "chat_secret", "d", "e", "f"}, topics())
	require.NotContains(t, log.String(), "chat_secret")

	require.Contains(t, answer(`"chat_secret"`), `"not_authorized"`)
	require.Contains(t, log.String(), "chat_secret", "it has asked for this one")
}

func TestCompression(t *testing.T) {
	for _, on := range []bool{true, false} {
		f := newFixture(t, gateway.Config{Topics: []string{"*"}, Compress: on})
		ws, resp, err := websocket.Dial(f.ctx(), f.url("/listen/t"), &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover})
		require.NoError(t, err)
		ws.SetReadLimit(-1)
		require.Equal(t, on, strings.Contains(resp.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate"))
		f.notify("t", strings.Repeat("x", 7000))
		require.Equal(t, strings.Repeat("x", 7000), f.read(ws))
		require.NoError(t, ws.CloseNow())
	}
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	for _, path := range []string{"/viewer/viewer.js", "/viewer/style.css", "/client.js", "/"} {
		read := func(accepts string) (text, encoding string) {
			req, err := http.NewRequestWithContext(f.ctx(), http.MethodGet, f.url(path), nil)
			require.NoError(t, err)
			req.Header.Set("Accept-Encoding", accepts)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			require.Contains(t, resp.Header.Values("Vary"), "Accept-Encoding")
			body := io.Reader(resp.Body)
			if encoding = resp.Header.Get("Content-Encoding"); encoding == "gzip" {
				body, err = gzip.NewReader(body)
				require.NoError(t, err)
			}
			b, err := io.ReadAll(body)
			require.NoError(t, err)
			return string(b), encoding
		}
		plain, encoding := read("gzip;q=0, br")
		require.Empty(t, encoding)
		packed, encoding := read("br, gzip")
		require.Equal(t, "gzip", encoding)
		require.Equal(t, plain, packed)
		require.NotEmpty(t, plain)
	}
}

// shared is a buffer for several goroutines.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestAccessLog(t *testing.T) {
	var log shared
	f := newFixture(t, gateway.Config{Topics: []string{"t"}, AccessLog: slog.New(slog.NewTextHandler(&log, nil))})
	_, _ = f.refused("GET", "/listen/secret?token=sesame", "", handshake)
	_, _ = f.refused("GET", "/healthz", "", nil)
	_ = f.dial("/ws?token=sesame")
	s := f.stream("topic=t&token=sesame", nil)
	_, _ = s.until("subscribe")
	require.NoError(t, s.close())
	for _, text := range []string{"path=/listen/secret status=403", "path=/healthz status=200 bytes=16", "path=/ws status=101", "path=/events status=200"} {
		eventually(t, text, func() bool { return strings.Contains(log.String(), text) })
	}
	require.NotContains(t, log.String(), "sesame")
	require.Contains(t, log.String(), "from=127.0.0.1")
}
