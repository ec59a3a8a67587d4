package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

// run is the example. main.go only finds the server.
func run(dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()

	// The hub publishes through the pool, and opens one connection of its own to listen on.
	hub, err := pghub.New(pghub.Config{Pool: pool, OnError: func(err error) { log.Print(err) }})
	if err != nil {
		return err
	}

	// The handler gets one event after another, in the order in which they were committed. Supervisory events, which
	// have no topic, stand among them: connect, subscribe, disconnect, reconnect, stop.
	printed := make(chan string, 100)
	_, err = hub.Consumer(ctx, func(_ context.Context, ev *pghub.Event) {
		fmt.Printf("topic=%s key=%v value=%s\n", ev.Topic, ev.Key, ev.Value)
		printed <- string(ev.Value)
	}, &pghub.ConsumerConfig{Topics: []string{"topic1"}})
	if err != nil {
		return err
	}
	waitFor := func(value string) error {
		for {
			select {
			case v := <-printed:
				if v == value {
					return nil
				}
			case <-ctx.Done():
				return fmt.Errorf("waiting for %s: %w", value, ctx.Err())
			}
		}
	}

	// Once Start has returned, the subscription is in effect: whatever is committed from now on arrives.
	if err := hub.Start(ctx); err != nil {
		return err
	}

	// An event is any number of int64 keys and any value that encoding/json takes; both may be missing. Notify returns
	// nil once the event is committed.
	for _, ev := range []struct {
		key   []int64
		value any
	}{
		{nil, nil},
		{[]int64{1}, map[string]any{"name": "Ada", "age": 36}},
		{[]int64{101, 102, 103}, map[string]any{"status": "sold"}},
		{nil, []string{"red", "green", "blue"}},
		{[]int64{42}, nil},
	} {
		if err := hub.Notify(ctx, "topic1", ev.key, ev.value); err != nil {
			return err
		}
	}

	// A trigger publishes in the same format: the letter e, the keys, a colon, and JSON.
	if _, err := pool.Exec(ctx, trigger+`INSERT INTO people VALUES (7, 'Grace', 37)`); err != nil {
		return err
	}
	// And so does anybody else, in any language.
	if _, err := pool.Exec(ctx, `NOTIFY topic1, 'e8:"from plain NOTIFY"'`); err != nil {
		return err
	}
	if err := waitFor(`"from plain NOTIFY"`); err != nil {
		return err
	}

	// The listener's server process is killed. What is committed between disconnect and reconnect is missed, and
	// nothing after it: the hub listens again, to everything, before it says reconnect.
	if _, err := pool.Exec(ctx, `SELECT pg_terminate_backend($1)`, hub.Stats().PID); err != nil {
		return err
	}
	if err := waitFor(`{"action":"reconnect","final":false}`); err != nil {
		return err
	}
	if err := hub.Notify(ctx, "topic1", []int64{9}, "still subscribed"); err != nil {
		return err
	}

	// Stop delivers what has been committed so far; stop is the last event.
	return hub.Stop(ctx)
}

// trigger makes a table, a temporary one, that announces its new rows.
const trigger = `
	CREATE TEMP TABLE people (id bigint PRIMARY KEY, name text, age int);
	CREATE FUNCTION pg_temp.announce() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_notify('topic1', 'e' || NEW.id || ':' || row_to_json(NEW));
		RETURN NULL;
	END $$;
	CREATE TRIGGER announce AFTER INSERT ON people FOR EACH ROW EXECUTE FUNCTION pg_temp.announce();
`
