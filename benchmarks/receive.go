package main

import (
	"context"
	"runtime"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Names of contenders that others are compared with.
const (
	byBare = "bare socket"
	byPgx  = "pgx"
	byPq   = "lib/pq"
	byHub  = "pghub"
)

// receiveTopic has a schema in front, because river's driver insists.
const receiveTopic = "public.t"

// burst is what a receive trial sends in one transaction.
type burst struct {
	topics []string // listened to, in this order
	to     []string // topics that the events go to, in turn
	size   int      // of a payload, in bytes
	n      int      // events
	heap   int      // bytes that the process holds meanwhile, as the program around a listener does
}

func topicNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = "t" + strconv.Itoa(i)
	}
	return names
}

func receiveSection(db *database, scale float64) *section {
	s := &section{
		name:  "receive",
		title: "Receive",
		about: "One transaction sends unique events to one topic; the time runs from the first one received to the last, with the " +
			"sender idle meanwhile. This process has next to nothing on its heap, which makes the garbage collector run every few MB, or " +
			"holds 64 MB, as a program might that does something and has been running for a while: the memory that its garbage takes in " +
			"turn has been touched before.",
		references: []string{byBare, byPgx},
		columns:    columns{cost: true},
	}
	add := func(name string, x float64, dsn string, size, n, heap int, by []receiving) {
		topics := []string{receiveTopic}
		b := burst{topics: topics, to: topics, size: size, n: scaled(n, scale), heap: heap}
		s.cases = append(s.cases, benchCase{name: name, x: x, contenders: receiveContenders(db.dsn, dsn, b, by)})
	}
	for _, heap := range []int{0, 64 << 20} {
		for _, p := range []struct {
			name    string
			size, n int
		}{{"64 B", 64, 400_000}, {"512 B", 512, 200_000}, {"7 kB", 7000, 30_000}} {
			if heap == 0 {
				add(p.name, float64(p.size), db.dsn, p.size, p.n, 0, everyReceiver)
			} else {
				add(p.name+", 64 MB heap", 0, db.dsn, p.size, p.n, heap, someReceivers)
			}
		}
	}
	if db.tlsDSN != "" {
		add("512 B over TLS", 0, db.tlsDSN, 512, 150_000, 0, everyReceiver)
	}
	return s
}

func channelsSection(db *database, scale float64) *section {
	s := &section{
		name:  "channels",
		title: "Receive with many channels on the connection",
		about: "64 bytes, spread over all channels, or to the one listened to last. PostgreSQL before 19 goes through the list of " +
			"the connection's channels for every event: the server is the limit here.",
		references: []string{byBare},
		columns:    columns{cost: true},
	}
	for _, c := range []struct {
		channels, n int
		last        bool
	}{{1, 200_000, true}, {100, 200_000, false}, {1000, 100_000, false}, {10_000, 20_000, false}, {10_000, 20_000, true}} {
		topics := topicNames(c.channels)
		name, to := count(c.channels, "channel")+", spread", topics
		if c.last {
			name, to = count(c.channels, "channel")+", the last", topics[len(topics)-1:]
		}
		job := benchCase{name: name, x: float64(c.channels)}
		job.contenders = receiveContenders(db.dsn, db.dsn, burst{topics: topics, to: to, size: 64, n: scaled(c.n, scale)}, bareAndHub)
		s.cases = append(s.cases, job)
	}
	return s
}

// receiving is a way to receive, with its name.
type receiving struct {
	name string
	open newReceiver
}

var (
	everyReceiver = []receiving{
		{byBare, newBareReceiver},
		{byPgx, newPgxReceiver},
		{byPq, newPqReceiver},
		{"river", newRiverReceiver},
		{byHub, newHubReceiver},
	}
	someReceivers = []receiving{{byBare, newBareReceiver}, {byPgx, newPgxReceiver}, {byHub, newHubReceiver}}
	bareAndHub    = []receiving{{byBare, newBareReceiver}, {byHub, newHubReceiver}}
)

func receiveContenders(sendDSN, receiveDSN string, b burst, receivers []receiving) (contenders []contender) {
	for _, r := range receivers {
		contenders = append(contenders, contender{r.name, func(ctx context.Context) (sample, error) {
			return receiveTrial(ctx, sendDSN, receiveDSN, b, r.open)
		}})
	}
	return contenders
}

func receiveTrial(ctx context.Context, sendDSN, receiveDSN string, b burst, open newReceiver) (s sample, err error) {
	sender, err := pgx.Connect(ctx, sendDSN)
	if err != nil {
		return s, err
	}
	defer func() { _ = sender.Close(context.WithoutCancel(ctx)) }()
	r, err := open(ctx, receiveDSN, b.topics, b.n)
	if err != nil {
		return s, err
	}
	defer func() {
		r.close()
		if err == nil {
			err = emptyQueue(ctx, sender)
		}
	}()

	held := make([]byte, b.heap)
	defer runtime.KeepAlive(held)
	wearIn(b.heap)
	m := begin()
	sent := make(chan error, 1)
	go func() { sent <- b.send(ctx, sender) }()
	win, err := r.receive(ctx)
	if err != nil {
		return s, err
	}
	m.end(&s, b.n)
	s.value = float64(b.n-win.lost) / win.last.Sub(win.first).Seconds()
	s.lost = win.lost
	return s, <-sent
}

// wearIn makes as much garbage as the heap holds. A program that has been running for a while owns the pages that its garbage
// collector lets it fill; one that has just started gets them from the kernel one by one, during the trial.
func wearIn(heap int) {
	const page = 4 << 10
	pieces := slices.Repeat([]int{16 << 10}, heap/(16<<10)) // not a constant, or the garbage would be on the stack
	for _, size := range pieces {
		garbage := make([]byte, size)
		for i := 0; i < size; i += page {
			garbage[i] = 1
		}
		runtime.KeepAlive(garbage)
	}
}

// send commits all events at once. They are valid payloads of the wire format: the letter e, a key, and a JSON string
// that fills them up.
func (b burst) send(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT count(pg_notify(($1::text[])[1 + i % cardinality($1::text[])],
		rpad('e' || i || ':"', $2::int - 1, 'x') || '"')) FROM generate_series(1, $3::int) AS i`, b.to, b.size, b.n)
	return err
}

// emptyQueue makes the server forget what nobody is going to read: it does so only when the queue grows, and until then
// the first LISTEN of the next connection reads all of it.
func emptyQueue(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT count(pg_notify('nobody', rpad(i::text, 7000, 'x'))) FROM generate_series(1, 8) AS i`)
	return err
}

func scaled(n int, scale float64) int { return max(int(float64(n)*scale), 1) }
