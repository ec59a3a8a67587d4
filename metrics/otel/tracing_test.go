package pghubotel

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/pghubtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

func record(t *testing.T, origin string) (*Tracing, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	return NewTracing(&TracingConfig{Provider: provider, Origin: origin}), spans
}

// spanOf returns the only span of a kind that has ended.
func spanOf(t *testing.T, spans *tracetest.SpanRecorder, kind trace.SpanKind) (found sdk.ReadOnlySpan) {
	t.Helper()
	for _, s := range spans.Ended() {
		if s.SpanKind() == kind {
			require.Nil(t, found, "two of a kind")
			found = s
		}
	}
	require.NotNil(t, found)
	return found
}

// The span of who handles an event is a root, and has a link to the span of who has published it. The value is as it was.
func TestNotificationsAreLinked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracing, spans := record(t, "me")
		hub := pghubtest.New(t).NewHub(pghub.Config{Codec: Codec{}})
		type order struct{ Item string }
		var got []order
		var within trace.SpanContext
		_, err := hub.Consumer(t.Context(), func(ctx context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				o, err := pghub.Decode[order](ev)
				require.NoError(t, err)
				require.Equal(t, []int64{7}, ev.Key)
				got, within = append(got, o), trace.SpanContextFromContext(ctx)
			}
		}, &pghub.ConsumerConfig{Topics: []string{"orders"}, Middleware: []pghub.Middleware{tracing.Handle}})
		require.NoError(t, err)
		require.NoError(t, tracing.Notify(t.Context(), hub, "orders", []int64{7}, order{"book"}))
		synctest.Wait()
		require.Equal(t, []order{{"book"}}, got)
		producer, consumer := spanOf(t, spans, trace.SpanKindProducer), spanOf(t, spans, trace.SpanKindConsumer)
		require.Equal(t, "send orders", producer.Name())
		require.Equal(t, "process orders", consumer.Name())
		require.Equal(t, consumer.SpanContext(), within, "the handler's own queries belong to it")
		require.Len(t, consumer.Links(), 1)
		require.Equal(t, producer.SpanContext().SpanID(), consumer.Links()[0].SpanContext.SpanID())
		require.Equal(t, producer.SpanContext().TraceID(), consumer.Links()[0].SpanContext.TraceID())
		require.False(t, consumer.Parent().IsValid())
		require.NotEqual(t, producer.SpanContext().TraceID(), consumer.SpanContext().TraceID())

		require.NoError(t, hub.Notify(t.Context(), "orders", []int64{7}, order{"pen"}), "without an envelope")
		synctest.Wait()
		require.Equal(t, []order{{"book"}, {"pen"}}, got)
	})
}

// On the wire an envelope is what the documentation says, for each value, and the codec gives back what was sent.
func TestEnvelope(t *testing.T) {
	tracing, _ := record(t, "me")
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	const headers = `{"pghub":"envelope","headers":{"pghub-origin":"me","traceparent":"00-01000000000000000000000000000000-0200000000000000-01"}`
	for text, value := range map[string]any{
		`,"value":{"price":3}}`: map[string]int{"price": 3}, `,"value":0}`: 0, `,"value":false}`: false, `,"value":""}`: "", `}`: nil,
		`,"value":"<é>"}`: "<é>",
	} {
		for _, test := range []struct {
			codec  pghub.Codec
			prefix string
			key    []int64
		}{{nil, "e7,8:", []int64{7, 8}}, {pghub.JSONCodec{}, "", nil}} {
			c := Codec{test.codec}
			payload, err := c.Append(nil, test.key, tracing.Value(ctx, value))
			require.NoError(t, err)
			require.Equal(t, test.prefix+headers+text, string(payload))
			ev := &pghub.Event{Payload: payload}
			require.NoError(t, c.Decode(ev))
			require.Equal(t, test.key, ev.Key)
			plain, err := c.inner().Append(nil, nil, value)
			require.NoError(t, err)
			want := &pghub.Event{Payload: plain}
			require.NoError(t, c.inner().Decode(want))
			require.Equal(t, string(want.Value), string(ev.Value))
			require.Equal(t, value == nil, ev.Value == nil)
			require.Equal(t, "me", headersOf(ev)[originHeader])
		}
	}
	without, _ := record(t, "")
	require.Equal(t, 3, without.Value(t.Context(), 3), "no trace and no origin: no envelope")
}

