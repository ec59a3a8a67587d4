package hub_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub/bridge/hub"
	"github.com/pghub/pghub/bridge/sinktest"
)

// What every sink has to keep to.
func TestSuite(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Broker {
		pool := newTarget(t)
		return sinktest.Broker{Sink: newSink(t, hub.Config{Pool: pool, Stream: true}), Received: func() []string {
			rows, _ := pool.Query(context.Background(), `SELECT value FROM pghub.log ORDER BY id`)
			bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Error(err)
			}
			return bodies
		}}
	})
}
