package gateway

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	pghubsql "github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// Where no event has come for long the database says where the stream is: what a client is told to begin at has to be kept still
// when it comes back.
func TestNowIsOfNow(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, pghubsql.Install(t.Context(), pool))
	hub, err := pghub.New(pghub.Config{Pool: pool})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })
	s, err := stream.Open(t.Context(), hub, stream.Config{Live: []string{"a"}})
	require.NoError(t, err)

	old := pghub.Position{Tick: firstTick}
	g := &Gateway{hub: hub, cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	p := &past{gateway: g, stream: s, newest: old, noted: time.Now().Add(-time.Hour)}
	now, err := p.now(t.Context())
	require.NoError(t, err)
	require.Positive(t, now.at.Compare(old))
	require.Equal(t, now.at, p.newest)

	p.newest, p.noted = old, time.Now().Add(time.Hour) // an event has just told
	now, err = p.now(t.Context())
	require.NoError(t, err)
	require.Equal(t, old, now.at)
}
