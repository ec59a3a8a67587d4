package gateway

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// meanwhile is a context that has something happen when it is first looked at.
type meanwhile struct {
	context.Context
	happens func()
}

func (m meanwhile) Err() error {
	m.happens()
	return m.Context.Err()
}

// The gateway may be closed while a client is on its way in.
func TestClientRefusedAtTheLastMoment(t *testing.T) {
	pgtest.CheckLeaks(t)
	hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(t, pgtest.Database(t))})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })
	g, err := New(hub, Config{Topics: []string{"*"}})
	require.NoError(t, err)

	ctx := meanwhile{t.Context(), func() { require.Empty(t, g.admission.close(), "it has nothing to be drained yet") }}
	_, err = g.newClient(httptest.NewRequestWithContext(ctx, "GET", "/", nil), viaStream, false, "t")
	require.ErrorIs(t, err, &shuttingDown)
	<-g.admission.empty
	require.Empty(t, g.admission.addresses)
	require.Zero(t, g.Stats().Accepted)
	require.Eventually(t, func() bool { return hub.Stats().Consumers == 0 }, 20*time.Second, 2*time.Millisecond)
}
