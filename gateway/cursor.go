package gateway

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// cursor is how far a client has come: the id that it shows when it comes back. Its text is a position of the stream, or ~EPOCH.NUMBER
// of the history in memory, or both, one behind the other.
type cursor struct {
	at     pghub.Position // in the stream; zero: not said
	epoch  string         // which history; "": not said
	number uint64         // in it

	start    stream.Start // instead of at, where a client names a time or the beginning
	hasStart bool
}

// String is what parseCursor reads.
func (c cursor) String() string {
	var text string
	if !c.at.IsZero() {
		text = c.at.String()
	}
	if c.epoch != "" {
		text += historyID(c.epoch, c.number)
	}
	return text
}

func historyID(epoch string, number uint64) string {
	return "~" + epoch + "." + strconv.FormatUint(number, 10)
}

// firstTick is before every tick, which are Unix time in milliseconds. What is less is an id of something else.
const firstTick = 1_000_000_000_000

// parseCursor reads an id that a gateway gave: this one, or another process. ok: it is one.
func parseCursor(text string) (c cursor, ok bool) {
	position, rest, both := strings.Cut(text, "~")
	if both {
		epoch, number, _ := strings.Cut(rest, ".")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || epoch == "" {
			return cursor{}, false
		}
		c.epoch, c.number = epoch, n
	}
	if position != "" {
		at, err := pghub.ParsePosition(position)
		if err != nil || at.Tick < firstTick {
			return cursor{}, false
		}
		c.at = at
	}
	return c, text != ""
}

// parseSince reads what a client may say itself: an id, a time, or "earliest".
func parseSince(text string) (c cursor, ok bool) {
	if text == "earliest" {
		return cursor{start: stream.Earliest, hasStart: true}, true
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return cursor{start: stream.Since(at), hasStart: true}, true
	}
	return parseCursor(text)
}

// withID is a message with its id as the last member.
func withID(message []byte, id string) []byte {
	message = append(message[:len(message)-1], `,"id":"`...)
	return append(append(message, id...), `"}`...)
}

// idOf is the id in a message; nil if it has none.
func idOf(message []byte) []byte {
	id, has := bytes.CutSuffix(message, []byte(`"}`))
	if !has {
		return nil
	}
	i := bytes.LastIndexByte(id, '"') // no id has one in it
	if i < 0 || !bytes.HasSuffix(id[:i+1], []byte(`,"id":"`)) {
		return nil
	}
	return id[i+1:]
}

// markOf is the place of a message in what it comes from, by its id: a position of the stream, or a number of the history as one.
func markOf(id []byte) pghub.Position {
	if i := bytes.LastIndexByte(id, '.'); i >= 0 && id[0] == '~' {
		n, _ := strconv.ParseUint(string(id[i+1:]), 10, 64) // it is one
		return numbered(n)
	}
	at, _ := pghub.ParsePosition(string(id)) // it is one
	return at
}

// numbered is a number of the history as a mark.
func numbered(n uint64) pghub.Position { return pghub.Position{ID: int64(n)} }
