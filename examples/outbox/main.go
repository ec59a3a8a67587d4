// Outbox is a shop that confirms its orders by mail, each exactly once in effect, though it is killed again and again while it
// works. The event that asks for the mail is written in the transaction of its order; a durable consumer has it sent; and the
// mail service knows by a key which mails it has sent already. What there is to copy is in outbox.go.
//
//	go run ./examples/outbox
//
// It uses the PostgreSQL server that DATABASE_URL names, and leaves nothing behind on it. Without DATABASE_URL it starts
// a temporary server. In the end it compares the mails with the orders.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"

	"github.com/pghub/pghub/internal/pgtest"
)

func main() {
	// The process that is killed is this program too, told where to send mails.
	if mail := os.Getenv(mailEnv); mail != "" {
		ctx, end := context.WithCancel(context.Background())
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it is gone
			end()
		}()
		if err := serve(ctx, os.Getenv("DATABASE_URL"), mail, os.Getenv(closedEnv) == ""); err != nil && ctx.Err() == nil {
			log.Fatal(err)
		}
		return
	}
	server, err := pgtest.Open(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(show(server.DSN()), server.Close()); err != nil {
		log.Fatal(err)
	}
}
