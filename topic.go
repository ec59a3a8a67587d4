package pghub

import (
	"context"
	"errors"
	"fmt"
)

// Topic is a topic whose events have values of type T. Make it with [TopicOf], once, as a variable of your package: then
// those who publish and those who listen cannot disagree about the name or the type.
type Topic[T any] struct{ name string }

// TopicOf names a topic and the type of its values. The name is checked by the methods, which say ErrTopic.
func TopicOf[T any](name string) Topic[T] { return Topic[T]{name} }

// Name returns the topic as it is given to the other methods of this package, and to LISTEN.
func (t Topic[T]) Name() string { return t.name }

// Notifier publishes: a [Hub] or a [Publisher]. Methods may be added to it: embed it into a double for your tests.
type Notifier interface {
	Notify(ctx context.Context, topic string, key []int64, value any) error
	NotifyTx(ctx context.Context, tx Execer, topic string, key []int64, value any) error
	NotifySQLTx(ctx context.Context, tx SQLExecer, topic string, key []int64, value any) error
}

var (
	_ Notifier = (*Hub)(nil)
	_ Notifier = (*Publisher)(nil)
)

// Notify publishes an event. It is [Hub.Notify], and answers like that.
func (t Topic[T]) Notify(ctx context.Context, via Notifier, key []int64, value T) error {
	return via.Notify(ctx, t.name, key, value)
}

// NotifyTx publishes an event inside a transaction of yours. It is [Hub.NotifyTx], and answers like that.
func (t Topic[T]) NotifyTx(ctx context.Context, via Notifier, tx Execer, key []int64, value T) error {
	return via.NotifyTx(ctx, tx, t.name, key, value)
}

// NotifySQLTx publishes an event inside a transaction of database/sql. It is [Hub.NotifySQLTx], and answers like that.
func (t Topic[T]) NotifySQLTx(ctx context.Context, via Notifier, tx SQLExecer, key []int64, value T) error {
	return via.NotifySQLTx(ctx, tx, t.name, key, value)
}

// TopicHandler is called with the events of a [Topic], as [Handler] is: one at a time, in order, with a context that ends
// with the consumer. key is shared with other consumers: read only. An error goes to Config.OnError, with topic and key; the
// event does not come again, and the consumer goes on with the next.
type TopicHandler[T any] func(ctx context.Context, key []int64, value T) error

// TopicConfig makes a consumer of a [Topic]; nil means its zero value. Advisory and Undecodable run on the consumer's
// goroutine, in the place of the stream where they belong, and are like the handler in all else.
type TopicConfig struct {
	// ConsumerConfig is that of the consumer. Its Topics stay empty: the topic is known.
	ConsumerConfig

	// Advisory is called with supervisory events: connect, subscribe, disconnect, reconnect, lag, stop, close. nil: they are
	// passed over. What is to be done at a gap belongs into Resync, which is called all the same.
	Advisory func(ctx context.Context, advisory *Advisory)

	// Undecodable is called with an event that is not what the codec, or type T, expects, in place of the handler. It has the
	// Payload; Key and Value only where the codec could read them. err is a *[DecodeError]. nil: err goes to Config.OnError.
	// So is a gap that a publisher announces ([ErrMuted]) if there is no Resync, which is told of it otherwise.
	//
	// Somebody has published something that you do not understand, and it may have been important: a cache drops all here.
	Undecodable func(ctx context.Context, ev *Event, err error)
}

// Consumer makes a consumer that calls handler with the events of the topic, decoded. The configuration may be nil. In all
// else it is [Hub.Consumer]: when it returns, and with which errors. An event without a value is the zero value of T.
func (t Topic[T]) Consumer(ctx context.Context, hub *Hub, handler TopicHandler[T], cfg *TopicConfig) (*Consumer, error) {
	if handler == nil {
		return nil, errors.New("pghub: consumer: the handler is nil")
	}
	if cfg == nil {
		cfg = &TopicConfig{}
	}
	if len(cfg.Topics) > 0 {
		return nil, fmt.Errorf("pghub: consumer of topic %q: TopicConfig.Topics must be empty", t.name)
	}
	d := &topicDelivery[T]{hub: hub, handler: handler, cfg: *cfg}
	full := cfg.ConsumerConfig
	full.Topics = []string{t.name}
	if cfg.Undecodable != nil { // what the codec refuses is to have its place in the stream too, so it is asked there
		d.codec, full.Codec = orDefault(cfg.Codec, hub.cfg.Codec), RawCodec{}
	}
	return hub.Consumer(ctx, d.handle, &full)
}

// topicDelivery brings a consumer's events to where its TopicConfig says.
type topicDelivery[T any] struct {
	hub     *Hub
	handler TopicHandler[T]
	cfg     TopicConfig
	codec   Codec // still to be asked; nil: the router has asked it
}

func (d *topicDelivery[T]) handle(ctx context.Context, ev *Event) {
	if ev.Advisory != nil {
		if d.cfg.Advisory != nil {
			d.cfg.Advisory(ctx, ev.Advisory)
		}
		return
	}
	if ev.gap && ConsumerFrom(ctx).resync != nil {
		return // Resync is called next
	}
	ev, value, err := d.decode(ev)
	switch {
	case err != nil && d.cfg.Undecodable != nil:
		d.cfg.Undecodable(ctx, ev, err)
	case err != nil:
		d.hub.report.trouble("undecodable", err)
	default:
		if err := d.handler(ctx, ev.Key, value); err != nil {
			d.hub.report.trouble("handler", fmt.Errorf("pghub: %s, on an event of topic %q with key %v: %w",
				ConsumerFrom(ctx).describe(), ev.Topic, ev.Key, err))
		}
	}
}

// decode returns the event with what the codec made of it, and its value.
func (d *topicDelivery[T]) decode(ev *Event) (decoded *Event, value T, err error) {
	if ev.gap {
		return ev, value, &DecodeError{Topic: ev.Topic, Payload: ev.Payload, Err: ErrMuted}
	}
	if d.codec != nil {
		ev = &Event{Topic: ev.Topic, Payload: ev.Payload, PID: ev.PID, Record: ev.Record} // the other one is shared
		if err := decodeSafely(d.codec, ev); err != nil {
			return ev, value, &DecodeError{Topic: ev.Topic, Payload: ev.Payload, Err: err}
		}
	}
	value, err = Decode[T](ev)
	return ev, value, err
}
