package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

// Publishers that the section compares.
const (
	byPool4  = "pool.Exec, 4 connections"
	byPool16 = "pool.Exec, 16 connections"
	byBatch  = "pgx.Batch of 256"
)

const (
	notifyTime  = 300 * time.Millisecond // of a trial
	aloneTime   = 900 * time.Millisecond // with one caller, where a wait of the machine's weighs most
	notifyTopic = "t"
	batchSize   = 256
	fill        = "0123456789012345678901234567890123456789" // value of a typical event
)

// publishing is a job: so many callers publish as fast as they are answered.
type publishing struct {
	dsn       string
	callers   int
	listeners int // idle connections that listen to something else in the same database
	equal     bool
	time      time.Duration
}

// publish sends the event with a number, or several, and says how many.
type publish func(ctx context.Context, number int64) (events int, err error)

// newPublish opens what a publisher needs.
type newPublish func(ctx context.Context, dsn string) (send publish, end func(), err error)

func notifySection(db *database, scale float64) *section {
	s := &section{
		name:  "notify",
		title: "Notify",
		about: "Callers publish events of about 50 bytes, each one its next when it has been told that the last one is committed. " +
			"Listeners are idle connections that listen to another channel of the same database. pgx.Batch is one caller that sends " +
			"256 events as one transaction, and is told of all of them at once: no answers of one's own.",
		references: []string{byPool4},
		columns:    columns{latency: true, cost: true},
	}
	for _, equal := range []bool{false, true} {
		for _, listeners := range []int{0, 1, 50} {
			for _, callers := range []int{1, 16, 256} {
				length := notifyTime
				if callers == 1 {
					length = aloneTime
				}
				p := publishing{db.dsn, callers, listeners, equal, time.Duration(float64(length) * scale)}
				s.cases = append(s.cases, p.benchCase())
			}
		}
	}
	return s
}

func (p publishing) benchCase() benchCase {
	job := benchCase{name: p.name(), x: float64(p.callers)}
	add := func(name string, p publishing, open newPublish) {
		job.contenders = append(job.contenders, contender{name, func(ctx context.Context) (sample, error) { return p.trial(ctx, open) }})
	}
	add(byPool4, p, openPool(4))
	if p.callers > 1 && !p.equal {
		add(byPool16, p, openPool(16))
	}
	add(byHub, p, openHub)
	if p.callers > 1 && !p.equal {
		alone := p
		alone.callers = 1
		add(byBatch, alone, openBatch)
	}
	return job
}

func (p publishing) name() string {
	kind := "unique"
	if p.equal {
		kind = "equal"
	}
	return count(p.callers, "caller") + ", " + count(p.listeners, "listener") + ", " + kind
}

// count names a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func (p publishing) trial(ctx context.Context, open newPublish) (s sample, err error) {
	for i := range p.listeners {
		listener, err := newBareReceiver(ctx, p.dsn, []string{"idle" + strconv.Itoa(i)}, 0)
		if err != nil {
			return s, err
		}
		defer listener.close()
	}
	send, end, err := open(ctx, p.dsn)
	if err != nil {
		return s, err
	}
	defer end()
	if _, err := send(ctx, -1); err != nil { // connects, and prepares the statement
		return s, err
	}

	var (
		all   sync.WaitGroup
		mu    sync.Mutex // of what follows
		total histogram
		sum   int
		fault error
	)
	m := begin()
	start := time.Now()
	for caller := range p.callers {
		all.Go(func() {
			var taken histogram
			events, err := p.call(ctx, send, caller, start.Add(p.time), &taken)
			mu.Lock()
			defer mu.Unlock()
			total.merge(&taken)
			sum += events
			if err != nil {
				fault = err
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	m.end(&s, sum)
	s.value = float64(sum) / elapsed.Seconds()
	total.fill(&s)
	return s, fault
}

// call is one caller.
func (p publishing) call(ctx context.Context, send publish, caller int, until time.Time, taken *histogram) (events int, err error) {
	number := int64(caller) << 32
	for before := time.Now(); before.Before(until); {
		if !p.equal {
			number++
		} else {
			number = 0
		}
		n, err := send(ctx, number)
		if err != nil {
			return events, err
		}
		events += n
		now := time.Now()
		taken.add(now.Sub(before))
		before = now
	}
	return events, nil
}

func openPool(size int32) newPublish {
	return func(ctx context.Context, dsn string) (publish, func(), error) {
		pool, err := newPool(ctx, dsn, size)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context, number int64) (int, error) {
			_, err := pool.Exec(ctx, "SELECT pg_notify($1, $2)", notifyTopic, payload(number))
			return 1, err
		}, pool.Close, nil
	}
}

// openHub has a pool of 4 too.
func openHub(ctx context.Context, dsn string) (publish, func(), error) {
	pool, err := newPool(ctx, dsn, 4)
	if err != nil {
		return nil, nil, err
	}
	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err == nil {
		err = hub.Start(ctx)
	}
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	end := func() {
		_ = hub.Stop(context.WithoutCancel(ctx))
		pool.Close()
	}
	return func(ctx context.Context, number int64) (int, error) {
		return 1, hub.Notify(ctx, notifyTopic, []int64{number}, fill)
	}, end, nil
}

func openBatch(ctx context.Context, dsn string) (publish, func(), error) {
	pool, err := newPool(ctx, dsn, 1)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, number int64) (int, error) {
		var batch pgx.Batch
		for i := range int64(batchSize) {
			batch.Queue("SELECT pg_notify($1, $2)", notifyTopic, payload(number*batchSize+i))
		}
		return batchSize, pool.SendBatch(ctx, &batch).Close()
	}, pool.Close, nil
}

func newPool(ctx context.Context, dsn string, size int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MinConns, cfg.MaxConns = size, size
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var held []*pgxpool.Conn // so that all are connected before the time runs
	for range size {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			pool.Close()
			return nil, err
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	return pool, nil
}

// payload is what hub.Notify makes of the same event.
func payload(number int64) string {
	var b strings.Builder
	b.WriteByte('e')
	b.WriteString(strconv.FormatInt(number, 10))
	b.WriteString(`:"`)
	b.WriteString(fill)
	b.WriteByte('"')
	return b.String()
}
