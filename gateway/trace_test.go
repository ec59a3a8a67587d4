package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// tracer takes down spans that have ended, by the trace that they belong to.
type tracer struct {
	embedded.Tracer

	mu    sync.Mutex
	ended []trace.TraceID
}

type span struct {
	noop.Span
	tracer  *tracer
	context trace.SpanContext
}

type provider struct {
	embedded.TracerProvider
	tracer *tracer
}

func (p provider) Tracer(string, ...trace.TracerOption) trace.Tracer { return p.tracer }

func (t *tracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	s := &span{tracer: t, context: trace.SpanContextFromContext(ctx).WithSpanID(trace.SpanID{7})}
	return trace.ContextWithSpan(ctx, s), s
}

func (s *span) SpanContext() trace.SpanContext { return s.context }

func (s *span) End(...trace.SpanEndOption) {
	s.tracer.mu.Lock()
	defer s.tracer.mu.Unlock()
	s.tracer.ended = append(s.tracer.ended, s.context.TraceID())
}

func (t *tracer) has(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ended := range t.ended {
		if ended.String() == id {
			return true
		}
	}
	return false
}

// Behind OpenTelemetry's middleware each request has a span in its client's trace, which Authorize sees, and events pass as without.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string]bool)
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"}, Publish: []string{"*"},
		Authorize: func(r *http.Request, _ gateway.Access) error {
			mu.Lock()
			defer mu.Unlock()
			seen[trace.SpanContextFromContext(r.Context()).TraceID().String()] = true
			return nil
		},
	})
	var spans tracer
	traced := httptest.NewServer(otelhttp.NewHandler(http.StripPrefix("/pg", f.gw), "gateway",
		otelhttp.WithTracerProvider(provider{tracer: &spans}), otelhttp.WithPropagators(propagation.TraceContext{})))
	t.Cleanup(func() {
		traced.CloseClientConnections()
		traced.Close()
	})
	f.http.URL = traced.URL
	id := func(digit string) string { return strings.Repeat(digit, 32) }
	header := func(digit string) http.Header {
		return http.Header{"Traceparent": {"00-" + id(digit) + "-" + strings.Repeat(digit, 16) + "-01"}}
	}

	ws, _, err := websocket.Dial(f.ctx(), f.url("/listen/t"), &websocket.DialOptions{HTTPHeader: header("1")})
	require.NoError(t, err)
	s := f.stream("topic=t", header("2"))
	_, _ = s.until("subscribe")
	req, err := http.NewRequestWithContext(f.ctx(), http.MethodPost, f.url("/notify/t"), strings.NewReader("7"))
	require.NoError(t, err)
	req.Header = header("3")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Equal(t, "e:7", f.read(ws))
	values, _ := s.some(1)
	require.Equal(t, []string{"t7"}, values)

	eventually(t, "the spans of what is over", func() bool { return spans.has(id("1")) && spans.has(id("3")) })
	require.False(t, spans.has(id("2")), "that of an event stream ends with it")
	require.NoError(t, s.close())
	eventually(t, "and then", func() bool { return spans.has(id("2")) })
	require.NoError(t, ws.CloseNow())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]bool{id("1"): true, id("2"): true, id("3"): true}, seen)
}

// An event is published by a function of the configuration, which has the trace of its request. A payload goes out as it came.
func TestNotifyWithItsTrace(t *testing.T) {
	var hub *pghub.Hub
	type traced struct {
		Trace string
		Value any
	}
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Publish: []string{"*"}, Notify: func(ctx context.Context, topic string, key []int64, value any) error {
		headers := make(propagation.MapCarrier)
		propagation.TraceContext{}.Inject(ctx, headers)
		switch topic {
		case "mine":
			return gateway.Refuse(http.StatusForbidden, "not now")
		case "other":
			return errors.New("secret")
		}
		return hub.Notify(ctx, topic, key, traced{headers["traceparent"], value})
	}})
	hub = f.hub
	f.http.Config.Handler = otelhttp.NewHandler(f.http.Config.Handler, "gateway",
		otelhttp.WithTracerProvider(provider{tracer: new(tracer)}), otelhttp.WithPropagators(propagation.TraceContext{}))
	ws := f.dial("/listen/t")
	id := strings.Repeat("3", 32)
	post := func(path, body string, status int) (answer string) {
		req, err := http.NewRequestWithContext(f.ctx(), http.MethodPost, f.url("/notify/"+path), strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Traceparent", "00-"+id+"-"+strings.Repeat("3", 16)+"-01")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode)
		return string(text)
	}
	trace := `{"Trace":"00-` + id + `-0700000000000000-01","Value":`
	post("t?key=1", "7", http.StatusNoContent)
	require.Equal(t, `e1:`+trace+`7}`, f.read(ws))
	post("t", "", http.StatusNoContent)
	require.Equal(t, `e:`+trace+`null}`, f.read(ws))
	post("t?format=payload", "7", http.StatusNoContent)
	require.Equal(t, "7", f.read(ws))
	require.Contains(t, post("mine", "7", http.StatusForbidden), "not now")
	require.NotContains(t, post("other", "7", http.StatusInternalServerError), "secret")
}
