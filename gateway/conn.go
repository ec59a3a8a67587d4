package gateway

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// conn is a hijacked connection. It does two things for coder/websocket, which flushes after every message: the messages
// of a batch leave in one write, and a write that makes no progress fails after a time.
type conn struct {
	net.Conn
	progress progress

	// Of the reader.
	early  []byte // what the client sent right behind its request, or what is held back
	frames frames
	flood  bool // errFlood has been returned
	after  int  // bytes that were read since

	shares bool // long messages are written from where they are, and not copied: nobody changes them, and the system takes pieces
	mu     sync.Mutex
	corked bool
	batch  gathered
}

// newConn makes a conn whose writes come further within the timeout, or end.
func newConn(nc net.Conn, timeout time.Duration) *conn {
	c := &conn{Conn: nc}
	c.progress = progress{
		timeout: timeout,
		taken:   func() (uint64, bool) { return confirmed(nc) },
		fail:    func() { _ = nc.SetWriteDeadline(time.Now()) }, // or it has failed
	}
	return c
}

// gathered is what is to be written at once. What is long is in pieces as it was; what lies between is copied.
type gathered struct {
	copied []byte
	from   int // of copied: what is behind it is not in pieces yet
	pieces [][]byte
}

// sharedFrom is from how many bytes on a piece is not copied.
const sharedFrom = 1 << 10

func (g *gathered) add(p []byte, shares bool) {
	if !shares || len(p) < sharedFrom {
		g.copied = append(g.copied, p...)
		return
	}
	g.closeRun()
	g.pieces = append(g.pieces, p)
}

// closeRun puts what was copied last into pieces. It stays where it is, also if copied grows.
func (g *gathered) closeRun() {
	if g.from < len(g.copied) {
		g.pieces = append(g.pieces, g.copied[g.from:len(g.copied):len(g.copied)])
		g.from = len(g.copied)
	}
}

// emptied has the memory of g, and nothing in it.
func (g gathered) emptied() gathered {
	clear(g.pieces[:cap(g.pieces)])
	return gathered{copied: g.copied[:0], pieces: g.pieces[:0]}
}

const (
	readBuffer  = 512 // of an idle client; longer messages are read past it
	writeBuffer = 128 // frames go through it into the batch
)

// NetConn lets others look through.
func (c *conn) NetConn() net.Conn { return c.Conn }

const (
	// afterFlood is how many bytes are still read at once of a client that sent too many frames, for its answer to the closing
	// frame. More is read slowly: were it not read at all, the connection would be reset, and the closing frame lost.
	afterFlood = 64 << 10
	floodPause = 10 * time.Millisecond
)

// Read reads whole frames up to the one that is too many, then fails once with errFlood. What follows is for the closing
// handshake alone, which has its time.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.readAny(p)
	if c.flood {
		if c.after += n; c.after > afterFlood {
			time.Sleep(floodPause)
		}
		return n, err
	}
	if allowed := c.frames.scan(p[:n]); allowed < n {
		c.early = append(append(make([]byte, 0, n-allowed+len(c.early)), p[allowed:n]...), c.early...)
		if allowed > 0 {
			return allowed, nil // the frame that is held back comes again, and is judged again
		}
		c.flood = true
		return 0, errFlood
	}
	return n, err
}

// readAny reads what the server had already read, then the connection.
func (c *conn) readAny(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write writes at once, or into the batch.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked {
		c.batch.add(p, c.shares)
		return len(p), nil
	}
	return len(p), c.writeLocked([][]byte{p})
}

// cork gathers what is written from now on in the memory of g.
func (c *conn) cork(g gathered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked, c.batch = true, g.emptied()
}

// uncork writes what was gathered, and returns its memory.
func (c *conn) uncork() (gathered, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.batch
	c.corked, c.batch = false, gathered{}
	g.closeRun()
	err := c.writeLocked(g.pieces)
	return g.emptied(), err
}

// writeChunk is written at a time. Each is progress: where the system cannot tell how much a client has taken, a client has the
// timeout for so much.
const writeChunk = 16 << 10

func (c *conn) writeLocked(pieces [][]byte) error {
	for len(pieces) > 0 {
		n, size := 0, 0
		for n < len(pieces) && size+len(pieces[n]) <= writeChunk {
			size += len(pieces[n])
			n++
		}
		chunk := net.Buffers(pieces[:n])
		if n > 0 {
			pieces = pieces[n:]
		} else { // the piece is longer than a chunk
			chunk = net.Buffers{pieces[0][:writeChunk]}
			pieces[0] = pieces[0][writeChunk:]
		}
		c.progress.begin()
		_, err := chunk.WriteTo(c.Conn)
		if err = c.progress.end(err); err != nil {
			return err
		}
	}
	return nil
}

// hijacker puts a conn in the place of the connection that is hijacked, with buffers that suit ten thousands of them.
type hijacker struct {
	http.ResponseWriter
	timeout time.Duration
	rate    *rate.Limiter
	conn    *conn

	compresses bool // messages are written from buffers that are used again
}

// Hijack is called by coder/websocket.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early := make([]byte, rw.Reader.Buffered())
	if _, err := rw.Read(early); err != nil && len(early) > 0 {
		_ = nc.Close()
		return nil, nil, err
	}
	// The server's own deadlines for requests do not apply any more.
	if err := nc.SetDeadline(time.Time{}); err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	keepLittle(nc)
	h.conn = newConn(nc, h.timeout)
	h.conn.early, h.conn.frames.rate = early, h.rate
	_, ofSystem := nc.(*net.TCPConn) // TLS would make a record of each piece
	h.conn.shares = ofSystem && !h.compresses
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, readBuffer), bufio.NewWriterSize(h.conn, writeBuffer)), nil
}
