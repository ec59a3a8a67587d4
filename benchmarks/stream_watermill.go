package main

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)

// Ways to configure watermill-sql. It takes rows in batches of 100 and asks for more after a second without any, unless told otherwise.
const (
	byWatermill      = "watermill-sql"
	byWatermillTuned = "watermill-sql, batches of 10,000, poll 5 ms"
)

// watermill is watermill-sql in a process.
type watermill struct {
	db     *dbsql.DB
	schema watermillsql.DefaultPostgreSQLSchema
	poll   time.Duration
}

func openWatermill(dsn string, connections int, tuned bool) (*watermill, error) {
	db, err := dbsql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	w := &watermill{db: db}
	if tuned { // as pghub: pages of 10,000, a look every 5 ms
		w.schema.SubscribeBatchSize, w.poll = 10_000, 5*time.Millisecond
	}
	return w, nil
}

func (w *watermill) close() { _ = w.db.Close() }

// initialise makes the tables of a topic.
func (w *watermill) initialise(topic string) error {
	s, err := w.subscriber("")
	if err != nil {
		return err
	}
	return errors.Join(s.SubscribeInitialize(topic), s.Close())
}

func (w *watermill) subscriber(group string) (*watermillsql.Subscriber, error) {
	return watermillsql.NewSubscriber(w.db, watermillsql.SubscriberConfig{
		ConsumerGroup:  group,
		PollInterval:   w.poll,
		SchemaAdapter:  w.schema,
		OffsetsAdapter: watermillsql.DefaultPostgreSQLOffsetsAdapter{},
	}, nil)
}

// subscribe has a handler get the messages of a topic, each of which it acknowledges by returning.
func (w *watermill) subscribe(ctx context.Context, topic, group string, handle func(*message.Message)) (stop func(), err error) {
	s, err := w.subscriber(group)
	if err != nil {
		return nil, err
	}
	messages, err := s.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m := range messages {
			handle(m)
			m.Ack()
		}
	}()
	return func() {
		_ = s.Close()
		<-ended
	}, nil
}

func (w *watermill) publisher() (*watermillsql.Publisher, error) {
	return watermillsql.NewPublisher(w.db, watermillsql.PublisherConfig{SchemaAdapter: w.schema}, nil)
}

// newMessage is one as watermill's documentation makes it, but for its id: a number is enough here.
func newMessage(number int64) *message.Message {
	return message.NewMessage(strconv.FormatInt(number, 10), []byte(`"`+fill+`"`))
}

const watermillEvents = 100_000

func streamWatermillSection(b *backlog) *section {
	events := scaled(watermillEvents, b.lab.scale)
	var dsn string
	trial := func(tuned bool) func(context.Context) (sample, error) {
		return func(ctx context.Context) (s sample, err error) {
			w, err := openWatermill(dsn, 2, tuned)
			if err != nil {
				return s, err
			}
			defer w.close()
			b.names++
			r := newRace(events)
			stop, err := w.subscribe(ctx, backlogTopic, "reader"+strconv.Itoa(b.names), func(*message.Message) { r.count(&s) })
			if err != nil {
				return s, err
			}
			err = r.err(ctx)
			stop()
			return s, err
		}
	}
	return &section{
		name:  "stream watermill",
		title: "The stream: beside watermill-sql",
		about: fmt.Sprintf("The first %d events of the backlog to a durable consumer, which acknowledges each; and as many messages, written in the "+
			"same way, to a subscriber of watermill-sql 3.1 with PostgreSQL, as it is by itself, and with batches and polls as large and as "+
			"frequent as pghub's.", events),
		references: []string{byWatermill, byWatermillTuned},
		columns:    columns{cost: true},
		prepare: func(ctx context.Context) (err error) {
			if err := b.prepare(ctx); err != nil {
				return err
			}
			dsn, err = fillWatermill(ctx, &b.lab.logical, events)
			return err
		},
		cases: []benchCase{{name: "backlog", contenders: []contender{
			{byWatermill, trial(false)},
			{byWatermillTuned, trial(true)},
			{byDurables, func(ctx context.Context) (sample, error) { return b.durable(ctx, events) }},
		}}},
	}
}

// fillWatermill writes messages with a transaction each, with the statement of watermill-sql's publisher.
func fillWatermill(ctx context.Context, server *labServer, events int) (dsn string, err error) {
	dsn, _, err = server.database(ctx)
	if err != nil {
		return "", err
	}
	w, err := openWatermill(dsn, 1, false)
	if err != nil {
		return "", err
	}
	defer w.close()
	if err := w.initialise(backlogTopic); err != nil {
		return "", err
	}
	const loop = `DO $$ BEGIN FOR n IN 1 .. %d LOOP
		INSERT INTO %s (uuid, payload, metadata, transaction_id) VALUES (n, '"%s"', '{}', pg_current_xact_id()); COMMIT;
		END LOOP; END $$`
	for _, statement := range []string{
		"SET synchronous_commit = off",
		fmt.Sprintf(loop, events, w.schema.MessagesTable(backlogTopic), fill),
		"VACUUM (ANALYZE) " + w.schema.MessagesTable(backlogTopic),
		"CHECKPOINT",
	} {
		if _, err := w.db.ExecContext(ctx, statement); err != nil {
			return "", fmt.Errorf("%.50s: %w", statement, err)
		}
	}
	return dsn, nil
}

// numberOf is what newMessage was given.
func numberOf(m *message.Message) int64 {
	number, err := strconv.ParseInt(m.UUID, 10, 64)
	if err != nil {
		panic(err) // nobody else writes
	}
	return number
}
