package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pghub/pghub/internal/source"
	"github.com/stretchr/testify/require"
)

// frame makes the bytes of a message.
func frame(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

// readAll reads a stream to its end and returns the frames as text.
func readAll(src io.Reader) (frames []string, err error) {
	r := NewReader(src)
	for {
		if err := r.Fill(); err != nil {
			return frames, err
		}
		for {
			f, ok, err := r.Next()
			if err != nil {
				return frames, err
			}
			if !ok {
				break
			}
			frames = append(frames, string([]byte{f.Type})+string(f.Body))
		}
	}
}

// parts delivers a stream in pieces of given sizes, the last one over and over.
type parts struct {
	data  []byte
	sizes []int
}

func (p *parts) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	size := max(p.sizes[0], 1)
	if len(p.sizes) > 1 {
		p.sizes = p.sizes[1:]
	}
	n := copy(b, p.data[:min(size, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

func TestReader(t *testing.T) {
	var stream []byte
	var want []string
	for _, size := range []int{0, 1, 9, 8069, 0, bufferSize - headerSize, bufferSize, 1, MaxFrame - 4, 3} {
		body := strings.Repeat("x", size)
		stream = append(stream, frame('A', body)...)
		want = append(want, "A"+body)
	}
	for name, src := range map[string]io.Reader{
		"as it comes":         bytes.NewReader(stream),
		"one byte at a time":  iotest.OneByteReader(bytes.NewReader(stream)),
		"half of it":          iotest.HalfReader(bytes.NewReader(stream)),
		"data with the error": iotest.DataErrReader(bytes.NewReader(stream)),
		"full buffers":        &parts{stream, []int{bufferSize}},
		"odd pieces":          &parts{stream, []int{1, 4, 5, 6, 8073, 65535, 65536, 65537, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(src)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, want, got)
		})
	}
}

// readNotifications does what readAll does, with notifications taken several at a time.
func readNotifications(src io.Reader, together int) (frames []string, err error) {
	r := NewReader(src)
	for {
		if err := r.Fill(); err != nil {
			return frames, err
		}
		for {
			burst, err := r.Notifications(make([]source.Message, 0, together))
			for _, n := range burst {
				encoded, err := (&pgproto3.NotificationResponse{PID: n.PID, Channel: string(n.Topic), Payload: string(n.Payload)}).Encode(nil)
				if err != nil {
					return frames, err
				}
				frames = append(frames, "A"+string(encoded[headerSize:]))
			}
			if err != nil {
				return frames, err
			}
			if len(burst) == together {
				continue
			}
			f, ok, err := r.Next()
			if err != nil {
				return frames, err
			}
			if !ok {
				break
			}
			frames = append(frames, string([]byte{f.Type})+string(f.Body))
		}
	}
}

func TestReaderNotifications(t *testing.T) {
	const one = "\x00\x00\x00\x07topic\x00payload\x00"
	stream := bytes.Repeat(frame('A', one), 7)
	stream = append(stream, frame('Z', "I")...)
	stream = append(stream, frame('A', one)...)
	stream = append(stream, frame('C', "LISTEN")...)
	want, err := readAll(bytes.NewReader(stream))
	require.ErrorIs(t, err, io.EOF)
	for _, together := range []int{1, 2, 7, 8, 100} {
		for name, src := range map[string]io.Reader{"at once": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream))} {
			got, err := readNotifications(src, together)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, want, got, "%s, %d together", name, together)
		}
	}

	// What came before nonsense is there.
	for _, nonsense := range [][]byte{frame('A', "x"), {'A', 0, 0, 0, 3}} {
		for n, ahead := range map[int][]byte{len(want): stream, 7: bytes.Repeat(frame('A', one), 7)} {
			got, err := readNotifications(bytes.NewReader(append(ahead[:len(ahead):len(ahead)], nonsense...)), 100)
			require.ErrorIs(t, err, ErrProtocol)
			require.Equal(t, want[:n], got)
		}
	}
}

