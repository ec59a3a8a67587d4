package pghubotel

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

const scope = "github.com/pghub/pghub/metrics/otel"

// TracingConfig makes a [Tracing]; nil means its zero value.
type TracingConfig struct {
	// Provider of the tracer. nil: the global one.
	Provider trace.TracerProvider

	// Propagator of contexts. nil: propagation.TraceContext{}, which writes traceparent and tracestate.
	Propagator propagation.TextMapPropagator

	// Origin names this process, for SkipOwn: different in each process, such as a UUID made at the start. Empty: events do
	// not say where they come from.
	Origin string
}

// Tracing sends trace contexts along with events, and begins spans where they are handled. All methods may be called from several
// goroutines at once.
type Tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	origin     string
}

// NewTracing makes a Tracing. The configuration may be nil.
func NewTracing(cfg *TracingConfig) *Tracing {
	if cfg == nil {
		cfg = &TracingConfig{}
	}
	provider, propagator := cfg.Provider, cfg.Propagator
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	if propagator == nil {
		propagator = propagation.TraceContext{}
	}
	return &Tracing{tracer: provider.Tracer(scope), propagator: propagator, origin: cfg.Origin}
}

// Headers are the trace context of ctx, and the origin, as headers of an event of a stream:
// s.Publish(ctx, topic, key, value, stream.WithHeaders(tracing.Headers(ctx))).
func (t *Tracing) Headers(ctx context.Context) map[string]string {
	headers := make(map[string]string)
	t.propagator.Inject(ctx, propagation.MapCarrier(headers))
	if t.origin != "" {
		headers[originHeader] = t.origin
	}
	return headers
}

// Value puts a value into an envelope with [Tracing.Headers], for those methods that publish and that Tracing does not have, such
// as hub.NotifyTx(ctx, tx, topic, key, tracing.Value(ctx, value)). Where there are no headers it returns value as it is.
func (t *Tracing) Value(ctx context.Context, value any) any {
	headers := t.Headers(ctx)
	if len(headers) == 0 {
		return value
	}
	return envelope{Kind: "envelope", Headers: headers, Value: value}
}

// Notify is that of the hub, or of a publisher, in a producer span whose context goes along with the event, in an envelope. It
// needs readers with [Codec]. Errors are those of [pghub.Hub.Notify], and are recorded in the span.
func (t *Tracing) Notify(ctx context.Context, via pghub.Notifier, topic string, key []int64, value any) error {
	ctx, span := t.tracer.Start(ctx, "send "+topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attributes("send", topic)...))
	defer span.End()
	err := via.Notify(ctx, topic, key, t.Value(ctx, value))
	fail(span, err)
	return err
}

// Handle is middleware: each event is handled in a consumer span of its own, which begins a new trace, with a link to the span
// that has published it. Supervisory events pass without one. A handler of batches has one span for each batch, linked to the
// first event's.
func (t *Tracing) Handle(next pghub.Handler) pghub.Handler {
	return func(ctx context.Context, ev *pghub.Event) {
		if ev.Advisory != nil {
			next(ctx, ev)
			return
		}
		ctx, span := t.process(ctx, ev)
		defer span.End()
		next(ctx, ev)
	}
}

// HandleStream is Handle for a durable consumer. An error of the handler is recorded in the span; each attempt has its own.
func (t *Tracing) HandleStream(next stream.Handler) stream.Handler {
	return func(ctx context.Context, ev *pghub.Event) error {
		ctx, span := t.process(ctx, ev)
		defer span.End()
		err := next(ctx, ev)
		fail(span, err)
		return err
	}
}

// SkipOwn is middleware: events that were published with the origin of this Tracing do not reach the handler. Without an origin
// all do.
func (t *Tracing) SkipOwn(next pghub.Handler) pghub.Handler {
	return func(ctx context.Context, ev *pghub.Event) {
		if t.origin == "" || ev.Advisory != nil || headersOf(ev)[originHeader] != t.origin {
			next(ctx, ev)
		}
	}
}

func (t *Tracing) process(ctx context.Context, ev *pghub.Event) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes("process", ev.Topic)...),
	}
	from := t.propagator.Extract(context.Background(), propagation.MapCarrier(headersOf(ev)))
	if publisher := trace.SpanContextFromContext(from); publisher.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: publisher}))
	}
	return t.tracer.Start(ctx, "process "+ev.Topic, options...)
}

// attributes are those of the semantic conventions for messaging.
func attributes(operation, topic string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "postgresql"),
		attribute.String("messaging.operation.type", operation),
		attribute.String("messaging.destination.name", topic),
	}
}

func fail(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
}
