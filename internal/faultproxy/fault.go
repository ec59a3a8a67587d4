package faultproxy

import "time"

// Fault says what happens to the bytes of one direction, or of both. The zero value passes them on untouched.
type Fault struct {
	// Blackhole accepts bytes and throws them away, as a network that lost its route does. The end of the
	// stream is not passed on either, until the fault is healed. What was thrown away stays lost.
	Blackhole bool
	// Stall stops reading, so that the sender's buffers fill up. Nothing is lost: healed, the stream goes on
	// where it stopped.
	Stall bool
	// Chunk is the most bytes written at a time, 1 to dribble. 0: no limit.
	Chunk int
	// Pause is the wait after every chunk.
	Pause time.Duration
	// Latency is how long what one read brought is kept before it is passed on.
	Latency time.Duration
}

// Direction is one of the two ways through a connection.
type Direction int

// The two directions.
const (
	ToServer Direction = iota // what the client sends
	ToClient                  // what the server sends
)

// String returns the name of d.
func (d Direction) String() string {
	if d == ToServer {
		return "to server"
	}
	return "to client"
}
