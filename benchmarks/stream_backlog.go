package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// Readers that the sections compare.
const (
	byRead      = "pghub Read"
	byDurables  = "pghub Durable"
	byDurableTx = "pghub DurableTx"
	bySlot      = "logical slot"
)

const (
	backlogEvents = 1_000_000
	tickEvents    = 10
	backlogTopic  = "orders"
)

// backlog is what readers have before them: as many events in the stream, and as many rows that a logical slot decodes,
// each in a transaction of its own. Nobody writes while it is read.
type backlog struct {
	lab    *lab
	events int

	stream string // the database that has the stream
	slot   string // the database that has the rows
	names  int    // of consumers so far: each begins at the beginning
}

func newBacklog(l *lab) *backlog { return &backlog{lab: l, events: scaled(backlogEvents, l.scale)} }

func streamBacklogSection(b *backlog) *section {
	return &section{
		name:  "stream backlog",
		title: "The stream: one reader through a backlog",
		about: fmt.Sprintf("%d events of some 60 bytes, each written by a transaction of its own, with a tick after every %d. The slot "+
			"has a table with the same rows, written in the same way, and decodes them with pgoutput, read through jackc/pglogrepl. "+
			"Both make an event of each and count it; Read is a loop, Durable has a handler and stores its position once a second.", b.events, tickEvents),
		references: []string{bySlot},
		columns:    columns{cost: true},
		prepare:    b.prepare,
		cases: []benchCase{{name: "backlog", contenders: []contender{
			{byRead, b.read},
			{byDurables, func(ctx context.Context) (sample, error) { return b.durable(ctx, b.events) }},
			{bySlot, b.decode},
		}}},
	}
}

// prepare writes the backlog, once. The slot's comes first, so that it need not go through the WAL of the stream.
func (b *backlog) prepare(ctx context.Context) (err error) {
	if b.stream != "" {
		return nil
	}
	if b.slot, err = b.fill(ctx, []string{
		`CREATE TABLE events (id bigserial, topic text, key bigint[], value text, headers text, at timestamptz DEFAULT clock_timestamp())`,
		`CREATE PUBLICATION benchmark FOR TABLE events`,
		`SELECT pg_create_logical_replication_slot('benchmark', 'pgoutput')`,
	}, `INSERT INTO events (topic, key, value) VALUES ('%s', ARRAY[n * %d + i], '"%s"'); COMMIT;`, "", `VACUUM (ANALYZE) events`); err != nil {
		return err
	}
	b.stream, err = b.fill(ctx, nil,
		`PERFORM pghub.capture('%s', ARRAY[n * %d + i], '"%s"', NULL); COMMIT;`, `PERFORM pghub.tick(); COMMIT;`,
		`VACUUM (ANALYZE) pghub.log_0, pghub.ticks_0`)
	return err
}

// fill makes a database and writes events, with something after every tickEvents of them.
func (b *backlog) fill(ctx context.Context, before []string, each, after, last string) (dsn string, err error) {
	dsn, _, err = b.lab.logical.database(ctx)
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	each = fmt.Sprintf(each, backlogTopic, tickEvents, fill)
	loop := fmt.Sprintf(`DO $$ BEGIN FOR n IN 0 .. %d LOOP FOR i IN 0 .. %d LOOP %s END LOOP; %s END LOOP; END $$`, b.events/tickEvents-1, tickEvents-1, each, after)
	for _, statement := range append(before, "SET synchronous_commit = off", loop, last, "CHECKPOINT") {
		if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			return "", fmt.Errorf("%.50s: %w", statement, err)
		}
	}
	return dsn, nil
}

// read is a loop over the stream.
func (b *backlog) read(ctx context.Context) (s sample, err error) {
	n, err := openNode(ctx, b.stream, 2, stream.Config{})
	if err != nil {
		return s, err
	}
	defer n.close(ctx)
	r := newRace(b.events)
	for _, err := range n.stream.Read(ctx, stream.Earliest, backlogTopic) {
		if err != nil {
			return s, err
		}
		r.count(&s)
	}
	return s, r.err(ctx)
}

// durable is a consumer that has a name and a handler, and goes as far as an event.
func (b *backlog) durable(ctx context.Context, events int) (s sample, err error) {
	n, err := openNode(ctx, b.stream, 2, stream.Config{})
	if err != nil {
		return s, err
	}
	defer n.close(ctx)
	b.names++
	r := newRace(events)
	d, err := n.stream.Durable(ctx, "reader"+strconv.Itoa(b.names), func(context.Context, *pghub.Event) error {
		r.count(&s)
		return nil
	}, &stream.DurableConfig{Topics: []string{backlogTopic}})
	if err != nil {
		return s, err
	}
	err = r.err(ctx)
	d.Close()
	<-d.Done()
	return s, err
}

// decode reads the rows from the slot, which keeps them: nothing is confirmed.
func (b *backlog) decode(ctx context.Context) (s sample, err error) {
	cfg, err := pgconn.ParseConfig(b.slot)
	if err != nil {
		return s, err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return s, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	r := newRace(b.events)
	return s, readSlot(ctx, conn, "benchmark", func(*pghub.Event) bool { return r.count(&s) })
}

// race measures how long it takes until so many events have come, from the beginning: what it takes to connect does not count.
type race struct {
	events int
	left   int // one goroutine counts
	meter  meter
	start  time.Time
	ended  chan struct{}
}

func newRace(events int) *race {
	return &race{events: events, left: events, ended: make(chan struct{}), meter: begin(), start: time.Now()}
}

// count counts an event, and says whether more are wanted. It fills in the sample at the last one.
func (r *race) count(s *sample) (more bool) {
	if r.left--; r.left > 0 {
		return true
	}
	if r.left == 0 {
		s.value = float64(r.events) / time.Since(r.start).Seconds()
		r.meter.end(s, r.events)
		close(r.ended)
	}
	return false
}

// err waits for the last one.
func (r *race) err(ctx context.Context) error {
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errLate, ctx.Err())
	}
}
