package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgwire"
)

func TestFanOutWaysDeliverEverything(t *testing.T) {
	for name, way := range map[string]fanOut{"hub": fanOutHub, "goroutines": fanOutGoroutines} {
		t.Run(name, func(t *testing.T) {
			s, err := fanOutTrial(t.Context(), way, 3, 3*1400)
			require.NoError(t, err)
			require.Positive(t, s.value)
			s, err = neighbourTrial(t.Context(), way, 0, 20)
			require.NoError(t, err)
			require.Positive(t, s.value)
		})
	}
}

func TestNotificationsAreValidAndOfTheirSize(t *testing.T) {
	frames := notifications(fanOutTopic, 3)
	n, err := pgwire.ParseNotification(frames[5 : 1+4+4+len(fanOutTopic)+1+64+1])
	require.NoError(t, err)
	require.Len(t, n.Payload, 64)
	ev := &pghub.Event{Payload: n.Payload}
	require.NoError(t, pghub.KeyValueCodec{Strict: true}.Decode(ev))
	require.Equal(t, []int64{0}, ev.Key)
}

func TestPayloadIsWhatTheHubSends(t *testing.T) {
	want, err := pghub.KeyValueCodec{}.Append(nil, []int64{-5}, fill)
	require.NoError(t, err)
	require.Equal(t, string(want), payload(-5))
}

func TestTrialsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := fanOutTrial(ctx, fanOutGoroutines, 1, 1)
	require.ErrorIs(t, err, context.Canceled)
}
