package main

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"

	"github.com/pghub/pghub"
)

const (
	byOne      = "pgx, one by one"
	byThousand = "pgx, 1,000 a query"
)

// firstTopic is listened to before the time runs: the first LISTEN of a connection reads what is in the queue.
const firstTopic = "first"

func listenSection(db *database) *section {
	s := &section{
		name:  "listen",
		title: "LISTEN",
		about: "Time until the server has acknowledged so many topics, on a connection that listens to one already. pgx with 1,000 LISTENs a query " +
			"is what the server takes for it.",
		unit:       seconds,
		references: []string{byPq, byOne},
	}
	for _, n := range []int{10, 1000, 10_000} {
		topics := topicNames(n)
		s.cases = append(s.cases, benchCase{name: count(n, "topic"), contenders: []contender{
			{byOne, func(ctx context.Context) (sample, error) { return listenPgx(ctx, db.dsn, topics, 1) }},
			{byThousand, func(ctx context.Context) (sample, error) { return listenPgx(ctx, db.dsn, topics, 1000) }},
			{byPq, func(ctx context.Context) (sample, error) { return listenPq(db.dsn, topics) }},
			{byHub, func(ctx context.Context) (sample, error) { return listenHub(ctx, db.dsn, topics) }},
		}})
	}
	return s
}

func listenPgx(ctx context.Context, dsn string, topics []string, atOnce int) (s sample, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return s, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := listenInChunks(ctx, conn, []string{firstTopic}, 1); err != nil {
		return s, err
	}
	start := time.Now()
	if err := listenInChunks(ctx, conn, topics, atOnce); err != nil {
		return s, err
	}
	s.value = time.Since(start).Seconds()
	return s, nil
}

func listenInChunks(ctx context.Context, conn *pgx.Conn, topics []string, atOnce int) error {
	for chunk := range slices.Chunk(topics, atOnce) {
		if _, err := conn.Exec(ctx, listenSQL(chunk)); err != nil {
			return err
		}
	}
	return nil
}

func listenPq(dsn string, topics []string) (s sample, err error) {
	listener := pq.NewListener(dsn, time.Second, time.Second, nil)
	defer func() { _ = listener.Close() }()
	if err := listener.Listen(firstTopic); err != nil { // waits for the connection
		return s, err
	}
	start := time.Now()
	for _, topic := range topics {
		if err := listener.Listen(topic); err != nil {
			return s, err
		}
	}
	s.value = time.Since(start).Seconds()
	return s, nil
}

func listenHub(ctx context.Context, dsn string, topics []string) (s sample, err error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	hub, err := pghub.New(pghub.Config{Pool: pool})
	if err != nil {
		return s, err
	}
	defer func() { _ = hub.Stop(context.WithoutCancel(ctx)) }()
	if err := hub.Start(ctx); err != nil {
		return s, err
	}
	consumer, err := hub.Consumer(ctx, func(context.Context, *pghub.Event) {}, &pghub.ConsumerConfig{Topics: []string{firstTopic}})
	if err != nil {
		return s, err
	}
	start := time.Now()
	if err := consumer.Subscribe(ctx, topics...); err != nil {
		return s, err
	}
	s.value = time.Since(start).Seconds()
	return s, nil
}
