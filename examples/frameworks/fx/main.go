// Fx has a hub in the lifecycle of an fx application: it is started before what is listed behind it, and stopped after it. What
// listens is a constructor that takes the hub.
//
//	DATABASE_URL=postgres:///shop go run ./examples/frameworks/fx
//	psql shop -c "NOTIFY orders, 'e7'"
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/fx"

	"github.com/pghub/pghub"
)

func main() { fx.New(app(os.Getenv("DATABASE_URL"), func(s string) { fmt.Println(s) })).Run() }

// app is all of the application: print is told what happens to orders.
func app(database string, print func(string)) fx.Option {
	return fx.Options(
		fx.Supply(fx.Annotated{Name: "database", Target: database}, printer(print)),
		fx.Provide(newPool, newHub),
		fx.Invoke(watchOrders), // a service would provide what it makes of events, and invoke its HTTP server
	)
}

type printer func(string)

type poolParams struct {
	fx.In
	Database string `name:"database"`
}

func newPool(life fx.Lifecycle, in poolParams) (*pgxpool.Pool, error) {
	pool, err := pgxpool.New(context.Background(), in.Database) // connects when it is first used
	if err != nil {
		return nil, err
	}
	life.Append(fx.StopHook(pool.Close))
	return pool, nil
}

// newHub has the hub started with the application: fx gives that 15 seconds, and an application that cannot reach its database fails
// to start. One that is to wait for it instead runs hub.Run on a goroutine, as examples/service does. Consumers are made before that, by
// the constructors.
func newHub(life fx.Lifecycle, pool *pgxpool.Pool) (*pghub.Hub, error) {
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: "fx"})
	if err != nil {
		return nil, err
	}
	life.Append(fx.StartStopHook(hub.Start, hub.Stop)) // Stop delivers what was committed before it
	return hub, nil
}

func watchOrders(hub *pghub.Hub, print printer) error {
	_, err := hub.Consumer(context.Background(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory != nil {
			print(string(ev.Advisory.Action))
		} else {
			print(fmt.Sprint("order ", ev.Key))
		}
	}, &pghub.ConsumerConfig{
		Topics:      []string{"orders"},
		ResyncFirst: true,
		Resync: func(context.Context, pghub.Gap) error {
			print("fetch all orders")
			return nil
		},
	})
	return err
}
