package gateway

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// timedWriter keeps the time until which a request is read.
type timedWriter struct {
	*httptest.ResponseRecorder
	until time.Time
}

// SetReadDeadline is what an http.ResponseController calls.
func (w *timedWriter) SetReadDeadline(t time.Time) error {
	w.until = t
	return nil
}

// lookingCodec looks at something when an event is published.
type lookingCodec struct {
	pghub.KeyValueCodec
	look func()
}

func (c *lookingCodec) Append(dst []byte, key []int64, value any) ([]byte, error) {
	c.look()
	return c.KeyValueCodec.Append(dst, key, value)
}

// timedBody looks at something when it is read.
type timedBody struct {
	*strings.Reader
	look func()
}

func (b *timedBody) Read(p []byte) (int, error) {
	b.look()
	return b.Reader.Read(p)
}

// The limit of time is one of the body. What happens once that is there has limits of its own: with this one on the
// connection, the request would be ended by it.
func TestTheLimitOfABodyEndsWithIt(t *testing.T) {
	pgtest.CheckLeaks(t)
	w := &timedWriter{ResponseRecorder: httptest.NewRecorder()}
	read, published := false, false
	hub, err := pghub.New(pghub.Config{Pool: pgtest.Pool(t, pgtest.Database(t)), Codec: &lookingCodec{look: func() {
		published = true
		require.Zero(t, w.until)
	}}})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, hub.Stop(context.Background())) })
	g, err := New(hub, Config{Publish: []string{"*"}, ReadTimeout: time.Hour})
	require.NoError(t, err)
	body := &timedBody{strings.NewReader("1"), func() {
		if !published {
			read = true
			require.WithinDuration(t, time.Now().Add(time.Hour), w.until, 10*time.Minute)
		}
	}}
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/notify/t", body)
	g.ServeHTTP(w, r)
	require.Equal(t, 204, w.Code, w.Body.String())
	require.True(t, read && published)
	require.Zero(t, w.until)
}
