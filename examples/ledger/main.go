// Ledger keeps balances by a durable consumer whose work and position are stored in one transaction (DurableTx), so that
// each payment is booked once, whatever happens: two bookkeepers stand by for each other, batches fail, connections are cut,
// the one who works is ended in the middle. In the end it compares the balances with the payments. What there is to copy is in
// ledger.go.
//
//	go run ./examples/ledger
//
// It uses the PostgreSQL server that DATABASE_URL names, and leaves nothing behind on it. Without DATABASE_URL it starts
// a temporary server.
package main

import (
	"context"
	"errors"
	"log"

	"github.com/pghub/pghub/internal/pgtest"
)

func main() {
	server, err := pgtest.Open(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(show(server.DSN()), server.Close()); err != nil {
		log.Fatal(err)
	}
}
