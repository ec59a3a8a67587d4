package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"

	"github.com/pghub/pghub"
)

func reconnectSection(db *database) *section {
	const n = 10_000
	topics := topicNames(n)
	return &section{
		name:  "reconnect",
		title: "Reconnect",
		about: "Time from when the server process of the listener is told to end, to when another one listens to every topic. All wait a " +
			"millisecond, or less, before they connect again. pgx has no reconnection: that is a loop that connects and listens.",
		unit:       seconds,
		references: []string{byPq},
		cases: []benchCase{{name: count(n, "topic"), contenders: []contender{
			{byOne, func(ctx context.Context) (sample, error) { return reconnectPgx(ctx, db.dsn, topics) }},
			{byPq, func(ctx context.Context) (sample, error) { return reconnectPq(ctx, db.dsn, topics) }},
			{byHub, func(ctx context.Context) (sample, error) { return reconnectHub(ctx, db.dsn, topics) }},
		}}},
	}
}

// terminate ends the server process that listens to a topic. There is but one.
func terminate(ctx context.Context, dsn string, application string) (time.Time, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	start := time.Now()
	tag, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", application)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%d processes of %s were ended", tag.RowsAffected(), application)
	}
	return start, err
}

// named has the connection report an application name.
func named(dsn, application string) string { return dsn + "&application_name=" + application }

func reconnectPgx(ctx context.Context, dsn string, topics []string) (s sample, err error) {
	const application = "benchmark-pgx"
	conn, err := pgx.Connect(ctx, named(dsn, application))
	if err != nil {
		return s, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := listenInChunks(ctx, conn, topics, 1); err != nil {
		return s, err
	}
	start, err := terminate(ctx, dsn, application)
	if err != nil {
		return s, err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			break
		}
	}
	again, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return s, err
	}
	defer func() { _ = again.Close(context.WithoutCancel(ctx)) }()
	if err := listenInChunks(ctx, again, topics, 1); err != nil {
		return s, err
	}
	s.value = time.Since(start).Seconds()
	return s, nil
}

func reconnectPq(ctx context.Context, dsn string, topics []string) (s sample, err error) {
	const application = "benchmark-pq"
	back := make(chan struct{}, 1)
	listener := pq.NewListener(named(dsn, application), time.Millisecond, time.Millisecond, func(event pq.ListenerEventType, _ error) {
		if event == pq.ListenerEventReconnected { // after all channels are listened to
			back <- struct{}{}
		}
	})
	defer func() { _ = listener.Close() }()
	for _, topic := range topics {
		if err := listener.Listen(topic); err != nil {
			return s, err
		}
	}
	go func() {
		for range listener.NotificationChannel() { // a reconnection is told here too
		}
	}()
	start, err := terminate(ctx, dsn, application)
	if err != nil {
		return s, err
	}
	select {
	case <-back:
		s.value = time.Since(start).Seconds()
		return s, nil
	case <-ctx.Done():
		return s, ctx.Err()
	}
}

func reconnectHub(ctx context.Context, dsn string, topics []string) (s sample, err error) {
	pool, err := newPool(ctx, dsn, 1)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	back := make(chan struct{}, 1)
	hub, err := startHub(ctx, pool, func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil && ev.Advisory.Action == pghub.ActionReconnect {
			back <- struct{}{}
		}
	}, topics...)
	if err != nil {
		return s, err
	}
	defer func() { _ = hub.Stop(context.WithoutCancel(ctx)) }()
	start, err := terminate(ctx, dsn, "pghub")
	if err != nil {
		return s, err
	}
	select {
	case <-back:
		s.value = time.Since(start).Seconds()
		return s, nil
	case <-ctx.Done():
		return s, ctx.Err()
	}
}
