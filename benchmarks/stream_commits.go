package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// What the writers of the section's table have to bear.
const (
	byAlone     = "insert alone"
	byChange    = "insert + NOTIFY, level change"
	byStatement = "insert + NOTIFY, level statement"
	byNotify    = "insert + NOTIFY"
	byDurable   = "durable watch"
)

const commitsTime = 2 * time.Second // of a trial

// watches are those of the contenders. With level row an event has the whole row, as it has in the stream.
var watches = map[string]*sql.Watch{
	byAlone:     nil,
	byChange:    {Table: "people", Level: sql.Change},
	byStatement: {Table: "people", Level: sql.Statement},
	byNotify:    {Table: "people", Level: sql.Row},
	byDurable:   {Table: "people", Level: sql.Row, Durable: true},
}

// committing is a job: sessions insert a row a transaction, each as fast as it can.
type committing struct {
	sessions int
	time     time.Duration
	retain   time.Duration
	open     func(ctx context.Context) (dsn string, drop func(), err error)
}

func streamCommitsSection(l *lab) *section {
	s := &section{
		name:  "stream commits",
		title: "The stream: what events cost those who write a table",
		about: "Sessions insert rows of some 200 bytes, one a transaction, into a table without a watch, with one at level row whose events go " +
			"by NOTIFY to a listening hub, or with a durable one, whose events go into the stream, to a durable consumer. Its log rotates every " +
			"second. Latencies are those of the INSERT. " + l.slowNote(),
		references: []string{byAlone, byNotify},
		columns:    columns{latency: true},
	}
	job := committing{time: time.Duration(float64(commitsTime) * l.scale)}
	if l.own != "" {
		s.about += " Your server is the one of -dsn; its log rotates as it is configured."
		job.open = func(ctx context.Context) (string, func(), error) { return l.own, func() {}, install(ctx, l.own) }
		for _, sessions := range []int{1, 8, 64} {
			job.sessions = sessions
			s.cases = append(s.cases, job.benchCase("your server", byAlone, byChange, byStatement, byNotify, byDurable))
		}
		return s
	}
	for _, disk := range l.disks() {
		job.open, job.retain = disk.database, rotating
		for _, sessions := range []int{8, 64} {
			job.sessions = sessions
			s.cases = append(s.cases, job.benchCase(disk.name, byAlone, byNotify, byDurable))
		}
	}
	return s
}

func (c committing) benchCase(disk string, ways ...string) benchCase {
	job := benchCase{name: count(c.sessions, "session") + ", " + disk}
	for _, way := range ways {
		job.contenders = append(job.contenders, contender{way, func(ctx context.Context) (sample, error) { return c.trial(ctx, watches[way]) }})
	}
	return job
}

func (c committing) trial(ctx context.Context, watch *sql.Watch) (s sample, err error) {
	dsn, drop, err := c.open(ctx)
	if err != nil {
		return s, err
	}
	defer drop()
	n, err := openNode(ctx, dsn, 4, stream.Config{Retain: c.retain})
	if err != nil {
		return s, err
	}
	defer n.close(ctx)
	const table = `DROP TABLE IF EXISTS people; CREATE TABLE people (id bigserial PRIMARY KEY, name text, email text, note text)`
	if _, err := n.pool.Exec(ctx, table); err != nil {
		return s, err
	}
	var got atomic.Int64
	if watch != nil {
		if err := sql.Apply(ctx, n.pool, *watch); err != nil {
			return s, err
		}
		if err := n.countEvents(ctx, watch, &got); err != nil {
			return s, err
		}
	}
	inserted, err := c.insert(ctx, dsn, &s)
	if err != nil || watch == nil {
		return s, err
	}
	if watch.Level == sql.Change {
		inserted = 1 // it folds them
	}
	return s, await(ctx, func() bool { return got.Load() >= inserted })
}

// countEvents has somebody who gets the events of a watch.
func (n *node) countEvents(ctx context.Context, watch *sql.Watch, got *atomic.Int64) error {
	if !watch.Durable {
		_, err := n.hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
			if ev.Advisory == nil {
				got.Add(1)
			}
		}, &pghub.ConsumerConfig{Topics: []string{watch.Table}, QueueSize: -1})
		return err
	}
	_, err := n.stream.Durable(ctx, "counts", func(context.Context, *pghub.Event) error {
		got.Add(1)
		return nil
	}, &stream.DurableConfig{From: stream.Latest})
	return err
}

// insert has the sessions write, and says how many rows they wrote in all. What they wrote first does not count: statements are
// prepared, and the sequencer wakes up.
func (c committing) insert(ctx context.Context, dsn string, s *sample) (rows int64, err error) {
	conns := make([]*pgx.Conn, c.sessions)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx))
			}
		}
	}()
	const warming = 5
	for i := range conns {
		if conns[i], err = pgx.Connect(ctx, dsn); err != nil {
			return 0, err
		}
		for range warming {
			if err := insertPerson(ctx, conns[i]); err != nil {
				return 0, err
			}
		}
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex // of what follows
		total histogram
		fault error
	)
	begin()
	start := time.Now()
	for _, conn := range conns {
		all.Go(func() {
			var taken histogram
			err := insertUntil(ctx, conn, start.Add(c.time), &taken)
			mu.Lock()
			defer mu.Unlock()
			total.merge(&taken)
			if err != nil {
				fault = err
			}
		})
	}
	all.Wait()
	s.value = float64(total.total) / time.Since(start).Seconds()
	total.fill(s)
	return int64(total.total) + warming*int64(c.sessions), fault
}

func insertUntil(ctx context.Context, conn *pgx.Conn, until time.Time, taken *histogram) error {
	for before := time.Now(); before.Before(until); {
		if err := insertPerson(ctx, conn); err != nil {
			return err
		}
		now := time.Now()
		taken.add(now.Sub(before))
		before = now
	}
	return nil
}

func insertPerson(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "INSERT INTO people (name, email, note) VALUES ($1, $2, $3)", "John Malkovich", "john@example.com", fill+fill+fill)
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	return nil
}
