package webhook

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryAfter(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for text, want := range map[string]time.Duration{
		"0": 0, "120": 2 * time.Minute,
		now.Add(time.Hour).UTC().Format(http.TimeFormat):  time.Hour,
		now.Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
	} {
		got, said := retryAfter(text, now)
		require.True(t, said, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1", "soon", "99999999999"} {
		_, said := retryAfter(text, now)
		require.False(t, said, text)
	}
}
