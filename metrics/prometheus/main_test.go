package pghubprom

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// gathered is what a registry gives, as name{label="value",…} with labels sorted. Of a histogram, it is the count.
func gathered(t require.TestingT, registry prometheus.Gatherer) map[string]float64 {
	families, err := registry.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			slices.Sort(labels)
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			values[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return values
}

func registryOf(collectors ...prometheus.Collector) *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors...)
	return registry
}

// requireValues requires some of what was gathered.
func requireValues(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		require.Contains(t, got, name)
		require.InDelta(t, want[name], got[name], 0, name)
	}
}

// eventually requires some of what is gathered before long.
func eventually(t *testing.T, registry prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got := gathered(c, registry)
		for name, value := range want {
			require.Contains(c, got, name)
			require.InDelta(c, value, got[name], 0, name)
		}
	}, pgtest.Patience, 5*time.Millisecond)
}
