package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// payment is the value of an event on topic payments. Its key is the account.
type payment struct {
	Cents int64 `json:"cents"`
}

// newLedger makes a consumer that keeps table balances. Any number of processes may make it: one works, the others stand by.
func newLedger(ctx context.Context, s *stream.Stream, book stream.TxHandler) (*stream.Durable, error) {
	return s.DurableTx(ctx, "ledger", book, &stream.DurableConfig{Topics: []string{"payments"}, Lease: time.Second})
}

// book adds payments to the balances. It works in tx, in which the position of the consumer is stored too: both are
// committed, or neither. So there is no need to know which payments have been booked. Whatever it did outside of tx, it might do again.
func book(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
	sums, counts := make(map[int64]int64), make(map[int64]int64)
	for _, ev := range events {
		p, err := pghub.Decode[payment](ev)
		if err != nil || len(ev.Key) != 1 {
			return stream.Skip(err) // of a batch: the events come again one at a time, and this one alone is parked
		}
		sums[ev.Key[0]] += p.Cents
		counts[ev.Key[0]]++
	}
	var accounts, cents, payments []int64
	for account, sum := range sums {
		accounts, cents, payments = append(accounts, account), append(cents, sum), append(payments, counts[account])
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO pghub_example.balances AS b (account, cents, payments)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
		ON CONFLICT (account) DO UPDATE SET cents = b.cents + excluded.cents, payments = b.payments + excluded.payments`, accounts, cents, payments)
	return err
}
