// Quickstart is the main job of pghub from end to end: subscribe, publish from Go, from a trigger and with plain NOTIFY,
// lose the connection and get it back, stop. It prints every event and ends by itself.
//
//	go run ./examples/quickstart
//
// It uses the PostgreSQL server that DATABASE_URL names, and leaves nothing behind on it. Without DATABASE_URL it starts
// a temporary server. What there is to copy is in quickstart.go.
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
	if err := errors.Join(run(server.DSN()), server.Close()); err != nil {
		log.Fatal(err)
	}
}
