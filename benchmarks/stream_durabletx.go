package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

const (
	txEvents = 100_000
	txBatch  = 100
)

func streamTxSection(b *backlog) *section {
	events := scaled(txEvents, b.lab.scale)
	return &section{
		name:  "stream tx",
		title: "The stream: DurableTx",
		about: fmt.Sprintf("The first %d events of the backlog to a DurableTx, %d at a time: its handler writes a row for each with one "+
			"INSERT, in the transaction that stores the position. Durable, whose handler only counts, stands beside it.", events, txBatch),
		references: []string{byDurables},
		columns:    columns{cost: true},
		prepare:    b.prepare,
		cases: []benchCase{{name: "batches of 100", contenders: []contender{
			{byDurables, func(ctx context.Context) (sample, error) { return b.durable(ctx, events) }},
			{byDurableTx, func(ctx context.Context) (sample, error) { return b.durableTx(ctx, events) }},
		}}},
	}
}

// durableTx is durable with the position in the transaction of the work.
func (b *backlog) durableTx(ctx context.Context, events int) (s sample, err error) {
	n, err := openNode(ctx, b.stream, 2, stream.Config{})
	if err != nil {
		return s, err
	}
	defer n.close(ctx)
	if _, err := n.pool.Exec(ctx, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (number bigint, value text)"); err != nil {
		return s, err
	}
	b.names++
	r := newRace(events)
	d, err := n.stream.DurableTx(ctx, "reader"+strconv.Itoa(b.names), func(ctx context.Context, tx pgx.Tx, batch []*pghub.Event) error {
		numbers, values := make([]int64, len(batch)), make([]string, len(batch))
		for i, ev := range batch {
			numbers[i], values[i] = ev.Key[0], string(ev.Value)
		}
		_, err := tx.Exec(ctx, "INSERT INTO ledger SELECT * FROM unnest($1::bigint[], $2::text[])", numbers, values)
		for range batch {
			r.count(&s) // those of the last batch, just before its commit
		}
		return err
	}, &stream.DurableConfig{Topics: []string{backlogTopic}, Batch: txBatch})
	if err != nil {
		return s, err
	}
	err = r.err(ctx)
	d.Close()
	<-d.Done()
	return s, err
}