// Notifications may fill the buffer to its last byte.
func TestReaderNotificationsFillTheBuffer(t *testing.T) {
	const several = bufferSize / 4096
	one := frame('A', "\x00\x00\x00\x07topic\x00"+strings.Repeat("x", 4096-headerSize-4-len("topic")-2)+"\x00")
	stream := bytes.Repeat(one, several+1)
	want, err := readAll(bytes.NewReader(stream))
	require.ErrorIs(t, err, io.EOF)
	for _, together := range []int{1, several, several + 1} {
		got, err := readNotifications(&parts{stream, []int{bufferSize}}, together)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, want, got, "%d together", together)
	}
}

// The topic of a notification is its own, however much it looks like that of the one before, and however much longer that was
// than all of it.
func TestReaderTopicsAlike(t *testing.T) {
	topics := []string{"a", "a", "ab", "a", "abc", "ab", "b", "", "a", "", "", "abc", "abd"}
	payloads := make([]string, len(topics), 100)
	for i := range topics {
		payloads[i] = fmt.Sprint("payload", i)
	}
	for length := range 12 { // without payloads
		topics = append(topics, strings.Repeat("x", length), "x", strings.Repeat("x", length), "")
	}
	payloads = payloads[:len(topics)]
	var stream []byte
	for i, topic := range topics {
		stream = append(stream, frame('A', fmt.Sprintf("\x00\x00\x00\x07%s\x00%s\x00", topic, payloads[i]))...)
	}
	r := NewReader(bytes.NewReader(stream))
	require.NoError(t, r.Fill())
	got, err := r.Notifications(make([]source.Message, 0, 100))
	require.NoError(t, err)
	require.Len(t, got, len(topics))
	for i, topic := range topics {
		require.Equal(t, topic, string(got[i].Topic))
		require.Equal(t, payloads[i], string(got[i].Payload))
	}
}

// Wherever a stream is cut, the frames are the same.
func TestReaderSplits(t *testing.T) {
	var stream []byte
	want := []string{"A", "Za", "Sname\x00value\x00", "Cc", "A" + strings.Repeat("x", 300)}
	for _, f := range want {
		stream = append(stream, frame(f[0], f[1:])...)
	}
	for first := range stream {
		for second := range min(first, 40) {
			got, err := readAll(&parts{stream, []int{second, first, len(stream)}})
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, want, got, "split at %d and %d", second, first)
		}
	}
}

// A length that cannot be is refused at once, and costs no memory.
func TestReaderRefusesLengths(t *testing.T) {
	for name, length := range map[string]uint32{
		"zero": 0, "three": 3, "just too long": MaxFrame + 1, "1 GB": 1 << 30, "negative": math.MaxUint32, "most negative": 1 << 31,
	} {
		t.Run(name, func(t *testing.T) {
			stream := append(frame('A', "ok"), 'E')
			stream = binary.BigEndian.AppendUint32(stream, length)
			stream = append(stream, "text"...)
			for _, src := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream))} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				got, err := readAll(src)
				runtime.ReadMemStats(&after)
				require.ErrorIs(t, err, ErrProtocol)
				require.ErrorContains(t, err, `'E'`)
				require.Equal(t, []string{"Aok"}, got)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(MaxFrame))
			}
		})
	}
	_, err := readAll(bytes.NewReader(frame('A', strings.Repeat("x", MaxFrame-4))))
	require.ErrorIs(t, err, io.EOF, "the longest one is fine")
}

