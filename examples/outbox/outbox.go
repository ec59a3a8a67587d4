package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// order is a row of table orders.
type order struct {
	ID   int64  `json:"id"`
	Item string `json:"item"`
}

// shop takes orders, and has each of them confirmed by mail.
type shop struct {
	pool   *pgxpool.Pool
	stream *stream.Stream
	mail   string // the address of the mail service
}

// serve runs a shop until ctx ends.
func serve(ctx context.Context, dsn, mail string, open bool) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "shop"})
	if err != nil {
		return err
	}
	// Short leases: a shop that was killed is to be replaced quickly. Without one it is 10 s.
	s, err := stream.Open(ctx, hub, stream.Config{Lease: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	sh := &shop{pool, s, mail}
	if _, err := s.Durable(ctx, "confirmations", sh.confirm, &stream.DurableConfig{Topics: []string{"orders"}, Lanes: 4}); err != nil {
		return err
	}
	if open {
		go sh.takeOrders(ctx)
	}
	return hub.Run(ctx)
}

var errDeclined = errors.New("the card was declined")

// place stores an order and the event that asks for its confirmation, in one transaction: both are there, or neither is.
func (sh *shop) place(ctx context.Context, item string) error {
	return pgx.BeginFunc(ctx, sh.pool, func(tx pgx.Tx) error {
		o := order{Item: item}
		if err := tx.QueryRow(ctx, `INSERT INTO pghub_example.orders (item) VALUES ($1) RETURNING id`, item).Scan(&o.ID); err != nil {
			return err
		}
		if err := sh.stream.PublishTx(ctx, tx, "orders", []int64{o.ID}, o); err != nil {
			return err
		}
		if o.ID%7 == 0 {
			return errDeclined // a rollback: no order, and no event
		}
		return nil
	})
}

// confirm handles an event of an order. If the process dies here, or before the position is stored, the event comes again, and has the same
// position: the mail service takes it as the key of the mail, and sends no second one.
func (sh *shop) confirm(ctx context.Context, ev *pghub.Event) error {
	o, err := pghub.Decode[order](ev)
	if err != nil {
		return stream.Skip(err) // it will be no better the next time
	}
	return sh.send(ctx, ev.Record.Position.String(), o)
}

// send asks the mail service for a mail. An error has the event tried again.
func (sh *shop) send(ctx context.Context, key string, o order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sh.mail, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusServiceUnavailable:
		return stream.RetryAfter(10*time.Millisecond, fmt.Errorf("mail: %s", resp.Status))
	}
	return fmt.Errorf("mail: %s", resp.Status)
}

// takeOrders is a customer who orders again and again.
func (sh *shop) takeOrders(ctx context.Context) {
	for ctx.Err() == nil {
		if err := sh.place(ctx, "book"); err != nil && !errors.Is(err, errDeclined) && ctx.Err() == nil {
			log.Print(err)
		}
		select {
		case <-time.After(rand.N(50 * time.Millisecond)):
		case <-ctx.Done():
		}
	}
}
