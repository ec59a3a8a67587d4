package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub/stream"
)

// Publishers that the section compares. All have four connections.
const (
	byInsert           = "pool of 4, INSERT"
	byFunction         = "pool of 4, pghub.publish"
	byWatermillPublish = "watermill-sql publisher"
	byPublish          = "pghub Publish"
)

const publishTime = time.Second // of a trial

func streamPublishSection(l *lab) *section {
	s := &section{
		name:  "stream publish",
		title: "The stream: Publish",
		about: "256 callers publish events of some 60 bytes, each one its next when the last one is committed. INSERT is a row of a plain table " +
			"with a primary key. Of the stream, ticks are made meanwhile, and its log rotates every second; nobody reads. " + l.slowNote(),
		references: []string{byInsert, byWatermillPublish},
		columns:    columns{latency: true, cost: true},
	}
	for _, disk := range l.disks() {
		job := benchCase{name: "256 callers, " + disk.name}
		for _, way := range []struct {
			name string
			open newPublish
		}{{byInsert, openInsert}, {byFunction, openFunction}, {byWatermillPublish, openWatermillPublish}, {byPublish, openStreamPublish}} {
			job.contenders = append(job.contenders, contender{way.name, func(ctx context.Context) (s sample, err error) {
				dsn, drop, err := disk.database(ctx)
				if err != nil {
					return s, err
				}
				defer drop()
				p := publishing{dsn: dsn, callers: 256, time: time.Duration(float64(publishTime) * l.scale)}
				return p.trial(ctx, way.open)
			}})
		}
		s.cases = append(s.cases, job)
	}
	return s
}

func openInsert(ctx context.Context, dsn string) (publish, func(), error) {
	pool, err := newPool(ctx, dsn, 4)
	if err != nil {
		return nil, nil, err
	}
	if _, err := pool.Exec(ctx, "CREATE TABLE events (id bigserial PRIMARY KEY, topic text, key bigint[], value text)"); err != nil {
		pool.Close()
		return nil, nil, err
	}
	return publishEach(pool, "INSERT INTO events (topic, key, value) VALUES ($1, $2, $3)"), pool.Close, nil
}

// openFunction publishes into the stream with a transaction for each event.
func openFunction(ctx context.Context, dsn string) (publish, func(), error) {
	n, err := openNode(ctx, dsn, 4, stream.Config{Retain: rotating})
	if err != nil {
		return nil, nil, err
	}
	return publishEach(n.pool, "SELECT pghub.publish($1, $2::bigint[], $3::json)"), func() { n.close(ctx) }, nil
}

func publishEach(pool *pgxpool.Pool, statement string) publish {
	return func(ctx context.Context, number int64) (int, error) {
		_, err := pool.Exec(ctx, statement, backlogTopic, []int64{number}, `"`+fill+`"`)
		return 1, err
	}
}

func openStreamPublish(ctx context.Context, dsn string) (publish, func(), error) {
	n, err := openNode(ctx, dsn, 4, stream.Config{Retain: rotating})
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, number int64) (int, error) {
		return 1, n.stream.Publish(ctx, backlogTopic, []int64{number}, fill)
	}, func() { n.close(ctx) }, nil
}

func openWatermillPublish(_ context.Context, dsn string) (publish, func(), error) {
	w, err := openWatermill(dsn, 4, false)
	if err != nil {
		return nil, nil, err
	}
	err = w.initialise(backlogTopic)
	p, openErr := w.publisher()
	if err == nil {
		err = openErr
	}
	if err != nil {
		w.close()
		return nil, nil, err
	}
	return func(_ context.Context, number int64) (int, error) {
		return 1, p.Publish(backlogTopic, newMessage(number))
	}, w.close, nil
}
