package pghub

import (
	"encoding/json"
	"time"
)

// gapMark begins the payload by which a publisher announces a gap in a topic: pghub.unmute does. To others it is an event
// like any other. A comma or a brace follows.
const gapMark = `e:{"pghub":"gap"`

// AnnouncesGap says whether the publisher announces a gap by this event: pghub.unmute does. A Resync is called behind it, with
// [ErrMuted]. Handlers without a Resync have to look themselves; to them it is an event like any other.
func (e *Event) AnnouncesGap() bool { return announcesGap(e.Payload) }

func announcesGap(payload []byte) bool {
	const n = len(gapMark)
	return len(payload) > n && string(payload[:n]) == gapMark && (payload[n] == ',' || payload[n] == '}')
}

// announcedGap is the gap of a payload that announces one. What it does not say of its times is zero.
func announcedGap(payload []byte) Gap {
	var times struct{ Since, Until time.Time }
	_ = json.Unmarshal(payload[len("e:"):], &times) // the gap is one whatever else is in the payload
	return Gap{Since: times.Since, Until: times.Until, Err: ErrMuted}
}
