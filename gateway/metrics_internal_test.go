package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// Replays are in the metrics as they are in Stats.
func TestMetricsOfReplays(t *testing.T) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1")
	require.NoError(t, err)
	hub, err := pghub.New(pghub.Config{ListenConfig: cfg}) // it is not started
	require.NoError(t, err)
	g, err := New(hub, Config{})
	require.NoError(t, err)
	g.counters.replays.Store(2)
	g.counters.replayed.Store(3)
	answer := httptest.NewRecorder()
	g.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	for _, text := range []string{
		"# TYPE pghub_gateway_replays gauge\npghub_gateway_replays 2\n",
		"# TYPE pghub_gateway_replayed_total counter\npghub_gateway_replayed_total 3\n",
	} {
		require.Contains(t, answer.Body.String(), text)
	}
}
