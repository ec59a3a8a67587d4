package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

const (
	quietTime   = 5 * time.Second // in which statements are counted
	settleTime  = 2 * time.Second // before: positions are stored once a second
	quietEvents = 1000            // before: so that there is something to be quiet about
)

// What is counted.
const (
	byLeases        = "pghub, leases and probes"
	byOthers        = "pghub, all others"
	byLog           = "pghub's log"
	byWatermillDead = "watermill-sql's tables"
)

// quiet is what a server has done while nothing happened, and what is left behind.
type quiet struct{ leases, others, dead float64 }

// streamQuietSections are two tables of one measurement.
func streamQuietSections(l *lab) []*section {
	queries := &section{
		name:  "stream asleep",
		title: "The stream: statements while nothing happens",
		about: fmt.Sprintf("Statements a second that the server logs in %v, with a stream and a durable consumer that has handled %d events, or with "+
			"a subscriber of watermill-sql that has. The leases of the stream are the sequencer's and the consumer's, of 10 s both; the hub "+
			"probes its connection every 10 s.", quietTime, quietEvents),
		unit: rarePerSecond,
	}
	rows := &section{
		name:  "stream dead rows",
		title: "The stream: what VACUUM would find",
		about: fmt.Sprintf("Dead rows behind the same %d events, none of which was rolled back.", quietEvents),
		unit:  number,
	}
	stream := &turns{measure: func(ctx context.Context) (quiet, error) {
		return quietTrial(ctx, &l.fast, beQuietWithStream, "pghub.log%")
	}}
	other := &turns{measure: func(ctx context.Context) (quiet, error) {
		return quietTrial(ctx, &l.fast, beQuietWithWatermill(false), "%watermill%")
	}}
	tuned := &turns{measure: func(ctx context.Context) (quiet, error) {
		return quietTrial(ctx, &l.fast, beQuietWithWatermill(true), "%watermill%")
	}}
	queries.cases = []benchCase{{name: "nothing happens", contenders: []contender{
		stream.contender(byLeases, func(q quiet) float64 { return q.leases }),
		stream.contender(byOthers, func(q quiet) float64 { return q.others }),
		other.contender(byWatermill, func(q quiet) float64 { return q.others }),
		tuned.contender(byWatermillTuned, func(q quiet) float64 { return q.others }),
	}}}
	rows.cases = []benchCase{{name: "dead rows", contenders: []contender{
		stream.contender(byLog, func(q quiet) float64 { return q.dead }),
		other.contender(byWatermillDead, func(q quiet) float64 { return q.dead }),
	}}}
	return []*section{queries, rows}
}

// turns gives figures of one measurement to several contenders, and measures again when one of them comes back.
type turns struct {
	measure func(ctx context.Context) (quiet, error)
	last    quiet
	waiting map[string]bool // contenders that have not had the last one
	names   []string
}

func (t *turns) contender(name string, figure func(quiet) float64) contender {
	t.names = append(t.names, name)
	return contender{name, func(ctx context.Context) (s sample, err error) {
		if !t.waiting[name] {
			if t.last, err = t.measure(ctx); err != nil {
				return s, err
			}
			t.waiting = make(map[string]bool)
			for _, other := range t.names {
				t.waiting[other] = true
			}
		}
		delete(t.waiting, name)
		s.value = figure(t.last)
		return s, nil
	}}
}

// quietTrial has a program work a little, and then nothing. tables are those whose dead rows count.
func quietTrial(ctx context.Context, server *labServer, work func(ctx context.Context, dsn string) (end func(), err error), tables string) (q quiet, err error) {
	dsn, drop, err := server.database(ctx)
	if err != nil {
		return q, err
	}
	defer drop()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return q, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// Of the sessions of this database, the server logs every statement from now on; this one is older.
	if _, err := conn.Exec(ctx, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET log_statement = ''all''', current_database()); END $$`); err != nil {
		return q, err
	}
	end, err := work(ctx, dsn)
	if err != nil {
		return q, err
	}
	defer end()
	sleepUntil(time.Now().Add(settleTime))
	log, err := os.Open(server.server.LogFile())
	if err != nil {
		return q, err
	}
	defer func() { _ = log.Close() }()
	if _, err := log.Seek(0, io.SeekEnd); err != nil {
		return q, err
	}
	sleepUntil(time.Now().Add(quietTime))
	text, err := io.ReadAll(log)
	if err != nil {
		return q, err
	}
	leases, others := countStatements(string(text))
	q.leases, q.others = float64(leases)/quietTime.Seconds(), float64(others)/quietTime.Seconds()
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE schemaname || '.' || relname LIKE $1`, tables).Scan(&q.dead)
	return q, err
}

var (
	statement = regexp.MustCompile(` LOG:  (statement|execute [^:]*): (.*)`)
	keeping   = regexp.MustCompile(`pghub\.(lead|store|attach)\(|^-- ping$`)
)

// countStatements counts those of a server's log. What keeps a lease, or asks for one, or whether a connection is alive, counts
// apart.
func countStatements(log string) (leases, others int) {
	for line := range strings.Lines(log) {
		found := statement.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		kind, text := found[1], strings.TrimSpace(found[2])
		switch {
		case keeping.MatchString(text), kind == "statement" && text == "": // the hub's probe is an empty query
			leases++
		default:
			others++
		}
	}
	return leases, others
}

func beQuietWithStream(ctx context.Context, dsn string) (end func(), err error) {
	n, err := openNode(ctx, dsn, 4, stream.Config{})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.close(ctx)
		}
	}()
	var got atomic.Int64
	_, err = n.stream.Durable(ctx, "handles", func(context.Context, *pghub.Event) error {
		got.Add(1)
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	for i := range int64(quietEvents) {
		if err := n.stream.Publish(ctx, latencyTopic, []int64{i}, fill); err != nil {
			return nil, err
		}
	}
	slept := n.stream.Stats().Sleeps
	err = await(ctx, func() bool { return got.Load() == quietEvents && n.stream.Stats().Sleeps > slept })
	return func() { n.close(ctx) }, err
}

func beQuietWithWatermill(tuned bool) func(ctx context.Context, dsn string) (end func(), err error) {
	return func(ctx context.Context, dsn string) (end func(), err error) {
		var got atomic.Int64
		w, err := openWatermill(dsn, 4, tuned)
		if err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				w.close()
			}
		}()
		if err := w.initialise(latencyTopic); err != nil {
			return nil, err
		}
		p, err := w.publisher()
		if err != nil {
			return nil, err
		}
		stop, err := w.subscribe(ctx, latencyTopic, "handles", func(*message.Message) { got.Add(1) })
		if err != nil {
			return nil, err
		}
		for i := range int64(quietEvents) {
			if err := p.Publish(latencyTopic, newMessage(i)); err != nil {
				stop()
				return nil, err
			}
		}
		if err := await(ctx, func() bool { return got.Load() >= quietEvents }); err != nil {
			stop()
			return nil, err
		}
		return func() {
			stop()
			w.close()
		}, nil
	}
}