// A value that only looks similar is a value. An envelope that is broken is an error.
func TestNoEnvelope(t *testing.T) {
	for _, payload := range []string{`e`, `e7`, `e7:3`, `e:{"pghub":"gap"}`, `e:{"headers":{"pghub-origin":"me"},"a":{"pghub":"envelope","headers":{}}}`, `e:"{\"pghub\":\"envelope\",\"headers\":{}}"`} {
		ev, plain := &pghub.Event{Payload: []byte(payload)}, &pghub.Event{Payload: []byte(payload)}
		require.NoError(t, Codec{}.Decode(ev))
		require.NoError(t, pghub.KeyValueCodec{}.Decode(plain))
		require.Equal(t, plain, ev)
		require.Nil(t, headersOf(ev))
	}
	require.Nil(t, headersOf(&pghub.Event{}), "no payload at all")
	require.Error(t, Codec{}.Decode(&pghub.Event{Payload: []byte(`e:{"pghub":"envelope","headers":7}`)}))
	require.Error(t, Codec{}.Decode(&pghub.Event{Payload: []byte(`e:{"pghub":"envelope",`)}))
}

// What a process has published itself does not reach its handlers. What others have, and supervisory events, do.
func TestSkipOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, _ := record(t, "me")
		other, _ := record(t, "other")
		hub := pghubtest.New(t).NewHub(pghub.Config{Codec: Codec{}})
		var got []string
		_, err := hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory != nil {
				got = append(got, string(ev.Advisory.Action))
			} else {
				got = append(got, string(ev.Value))
			}
		}, &pghub.ConsumerConfig{Topics: []string{"a"}, Middleware: []pghub.Middleware{mine.SkipOwn}})
		require.NoError(t, err)
		require.NoError(t, mine.Notify(t.Context(), hub, "a", nil, 1))
		require.NoError(t, other.Notify(t.Context(), hub, "a", nil, 2))
		require.NoError(t, hub.Notify(t.Context(), "a", nil, 3))
		require.NoError(t, hub.Notify(t.Context(), "a", nil, mine.Value(t.Context(), 4)))
		synctest.Wait()
		require.Equal(t, []string{"subscribe", "2", "3"}, got)
	})
}

// An error of Notify is in the span, and is the caller's.
func TestNotifyFails(t *testing.T) {
	tracing, spans := record(t, "")
	server := pghubtest.New(t)
	hub := server.Hub()
	require.ErrorIs(t, tracing.Notify(t.Context(), hub, "", nil, nil), pghub.ErrTopic)
	require.Equal(t, codes.Error, spanOf(t, spans, trace.SpanKindProducer).Status().Code)
}

// An event of a stream carries the trace in its headers, and each attempt is a span of its own.
func TestStreamIsLinked(t *testing.T) {
	tracing, spans := record(t, "me")
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, sql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })
	require.NoError(t, hub.Start(t.Context()))
	s, err := stream.Open(t.Context(), hub, stream.Config{})
	require.NoError(t, err)
	ctx, span := tracing.tracer.Start(t.Context(), "order")
	require.NoError(t, s.Publish(ctx, "orders", nil, 7, stream.WithHeaders(tracing.Headers(ctx))))
	span.End()
	d, err := s.Durable(t.Context(), "billing", tracing.HandleStream(func(_ context.Context, ev *pghub.Event) error {
		if ev.Record.Attempt == 1 {
			return errors.New("once more")
		}
		return nil
	}), &stream.DurableConfig{From: stream.Earliest})
	require.NoError(t, err)
	handled := func() (ended []sdk.ReadOnlySpan) {
		for _, s := range spans.Ended() {
			if s.SpanKind() == trace.SpanKindConsumer {
				ended = append(ended, s)
			}
		}
		return ended
	}
	require.Eventually(t, func() bool { return len(handled()) == 2 && d.Stats().Delivered == 1 }, pgtest.Patience, tick)
	for i, s := range handled() {
		require.Len(t, s.Links(), 1)
		require.Equal(t, span.SpanContext().SpanID(), s.Links()[0].SpanContext.SpanID())
		require.Equal(t, []codes.Code{codes.Error, codes.Unset}[i], s.Status().Code)
	}
}
