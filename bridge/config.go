package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pghub/pghub"
)

// Config makes a [Bridge].
type Config struct {
	Routes []Route

	Logger *slog.Logger // nil: silent

	// OnError is told of trouble: a failed Send, a message that was refused, a gap, a source that cannot go on. It is called on one
	// goroutine, never concurrently with itself, and may block: the bridge goes on, and leaves errors out. nil: nobody.
	OnError func(error)

	// StopTimeout is how long Run lets routes finish what they have begun when its context ends. 0: 10 s.
	StopTimeout time.Duration
}

// Route brings events of a source to a sink. Name, Source and Sink must be set.
type Route struct {
	// Name of the route, in the log, in errors and figures. A source that keeps positions keeps them under this name, unless it is
	// told another one: do not change it. Each route has its own.
	Name string

	Source Source

	// Topics whose events it brings, and Match patterns of topics, in which * is any text. A hub's route has to name its topics. With
	// neither, the route of a stream brings all.
	Topics, Match []string

	Sink Sink

	// Target is a template for where the broker is to put the message: "shop.{topic}.{value.state|none}". "": what the sink is
	// configured for. What an event brings into it is not checked but by the sink and the broker.
	Target string

	// GapTarget is the template for messages that say that events may be missing, if the sink takes such. Of fields they have only
	// topic, which is pghub.gap, and value, with since, until, dropped and reason. "": the sink's own choice.
	GapTarget string

	// PartitionKey is a template for what keeps messages together, for brokers with partitions. "": the sink's choice.
	PartitionKey string

	// Headers are templates for headers of the message, besides those of the event. One that the event has nothing for is left out.
	Headers map[string]string

	// Format of the body. The zero value is the event's value.
	Format Format

	// ContentType is said in place of the one that belongs to the format, but for CloudEvents.
	ContentType string

	// CloudEvent has the attributes of formats CloudEvents and CloudEventsBinary.
	CloudEvent CloudEvent

	// Edit has the last word: it may change the message, in its fields for the broker. It must give the same for the same event,
	// and must not change what the fields point at. An error, or a panic, refuses the event for good. It is not called for a gap.
	Edit func(ev *pghub.Event, m *Message) error

	// Lanes is how many messages are under way at once, those of one topic and key in order. With more than one they go to the sink
	// one by one, and a lane that fails does not hold up the others for up to 10,000 events: for sinks that wait long for each,
	// such as webhooks. 0: 1, with which batches go out, and all comes in the order of the source.
	Lanes int

	// Batch and BatchBytes are how many messages, and bytes of bodies, go to the sink at once at most, and one message at least.
	// They are the window of what is not confirmed. 0: 500, and 4 MiB.
	Batch, BatchBytes int

	// Timeout of one Send. 0: 30 s.
	Timeout time.Duration

	// RetryMin and RetryMax bound the wait between two attempts: a random time up to RetryMin·2ⁿ, at most RetryMax. 0: 100 ms and 30 s.
	RetryMin, RetryMax time.Duration

	// Attempts is after how many failures a message counts as refused. 0: no limit, so that a broker that is away for long costs
	// nothing but time.
	Attempts int
}

const (
	defaultStopTimeout = 10 * time.Second
	defaultBatch       = 500
	defaultBatchBytes  = 4 << 20
	defaultTimeout     = 30 * time.Second
	defaultRetryMin    = 100 * time.Millisecond
	defaultRetryMax    = 30 * time.Second
	maxLanes           = 1024
	maxBatch           = 10_000
)

func (cfg Config) withDefaults() (Config, error) {
	if len(cfg.Routes) == 0 {
		return cfg, errors.New("bridge: Config.Routes is empty")
	}
	if cfg.StopTimeout < 0 {
		return cfg, fmt.Errorf("bridge: Config.StopTimeout is %v", cfg.StopTimeout)
	}
	cfg.StopTimeout = orDefault(cfg.StopTimeout, defaultStopTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// withDefaults fills in what is not set. The error says what is wrong.
func (r Route) withDefaults() (Route, error) {
	if r.Name == "" || r.Source == nil || r.Sink == nil {
		return r, errors.New("a route needs Name, Source and Sink")
	}
	r.Lanes = orDefault(r.Lanes, 1)
	r.Batch = orDefault(r.Batch, defaultBatch)
	r.BatchBytes = orDefault(r.BatchBytes, defaultBatchBytes)
	r.Timeout = orDefault(r.Timeout, defaultTimeout)
	r.RetryMin = orDefault(r.RetryMin, defaultRetryMin)
	r.RetryMax = orDefault(r.RetryMax, max(defaultRetryMax, r.RetryMin))
	switch {
	case r.Lanes < 1, r.Lanes > maxLanes:
		return r, fmt.Errorf("field Lanes is %d; 1 to %d", r.Lanes, maxLanes)
	case r.Batch < 1, r.Batch > maxBatch:
		return r, fmt.Errorf("field Batch is %d; 1 to %d", r.Batch, maxBatch)
	case r.BatchBytes < 1:
		return r, fmt.Errorf("field BatchBytes is %d", r.BatchBytes)
	case r.Timeout < 0:
		return r, fmt.Errorf("field Timeout is %v", r.Timeout)
	case r.RetryMin < 0, r.RetryMax < r.RetryMin:
		return r, fmt.Errorf("wrong backoff: RetryMin is %v and RetryMax %v", r.RetryMin, r.RetryMax)
	case r.Attempts < 0:
		return r, fmt.Errorf("field Attempts is %d", r.Attempts)
	case slices.Contains(r.Match, ""):
		return r, errors.New("field Match: a pattern is empty")
	case r.Format < 0, int(r.Format) >= len(formatNames):
		return r, fmt.Errorf("there is no format %d", r.Format)
	}
	if limited, is := r.Sink.(Limited); is && limited.MaxBatch() > 0 {
		r.Batch = min(r.Batch, limited.MaxBatch())
	}
	if orderly, is := r.Sink.(Orderly); is && orderly.NeedsOrder() && r.Lanes > 1 {
		return r, fmt.Errorf("field Lanes is %d, and the sink needs all messages in order: 1", r.Lanes)
	}
	return r, nil
}

// writer parses the route's templates. The error names the field.
func (r *Route) writer() (*writer, error) {
	w := &writer{route: r.Name, format: r.Format, contentType: r.ContentType, edit: r.Edit, headers: make(map[string]*template, len(r.Headers))}
	var err error
	for _, one := range []struct {
		name, text string
		into       **template
	}{{"Target", r.Target, &w.target}, {"GapTarget", r.GapTarget, &w.gapTarget}, {"PartitionKey", r.PartitionKey, &w.partitionKey}} {
		if *one.into, err = parseTemplate(one.text); err != nil {
			return nil, fmt.Errorf("field %s: %w", one.name, err)
		}
	}
	for name, text := range r.Headers {
		if name == "" {
			return nil, errors.New("field Headers: a name is empty")
		}
		if w.headers[name], err = parseTemplate(text); err != nil {
			return nil, fmt.Errorf("field Headers: %s: %w", name, err)
		}
	}
	w.ce, err = parseCloudEvent(r.CloudEvent, r.Name)
	return w, err
}

// escapeBraces makes a template of a text that stays as it is.
func escapeBraces(text string) string {
	return strings.NewReplacer("{", "{{", "}", "}}").Replace(text)
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
