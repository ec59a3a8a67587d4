// Package pgwire reads and writes the few messages of the PostgreSQL frontend/backend protocol that a connection meets
// which does nothing but LISTEN. See "Message Formats" in the PostgreSQL manual.
//
// https://www.postgresql.org/docs/current/protocol-message-formats.html
package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pghub/pghub/internal/source"
)

// Types of the messages that the server sends to a listener.
const (
	NotificationResponse = 'A'
	CommandComplete      = 'C'
	DataRow              = 'D'
	ErrorResponse        = 'E'
	EmptyQueryResponse   = 'I'
	NoticeResponse       = 'N'
	ParameterStatus      = 'S'
	RowDescription       = 'T'
	ReadyForQuery        = 'Z'
)

const (
	bufferSize = 64 << 10 // a larger one reads no faster
	headerSize = 5        // type and length

	// MaxFrame is the longest frame a Reader takes. A notification has 8,069 bytes at most; an error or notice that
	// quotes a statement of many LISTENs may be longer. Beyond that the stream makes no sense.
	MaxFrame = 1 << 20
)

// ErrProtocol is wrapped by errors that say that the stream is not what a server sends to a listener.
var ErrProtocol = errors.New("protocol violation")

// Frame is one message. Body aliases the Reader's buffer and is valid until the next Fill.
type Frame struct {
	Type byte
	Body []byte
}

// Reader cuts a stream into frames: Fill reads what there is, Next returns the frames of it one by one.
type Reader struct {
	src  io.Reader
	buf  []byte
	r, w int // unread bytes are buf[r:w]
}

// NewReader returns a Reader of src with a buffer of 64 kB.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, bufferSize)}
}

// Fill reads once from the source, for as long as that takes. Frames returned before are no longer valid.
func (r *Reader) Fill() error {
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if need := r.need(); need > len(r.buf) {
		r.buf = append(make([]byte, 0, need), r.buf[:r.w]...)[:need]
	} else if len(r.buf) > bufferSize && r.w < bufferSize && need <= bufferSize {
		r.buf = append(make([]byte, 0, bufferSize), r.buf[:r.w]...)[:bufferSize]
	}
	n, err := r.src.Read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return nil // an error comes again with the next read
	}
	return err
}

// need is the size of the frame at the front of the buffer, as far as it is known.
func (r *Reader) need() int {
	if r.w-r.r < headerSize {
		return headerSize
	}
	length := binary.BigEndian.Uint32(r.buf[r.r+1:])
	if length > MaxFrame {
		return headerSize // Next refuses it
	}
	return 1 + int(length)
}

// Next returns the next frame; ok is false when the buffer holds no further whole one and Fill must be called.
func (r *Reader) Next() (f Frame, ok bool, err error) {
	b := r.buf[r.r:r.w]
	if len(b) < headerSize {
		return Frame{}, false, nil
	}
	length := binary.BigEndian.Uint32(b[1:])
	if length < 4 || length > MaxFrame {
		return Frame{}, false, fmt.Errorf("%w: message %q with a length of %d bytes", ErrProtocol, b[0], length)
	}
	end := 1 + int(length)
	if len(b) < end {
		return Frame{}, false, nil
	}
	r.r += end
	return Frame{Type: b[0], Body: b[headerSize:end]}, true, nil
}

// Notifications appends the notifications that come next, up to the first frame of another type, the end of what the
// buffer holds, or the capacity of dst. They are valid until the next Fill. With an error come those before it.
func (r *Reader) Notifications(dst []source.Message) ([]source.Message, error) {
	var topic []byte // of the one before: most often it is the same again
	for len(dst) < cap(dst) && r.r < r.w && r.buf[r.r] == NotificationResponse {
		f, ok, err := r.Next()
		if err != nil || !ok {
			return dst, err
		}
		n, err := parseNotification(f.Body, topic)
		if err != nil {
			return dst, err
		}
		topic = n.Topic
		dst = append(dst, n)
	}
	return dst, nil
}

// ParseNotification takes the body of a NotificationResponse apart. What it returns aliases the body.
func ParseNotification(body []byte) (source.Message, error) { return parseNotification(body, nil) }

// parseNotification takes a body apart whose topic is likely to be a known one.
func parseNotification(body, likely []byte) (source.Message, error) {
	if len(body) < 4 {
		return source.Message{}, errNotification
	}
	pid, text := binary.BigEndian.Uint32(body), body[4:]
	end := len(likely)
	if end == 0 || end >= len(text) || text[end] != 0 || !bytes.Equal(text[:end], likely) {
		end = bytes.IndexByte(text, 0)
	}
	if end < 0 {
		return source.Message{}, errNotification
	}
	payload := text[end+1:]
	if len(payload) == 0 || bytes.IndexByte(payload, 0) != len(payload)-1 {
		return source.Message{}, errNotification
	}
	return source.Message{Topic: text[:end:end], Payload: payload[: len(payload)-1 : len(payload)-1], PID: pid}, nil
}

var errNotification = fmt.Errorf("%w: malformed notification", ErrProtocol)

// AppendQuery appends a simple Query message. sql holds no NUL.
func AppendQuery(dst []byte, sql string) []byte {
	dst = append(dst, 'Q')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(sql)+1))
	dst = append(dst, sql...)
	return append(dst, 0)
}

// AppendTerminate appends a Terminate message.
func AppendTerminate(dst []byte) []byte { return append(dst, 'X', 0, 0, 0, 4) }

// AppendIdentifier appends name as a quoted identifier, in which every character but NUL stands for itself.
func AppendIdentifier(dst []byte, name string) []byte {
	dst = append(dst, '"')
	for i := range len(name) {
		if name[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '"')
}
