package pghub

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestConfigDefaults(t *testing.T) {
	cfg, err := Config{ListenConfig: new(pgx.ConnConfig)}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, 100*time.Millisecond, cfg.ReconnectMin)
	require.Equal(t, 30*time.Second, cfg.ReconnectMax)
	require.Equal(t, 10*time.Second, cfg.ProbeInterval)
	require.Equal(t, 5*time.Second, cfg.ProbeTimeout)
	require.Equal(t, 10*time.Second, cfg.StopTimeout)
	require.Equal(t, 16384, cfg.QueueSize)
	require.Equal(t, KeyValueCodec{}, cfg.Codec)
	require.False(t, cfg.Logger.Enabled(context.Background(), slog.LevelError), "silent")
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Config)
		refusal string // "": it is fine
	}{
		"nothing to connect with":        {func(c *Config) { c.Pool, c.ListenConfig = nil, nil }, "Pool or a ListenConfig"},
		"only ListenConfig":              {func(c *Config) { c.Pool, c.ListenConfig = nil, new(pgx.ConnConfig) }, ""},
		"name":                           {func(c *Config) { c.Name = strings.Repeat("ü", 100) }, ""},
		"name with NUL":                  {func(c *Config) { c.Name = "a\x00" }, "Name"},
		"name in another encoding":       {func(c *Config) { c.Name = "\xfc" }, "Name"},
		"equal backoff bounds":           {func(c *Config) { c.ReconnectMin, c.ReconnectMax = time.Second, time.Second }, ""},
		"only a long ReconnectMin":       {func(c *Config) { c.ReconnectMin = time.Hour }, ""},
		"only a short ReconnectMax":      {func(c *Config) { c.ReconnectMax = time.Millisecond }, ""},
		"ReconnectMin over ReconnectMax": {func(c *Config) { c.ReconnectMin, c.ReconnectMax = 2, 1 }, "no range"},
		"negative ReconnectMin":          {func(c *Config) { c.ReconnectMin = -1 }, "no range"},
		"negative ReconnectMax":          {func(c *Config) { c.ReconnectMax = -1 }, "no range"},
		"no probes":                      {func(c *Config) { c.ProbeInterval = -1 }, ""},
		"negative ProbeTimeout":          {func(c *Config) { c.ProbeTimeout = -1 }, "ProbeTimeout -1ns"},
		"negative PublishTimeout":        {func(c *Config) { c.PublishTimeout = -1 }, "PublishTimeout -1ns"},
		"negative StopTimeout":           {func(c *Config) { c.StopTimeout = -1 }, "StopTimeout -1ns"},
		"negative ResyncLimit":           {func(c *Config) { c.ResyncLimit = -1 }, "ResyncLimit -1"},
		"negative ResyncClusterLimit":    {func(c *Config) { c.ResyncClusterLimit = -1 }, "ResyncClusterLimit -1"},
		"the shortest of all": {func(c *Config) {
			c.ProbeTimeout, c.PublishTimeout, c.StopTimeout, c.ReconnectMin, c.ResyncLimit = 1, 1, 1, 1, 1
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Pool: unitPool()}
			c.change(&cfg)
			full, err := cfg.withDefaults()
			if c.refusal != "" {
				require.ErrorContains(t, err, c.refusal)
				return
			}
			require.NoError(t, err)
			require.Positive(t, full.ReconnectMin)
			require.LessOrEqual(t, full.ReconnectMin, full.ReconnectMax)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	hub, err := New(Config{})
	require.Error(t, err)
	require.Nil(t, hub)
}

func TestConsumerConfig(t *testing.T) {
	hub := &Config{QueueSize: 7, Codec: JSONCodec{}}
	full, err := ConsumerConfig{}.withDefaults(hub)
	require.NoError(t, err)
	require.Equal(t, 7, full.QueueSize)
	require.Equal(t, JSONCodec{}, full.Codec)

	full, err = ConsumerConfig{QueueSize: 3, Codec: RawCodec{}, Overflow: CloseConsumer, Topics: []string{"a"}}.withDefaults(hub)
	require.NoError(t, err)
	require.Equal(t, 3, full.QueueSize)
	require.Equal(t, RawCodec{}, full.Codec)

	for _, size := range []int{-1, math.MinInt} {
		full, err = ConsumerConfig{QueueSize: size}.withDefaults(hub)
		require.NoError(t, err)
		require.Equal(t, math.MaxInt, full.QueueSize, "unbounded")
	}
	_, err = ConsumerConfig{Overflow: -1}.withDefaults(hub)
	require.ErrorContains(t, err, "Overflow")
	_, err = ConsumerConfig{Overflow: CloseConsumer + 1}.withDefaults(hub)
	require.ErrorContains(t, err, "Overflow")
	_, err = ConsumerConfig{Topics: []string{"a", ""}}.withDefaults(hub)
	require.ErrorIs(t, err, ErrTopic)
}

// What has no sense without a Resync is refused, and what may not be negative; one nanosecond is enough of either.
func TestConsumerConfigOfResync(t *testing.T) {
	resync := func(context.Context, Gap) error { return nil }
	for _, c := range []struct {
		cfg     ConsumerConfig
		refusal string
	}{
		{ConsumerConfig{Resync: resync}, ""},
		{ConsumerConfig{Resync: resync, ResyncFirst: true, ResyncEvery: 1, ResyncJitter: 1}, ""},
		{ConsumerConfig{ResyncFirst: true}, "needs a Resync"},
		{ConsumerConfig{ResyncEvery: 1}, "need a Resync"},
		{ConsumerConfig{ResyncJitter: 1}, "need a Resync"},
		{ConsumerConfig{Resync: resync, ResyncEvery: -1}, "ResyncEvery -1ns"},
		{ConsumerConfig{Resync: resync, ResyncJitter: -1}, "ResyncJitter -1ns"},
	} {
		_, err := c.cfg.withDefaults(&Config{QueueSize: 7})
		if c.refusal == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.refusal)
		}
	}
	hub := unitHub(t, Config{})
	for _, cfg := range []BatchConfig{{Max: -1}, {Delay: -1}} {
		_, err := hub.BatchConsumer(t.Context(), func(context.Context, []*Event) {}, &cfg)
		require.ErrorContains(t, err, "must not be negative")
	}
}