// A frame that is announced but never comes whole is the error of the connection, not a frame.
func TestReaderCutShort(t *testing.T) {
	whole := frame('A', "some text")
	for n := range whole {
		got, err := readAll(bytes.NewReader(whole[:n]))
		require.ErrorIs(t, err, io.EOF)
		require.Empty(t, got)
	}
	broken := errors.New("broken")
	got, err := readAll(io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
	require.Len(t, got, 1)
}

// After a long frame the buffer is as large as before: it is there for years.
func TestReaderGivesRoomBack(t *testing.T) {
	r := NewReader(io.MultiReader(bytes.NewReader(frame('E', strings.Repeat("x", MaxFrame-4))), bytes.NewReader(frame('Z', "I"))))
	for seen := 0; seen < 2; {
		require.NoError(t, r.Fill())
		for {
			_, ok, err := r.Next()
			require.NoError(t, err)
			if !ok {
				break
			}
			seen++
		}
	}
	require.Len(t, r.buf, bufferSize)
}

// The room for a long frame is made once, however slowly the frame comes.
func TestReaderKeepsRoomForAFrame(t *testing.T) {
	long := frame('E', strings.Repeat("x", MaxFrame-4))
	r := NewReader(&parts{long, []int{headerSize, 1, 1, len(long)}})
	for range 2 {
		require.NoError(t, r.Fill())
	}
	room := &r.buf[0]
	for range 2 {
		require.NoError(t, r.Fill())
		require.Same(t, room, &r.buf[0])
	}
	_, ok, err := r.Next()
	require.NoError(t, err)
	require.True(t, ok)
}

// Reading frames costs no memory.
func TestReaderAllocates(t *testing.T) {
	stream := bytes.Repeat(frame('A', "\x00\x00\x00\x07topic\x00payload\x00"), 1000)
	src := bytes.NewReader(stream)
	r := NewReader(src)
	room, read := make([]source.Message, 0, 100), 0
	require.Zero(t, testing.AllocsPerRun(10, func() {
		src.Reset(stream)
		for r.Fill() == nil {
			for burst, _ := r.Notifications(room); len(burst) > 0; burst, _ = r.Notifications(room) {
				read += len(burst)
			}
		}
	}))
	require.Equal(t, 11*1000, read)
}

func TestParseNotification(t *testing.T) {
	for _, n := range []source.Message{
		{Topic: []byte("topic"), Payload: []byte(`e1:"é"`), PID: 7},
		{Topic: []byte("topic"), Payload: []byte{}, PID: math.MaxUint32},
		{Topic: []byte(strings.Repeat("x", 63)), Payload: bytes.Repeat([]byte("y"), 7999)},
	} {
		encoded, err := (&pgproto3.NotificationResponse{PID: n.PID, Channel: string(n.Topic), Payload: string(n.Payload)}).Encode(nil)
		require.NoError(t, err)
		got, err := ParseNotification(encoded[headerSize:])
		require.NoError(t, err)
		require.Equal(t, n, got)

		_ = append(got.Topic, 'z')
		_ = append(got.Payload, 'z')
		again, err := ParseNotification(encoded[headerSize:])
		require.NoError(t, err)
		require.Equal(t, n, again, "appending to a part changes no other part")
	}
	for _, body := range []string{
		"", "\x00\x00\x07", "\x00\x00\x00\x07", "\x00\x00\x00\x07topic", "\x00\x00\x00\x07topic\x00", "\x00\x00\x00\x07topic\x00payload",
		"\x00\x00\x00\x07topic\x00pay\x00load\x00", "\x00\x00\x00\x07topic\x00payload\x00\x00",
	} {
		_, err := ParseNotification([]byte(body))
		require.ErrorIs(t, err, ErrProtocol, "%q", body)
	}
}

func TestAppendMessages(t *testing.T) {
	for _, sql := range []string{"", `LISTEN "a";LISTEN "é"`, strings.Repeat("x", 100_000)} {
		want, err := (&pgproto3.Query{String: sql}).Encode([]byte("before"))
		require.NoError(t, err)
		require.Equal(t, want, AppendQuery([]byte("before"), sql))
	}
	want, err := (&pgproto3.Terminate{}).Encode([]byte("before"))
	require.NoError(t, err)
	require.Equal(t, want, AppendTerminate([]byte("before")))
}

func TestAppendIdentifier(t *testing.T) {
	for _, name := range []string{"a", "Orders", "user", `a"b`, `"`, `""`, `"; DROP TABLE t; --`, `a\b'c$1`, "é😀 \n", ""} {
		require.Equal(t, "x"+pgx.Identifier{name}.Sanitize(), string(AppendIdentifier([]byte("x"), name)))
	}
}

// Random bytes end in frames, an error of the protocol or the end, never in a panic; and the same frames come however the
// bytes are cut.
func FuzzFrames(f *testing.F) {
	f.Add(append(frame('A', "some text"), frame('Z', "")...), uint16(1), uint16(7))
	f.Add(frame('A', "x")[:4], uint16(3), uint16(0))
	f.Add([]byte{'A', 0, 0, 0, 3}, uint16(1), uint16(1))
	f.Add([]byte{'A', 0x40, 0, 0, 0, 1, 2, 3}, uint16(6), uint16(2))
	f.Fuzz(func(t *testing.T, data []byte, first, then uint16) {
		want, wantErr := readAll(bytes.NewReader(data))
		got, err := readAll(&parts{data, []int{int(first), int(then)}})
		require.Equal(t, want, got)
		require.Equal(t, wantErr, err)
		if !errors.Is(err, io.EOF) {
			require.ErrorIs(t, err, ErrProtocol)
		}
		size := 0
		for _, f := range got {
			size += headerSize + len(f) - 1
		}
		require.LessOrEqual(t, size, len(data))

		many, err := readNotifications(&parts{data, []int{int(first), int(then)}}, 1+int(first)%5)
		require.Error(t, err)
		require.LessOrEqual(t, len(many), len(want)) // they end at a malformed notification
		for i, f := range many {
			require.Equal(t, want[i], f)
		}

		var whole []byte
		for _, f := range got {
			whole = append(whole, frame(f[0], f[1:])...)
		}
		require.True(t, bytes.HasPrefix(data, whole))
	})
}

// What parses is what would be sent, and agrees with pgx.
func FuzzNotification(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x07topic\x00payload\x00"))
	f.Add([]byte("\x00\x00\x00\x07\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x07topic\x00pay\x00load\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := ParseNotification(body)
		if err != nil {
			require.ErrorIs(t, err, ErrProtocol)
			return
		}
		encoded, err := (&pgproto3.NotificationResponse{PID: n.PID, Channel: string(n.Topic), Payload: string(n.Payload)}).Encode(nil)
		require.NoError(t, err)
		require.Equal(t, body, encoded[headerSize:])
		var theirs pgproto3.NotificationResponse
		require.NoError(t, theirs.Decode(body))
		require.Equal(t, theirs.Channel, string(n.Topic))
		require.Equal(t, theirs.Payload, string(n.Payload))
		require.Equal(t, theirs.PID, n.PID)
	})
}

// A read may bring bytes and an error: the bytes count first.
func TestReaderGivesWhatCameWithAnError(t *testing.T) {
	r := NewReader(iotest.DataErrReader(bytes.NewReader([]byte{ReadyForQuery, 0, 0, 0, 5, 'I'})))
	require.NoError(t, r.Fill())
	f, ok, err := r.Next()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, Frame{Type: ReadyForQuery, Body: []byte("I")}, f)
	require.ErrorIs(t, r.Fill(), io.EOF)
}

// What is appended to a text of a notification must not run into what lies behind it.
func TestParsedTextsEndWhereTheyEnd(t *testing.T) {
	n, err := ParseNotification([]byte("\x00\x00\x00\x07channel\x00payload\x00"))
	require.NoError(t, err)
	require.Equal(t, len(n.Topic), cap(n.Topic))
	require.Equal(t, len(n.Payload), cap(n.Payload))
}
