package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// eventStream is a client on Server-Sent Events. Its goroutine is the request's.
type eventStream struct {
	*client
	w      http.ResponseWriter
	writer *http.ResponseController
	failed bool // a write has

	progress progress
	lastID   uint64

	located  chan cursor // has where the client begins, before its first event; nil: ids count
	ofStream string      // the id
	ofMemory string
}

// serveEvents serves the topics in the query. The answer begins when their subscription is in effect, or, since
// EventSource gives up for good on any other answer, after SubscribeTimeout while the database is away.
func (g *Gateway) serveEvents(w http.ResponseWriter, r *http.Request) {
	topics := slices.Compact(slices.Sorted(slices.Values(r.URL.Query()["topic"])))
	if raw, err := formatOf(r, false); err != nil || raw || len(topics) == 0 {
		p := badRequest
		p.Message = "say ?topic=… once or several times; format is event"
		g.refuse(w, r, &p)
		return
	}
	if len(topics) > g.cfg.MaxTopics {
		g.refuse(w, r, &tooManyTopics)
		return
	}
	since, err := g.sinceOfStream(r)
	var f *filter
	if err == nil {
		f, err = filterOf(r)
	}
	if err == nil {
		topics, err = g.mayListenTo(r, topics)
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	c, err := g.newClient(r, viaStream, false, topics...)
	if err != nil {
		g.refuseStream(w, r, err)
		return
	}
	defer c.leave()
	c.filterTopics(topics, f)
	s := &eventStream{client: c, w: w, writer: http.NewResponseController(w)}
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	alone := conn != nil && r.ProtoMajor == 1 // else it is for other requests too
	s.watch(conn, alone)
	// Shutdown may end a stream in the middle of a write. Not leave, though: what follows is the end of the answer.
	stop := context.AfterFunc(c.ctx, func() { _ = s.writer.SetWriteDeadline(time.Now()) })
	defer stop()
	if !alone {
		keepLittleUnsent(conn)
	} else {
		keepLittle(conn)
		forgetAtClose(conn, true) // the server closes it as soon as a write fails
		defer func() { forgetAtClose(conn, s.failed) }()
	}
	subscribed := make(chan error, 1)
	if g.past != nil {
		s.located = make(chan cursor, 1)
		go func() { subscribed <- s.subscribeSince(topics, since) }()
	} else {
		s.lastID, _ = strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // 0 if there is none of ours
		go func() { subscribed <- s.subscribeAgain(topics, s.lastID > 0) }()
	}
	patience := time.NewTimer(g.cfg.SubscribeTimeout)
	defer patience.Stop()
	select {
	case err := <-subscribed:
		if err != nil {
			g.refuseStream(w, r, err)
			return
		}
	case <-patience.C:
		go s.endUnless(subscribed)
	case <-r.Context().Done():
		return
	}
	if err := s.begin(); err != nil {
		s.failed = true
		if errors.Is(err, http.ErrNotSupported) {
			g.cfg.Logger.Error("gateway: no event streams", "error", errStreamingMissing)
		}
		return
	}
	s.run(r.Context())
	if s.ctx.Err() == nil { // the end of the answer follows, and may be as little taken as what came before
		_ = s.writer.SetWriteDeadline(time.Now().Add(g.cfg.WriteTimeout)) // or there is no connection
	}
}

// subscribeAgain subscribes. A client that has been here before learns that it may have missed something, from where on
// it misses nothing.
func (s *eventStream) subscribeAgain(topics []string, before bool) error {
	_, err := s.listen(s.ctx, topics, nil, func(cursor) {})
	if err == nil && before {
		s.put(item{kind: kindAdvisory, data: reconnectMessage})
	}
	return err
}

// subscribeSince subscribes, and has the client get what it has missed. Where that cannot be had it is told.
func (s *eventStream) subscribeSince(topics []string, since *cursor) error {
	_, err := s.listen(s.ctx, topics, since, func(now cursor) { s.located <- now })
	return err
}

// sinceOf reads where a client wants to go on; nil: it has not been here.
func (g *Gateway) sinceOf(text string) (*cursor, error) {
	switch {
	case text == "":
		return nil, nil
	case g.past == nil:
		return nil, &noHistory
	}
	since, ok := parseSince(text)
	if !ok {
		p := badRequest
		p.Message = "since is the id of an event, a time such as 2006-01-02T15:04:05Z, or earliest"
		return nil, &p
	}
	return &since, nil
}

// sinceOfStream is what Last-Event-ID says, or else ?since=. An id that is not understood is one of a gateway before this one.
func (g *Gateway) sinceOfStream(r *http.Request) (*cursor, error) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		since, _ := parseCursor(id)
		return &since, nil
	}
	return g.sinceOf(r.URL.Query().Get("since"))
}

// endUnless ends a stream whose subscription the server refuses when it is back. EventSource comes again, and is told.
func (s *eventStream) endUnless(subscribed <-chan error) {
	if err := <-subscribed; err != nil {
		s.out.finish(endStop)
	}
}

