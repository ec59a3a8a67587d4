package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// socket is a client on a WebSocket. One goroutine reads for as long as it is open; another writes while there is
// something to write, and pings have one while they wait for their answer.
type socket struct {
	*client
	ws         *websocket.Conn
	conn       *conn
	ping       *time.Timer
	closing    atomic.Bool // the closing handshake has begun: it ends the connection in its own time
	operations *operations // nil on /listen: what the client sends is ignored
}

// serveListen serves one topic. Whether it may be had is answered with HTTP statuses, so the handshake comes last.
func (g *Gateway) serveListen(w http.ResponseWriter, r *http.Request) {
	raw, err := formatOf(r, true)
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	if r.Header.Get("Upgrade") == "" {
		w.Header().Set("Upgrade", "websocket")
		g.refuse(w, r, &upgradeRequired)
		return
	}
	topics := []string{r.PathValue("topic")}
	if err := g.mayListen(r, topics); err != nil {
		g.refuse(w, r, err)
		return
	}
	c, err := g.newClient(r, viaWebSocket, raw, topics...)
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.SubscribeTimeout)
	defer cancel()
	if _, err := c.listen(ctx, topics, nil, func(cursor) {}); err != nil {
		c.leave()
		if ctx.Err() != nil {
			err = &notListening
		}
		g.refuse(w, r, err)
		return
	}
	g.open(w, r, c, false)
}

// serveWebSocket serves many topics, which the client asks for in messages. Asked for as a page it says why a WebSocket would be
// refused: to the pages of a browser a handshake that fails says nothing.
func (g *Gateway) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if err := g.authorize(r, Access{Action: ActionConnect}); err != nil {
		g.refuse(w, r, err)
		return
	}
	if r.Header.Get("Upgrade") == "" {
		err := g.hasRoom(r)
		if err == nil {
			w.Header().Set("Upgrade", "websocket")
			err = &upgradeRequired
		}
		g.refuse(w, r, err)
		return
	}
	c, err := g.newClient(r, viaWebSocket, false)
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	g.open(w, r, c, true)
}

// open makes the handshake and leaves the client to its own goroutine: that of the server would keep the buffers and the
// stack of a request for as long as the client stays.
func (g *Gateway) open(w http.ResponseWriter, r *http.Request, c *client, operated bool) {
	h := &hijacker{
		ResponseWriter: w, timeout: g.cfg.WriteTimeout, rate: rate.NewLimiter(rate.Limit(g.cfg.MaxRate), burst(g.cfg.MaxRate)),
		compresses: g.cfg.Compress,
	}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // guard has judged the origin, by the same rules
		Subprotocols:       chosen(r),
		CompressionMode:    compression(g.cfg.Compress),
	})
	if err != nil { // and has been answered
		g.counters.refusedOne(badRequest.Name)
		c.leave()
		return
	}
	if g.cfg.MaxMessage == unlimited {
		ws.SetReadLimit(-1)
	} else {
		ws.SetReadLimit(int64(g.cfg.MaxMessage))
	}
	s := &socket{client: c, ws: ws, conn: h.conn}
	if operated {
		s.operations = &operations{client: c}
		if g.cfg.Authorize != nil { // else nobody needs it, and it is several kilobytes
			s.operations.request = r.WithContext(context.WithoutCancel(r.Context()))
		}
	}
	conn := h.conn // not h, which keeps what the request was made of
	context.AfterFunc(c.ctx, func() {
		if context.Cause(c.ctx) == errCut {
			forgetAtClose(conn.Conn, true)
		}
		_ = conn.Close()
	})
	// Set before it can run out.
	s.ping = time.AfterFunc(time.Hour, s.keepAlive)
	s.ping.Reset(g.cfg.PingInterval)
	c.out.attach(func() { go s.write() })
	go s.read()
}

func compression(on bool) websocket.CompressionMode {
	if on {
		return websocket.CompressionNoContextTakeover
	}
	return websocket.CompressionDisabled
}

func burst(rate int) int {
	if rate >= unlimited/10 {
		return unlimited
	}
	return 10 * rate
}

// read answers operations until the connection is gone.
func (s *socket) read() {
	defer s.leave()
	defer s.ping.Stop()
	for {
		kind, data, err := s.ws.Read(context.Background())
		switch {
		case err != nil:
			s.gateway.cfg.Logger.Debug("gateway: a WebSocket has ended", "from", s.address, "reason", err)
			s.closeFor(err)
			return
		case kind == websocket.MessageText && !utf8.Valid(data):
			s.close(endNotText)
			return
		case s.operations != nil:
			s.operations.receive(kind == websocket.MessageText, data)
		}
	}
}

// closeFor tells the client what was wrong with its frames, where the reader of messages has not.
func (s *socket) closeFor(err error) {
	switch {
	case errors.Is(err, errFlood):
		s.closedFor(&s.gateway.counters.flood)
		s.close(endFlood)
	case s.conn.frames.unmasked.Load():
		s.close(endProtocol)
	}
}

// batch is what a writer works with.
type batch struct {
	items []item
	bytes gathered
}

var batches = sync.Pool{New: func() any { return &batch{items: make([]item, 0, takeItems)} }}

// write sends what the outbox holds until it is empty.
func (s *socket) write() {
	b := batches.Get().(*batch)
	defer batches.Put(b)
	for {
		items, end := s.out.take(b.items[:0])
		if len(items) == 0 {
			if end != nil {
				s.close(end)
			}
			return
		}
		err := s.send(items, b)
		clear(items)
		if err != nil {
			if errors.Is(err, errStuck) {
				s.closedFor(&s.gateway.counters.stuck)
			}
			if !s.closing.Load() { // else the client still has to get the reason
				s.cut()
			}
			return
		}
	}
}

func (s *socket) send(items []item, b *batch) error {
	s.conn.cork(b.bytes)
	sent := 0
	var refused error // the connection is closing
	for _, it := range items {
		if refused = s.ws.Write(context.Background(), websocket.MessageText, it.message()); refused != nil {
			break
		}
		sent++
	}
	var err error
	b.bytes, err = s.conn.uncork() // with the closing frame, if the reader has sent it meanwhile
	if err == nil {
		s.gateway.counters.sent.Add(uint64(sent))
	}
	return errors.Join(refused, err)
}

// close makes the closing handshake, which takes ten seconds at most. How it went the reader learns.
func (s *socket) close(end *ending) {
	s.closing.Store(true)
	_ = s.ws.Close(websocket.StatusCode(end.code), end.reason)
}

// keepAlive pings, and cuts the connection if there is no answer. A client that is being written to shows by reading
// that it is there.
func (s *socket) keepAlive() {
	if !s.out.pending() {
		ctx, cancel := context.WithTimeout(context.Background(), s.gateway.cfg.PingTimeout)
		defer cancel()
		if err := s.ws.Ping(ctx); err != nil {
			if s.closing.Load() {
				return
			}
			if errors.Is(err, context.DeadlineExceeded) {
				s.closedFor(&s.gateway.counters.silent)
			}
			s.cut()
			return
		}
	}
	s.ping.Reset(s.gateway.cfg.PingInterval)
}

// formatOf reads ?format=. raw: payloads alone.
func formatOf(r *http.Request, rawByDefault bool) (raw bool, err error) {
	switch r.URL.Query().Get("format") {
	case "":
		return rawByDefault, nil
	case "payload":
		return true, nil
	case "event":
		return false, nil
	}
	p := badRequest
	p.Message = "format is event or payload"
	return false, &p
}
