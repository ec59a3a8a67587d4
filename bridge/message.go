package bridge

import (
	"time"

	"github.com/pghub/pghub"
)

// Message is what a sink brings to its broker: an event in the form that the route gives it.
type Message struct {
	// ID is the same whenever the event is sent, and no other event's. Where the source has positions it is Position as text, such as
	// 1700000000000.7.5. Else it is made up when the event arrives, and the same for as long as the event is tried.
	ID string

	// Position is where the source has the event: it rises with each message of a route that has one lane. It is zero for a source
	// that has none, such as a hub.
	Position pghub.Position

	// Again says that this message comes out of order, because somebody wants it tried once more: it was parked, or is replayed.
	// A sink must not conclude from its Position that it is there already.
	Again bool

	Route string  // the route's name
	Topic string  // the event's
	Key   []int64 // the event's; nil: none. Read only

	// Target is where the broker is to put it: a routing key, subject, channel, topic or URL, by the route's template. "": what the
	// sink is configured for.
	Target string

	// PartitionKey is what keeps messages together and in order, for a broker that has partitions or groups, by the route's
	// template. "": the sink's choice.
	PartitionKey string

	// Headers are those of the event and of the route, the latter winning. Read only. nil: none.
	Headers map[string]string

	// Attributes are those of a CloudEvent in binary mode, nil in every other format. Their names are bare, such as "id" and
	// "specversion", and the sink adds what its protocol wants in front of them: "ce-" for HTTP and NATS, "ce_" for Kafka,
	// "cloudEvents:" for AMQP, nothing for MQTT 5.
	Attributes map[string]string

	Body        []byte // read only; may be empty
	ContentType string // of Body; "": not known
	Time        time.Time

	// Gap is set for a message that is no event, but says that events may be missing in this place. Only a [GapTaker] gets one.
	Gap *Gap
}

// Gap says that events may be missing.
type Gap struct {
	Since   time.Time // when events were last known to arrive; zero: not known
	Until   time.Time // when they arrived again; zero: not known
	Dropped uint64    // so many are missing, exactly; 0: not known
	Reason  string    // in words
}

const (
	spanBits = 24 // of an Ordinal, for an event's place in its transaction
	maxSpan  = 1<<spanBits - 1
)

// TickOrdinal is the Position as two numbers, for a broker that numbers messages by two: (tick, ordinal) rises with each message of
// a route that has one lane, and is the same whenever the message is sent. Both are 0 if there is no position.
//
// It is exact but for a transaction that has taken part in the stream for longer than it took others to publish 16 million events:
// its oldest events share an ordinal then; and at one tick in a trillion events the ordinal begins again. So a broker's "it is
// there already" is best made sure of by ID.
func (m *Message) TickOrdinal() (tick, ordinal uint64) {
	p := m.Position
	switch {
	case p.Txn == 0: // a source without transactions in its ticks
		return uint64(p.Tick), uint64(p.ID)
	case p.ID > p.Txn:
		return uint64(p.Tick), uint64(p.Txn) << spanBits
	}
	span := min(uint64(p.Txn-p.ID), maxSpan) // the last event of a transaction gives it its number
	return uint64(p.Tick), uint64(p.Txn)<<spanBits | (maxSpan - span)
}