// refuseStream answers with what is wrong. To EventSource any other status than 200 is an end for good, so what another
// time may help against is said in a stream that ends at once: it comes back.
func (g *Gateway) refuseStream(w http.ResponseWriter, r *http.Request, err error) {
	p := g.noteRefusal(r, err)
	if !p.passing() {
		g.answerProblem(w, p)
		return
	}
	message, err := json.Marshal(p)
	if err != nil {
		return // never
	}
	g.retryAfter(w)
	streamHeader(w)
	_, _ = w.Write(append(append(append(g.retryField(), "event: refused\ndata: "...), message...), "\n\n"...)) // the client is gone, or has it
}

func streamHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

// retryField says how soon to come back: clients that were cut off together should not come back together.
func (g *Gateway) retryField() []byte {
	retry := g.cfg.Retry
	retry += rand.N(retry/2+1) - retry/4
	return append(strconv.AppendInt([]byte("retry: "), retry.Milliseconds(), 10), "\n\n"...)
}

// begin sends the header.
func (s *eventStream) begin() error {
	streamHeader(s.w)
	for _, setDeadline := range []func(time.Time) error{s.writer.SetReadDeadline, s.writer.SetWriteDeadline} { // those of the server
		if err := setDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	if err := s.ctx.Err(); err != nil { // or its end comes after this, and shortens the writing
		return err
	}
	return s.send(s.gateway.retryField())
}

// run sends events, and comments while there are none, until the client or the gateway ends it.
func (s *eventStream) run(ctx context.Context) {
	wake := make(chan struct{}, 1)
	s.out.attach(func() { wake <- struct{}{} }) // never blocks: the next one comes after this one is heard
	heartbeat := time.NewTicker(s.gateway.cfg.Heartbeat)
	defer heartbeat.Stop()
	for {
		var err error
		ended := false
		select {
		case <-wake:
			ended, err = s.flush()
		case <-heartbeat.C:
			err = s.send([]byte(":\n\n"))
		case <-ctx.Done():
			return
		case <-s.ctx.Done():
			return
		}
		if err != nil || ended {
			s.failed = err != nil
			if errors.Is(err, errStuck) {
				s.closedFor(&s.gateway.counters.stuck)
			}
			s.gateway.cfg.Logger.Debug("gateway: an event stream has ended", "from", s.address, "reason", err)
			return
		}
	}
}

// flush sends what the outbox holds until it is empty.
func (s *eventStream) flush() (ended bool, err error) {
	b := batches.Get().(*batch)
	defer batches.Put(b)
	for {
		items, end := s.out.take(b.items[:0])
		if len(items) == 0 {
			return end != nil, nil
		}
		b.bytes.copied = b.bytes.copied[:0]
		for _, it := range items {
			b.bytes.copied = s.appendItem(b.bytes.copied, it)
		}
		n := len(items)
		clear(items)
		if err := s.send(b.bytes.copied); err != nil {
			return false, err
		}
		s.gateway.counters.sent.Add(uint64(n))
	}
}

func (s *eventStream) appendItem(b []byte, it item) []byte {
	b = s.appendID(b, it)
	if it.kind != kindEvent {
		b = append(b, "event: advisory\n"...)
	}
	b = append(append(b, "data: "...), compact(it.message())...)
	return append(b, "\n\n"...)
}

// appendID appends the line that a client shows when it comes back: how far it has come by then.
func (s *eventStream) appendID(b []byte, it item) []byte {
	if s.located == nil {
		s.lastID++
		return append(strconv.AppendUint(append(b, "id: "...), s.lastID, 10), '\n')
	}
	select {
	case now := <-s.located: // before its events
		if !now.at.IsZero() {
			s.ofStream = now.at.String()
		}
		if now.epoch != "" {
			s.ofMemory = historyID(now.epoch, now.number)
		}
	default:
	}
	if id := idOf(it.data); len(id) > 0 { // an event's, or a gap's
		if id[0] == '~' {
			s.ofMemory = string(id)
		} else {
			s.ofStream = string(id)
		}
	}
	if s.ofStream+s.ofMemory == "" {
		return b
	}
	return append(append(append(append(b, "id: "...), s.ofStream...), s.ofMemory...), '\n')
}

// watch has a write end by which the client comes no further. Of HTTP/2, where a connection has several streams, a write is one step: the
// client's system may take them for the others. If the connection takes not even the end of the stream, it is ended as a whole.
func (s *eventStream) watch(conn net.Conn, alone bool) {
	s.progress.timeout = s.gateway.cfg.WriteTimeout
	s.progress.taken = func() (uint64, bool) {
		if !alone {
			return 0, false
		}
		return confirmed(conn)
	}
	again, before := false, uint64(0)
	s.progress.fail = func() {
		_ = s.writer.SetWriteDeadline(time.Now()) // or it has failed
		if alone || conn == nil {
			return
		}
		taken, _ := confirmed(conn)
		if again && taken == before {
			_ = conn.SetWriteDeadline(time.Now())
		}
		again, before = true, taken
	}
}

// send writes to the client, or fails when that makes no progress.
func (s *eventStream) send(b []byte) error {
	for chunk := range slices.Chunk(b, writeChunk) {
		s.progress.begin()
		_, err := s.w.Write(chunk)
		if err == nil {
			err = s.writer.Flush()
		}
		if err = s.progress.end(err); err != nil {
			return err
		}
	}
	return nil
}
