package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func testLines() []*line {
	var lines []*line
	for i, size := range []float64{64, 512, 7000} {
		for j, by := range []string{byBare, "a<b"} {
			lines = append(lines, &line{
				section: "receive", job: []string{"64 B", "512 B", "7 kB"}[i], contender: by, x: size,
				samples: []sample{{value: 1e6 / size / float64(j+1)}},
			})
		}
	}
	return append(lines, &line{section: "receive", job: "over TLS", contender: byBare, samples: []sample{{value: 1}}})
}

func TestChartIsWellFormedAndComplete(t *testing.T) {
	c := receiveChart(testLines())
	require.Len(t, c.series, 2)
	require.Len(t, c.ticks, 3)

	var svg strings.Builder
	require.NoError(t, c.writeSVG(&svg))
	elements := make(map[string]int)
	decoder := xml.NewDecoder(strings.NewReader(svg.String()))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
	require.Equal(t, 2, elements["polyline"])
	require.Equal(t, 6, elements["circle"])
	require.NotContains(t, svg.String(), "NaN")
	require.NotContains(t, svg.String(), "Inf")
}

func TestPlotsAreWritten(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, writePlots(folder, testLines()))
	require.FileExists(t, filepath.Join(folder, "receive.svg"))
	require.NoFileExists(t, filepath.Join(folder, "notify.svg"), "nothing of it was measured")
	require.ErrorIs(t, writePlots(filepath.Join(folder, "missing"), testLines()), os.ErrNotExist)
}

func TestNotifyChartSeparatesListeners(t *testing.T) {
	var lines []*line
	for _, listeners := range []int{0, 1, 50} {
		for _, callers := range []int{1, 16} {
			p := publishing{callers: callers, listeners: listeners}
			lines = append(lines, &line{section: "notify", job: p.name(), contender: byHub, x: float64(callers), samples: []sample{{value: 1000}}})
		}
	}
	c := notifyChart(lines)
	require.Len(t, c.series, 2)
	require.Equal(t, byHub, c.series[0].name)
	require.True(t, c.series[1].dashed)
	require.Len(t, c.series[1].points, 2)
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestChartReportsFailure(t *testing.T) {
	require.Error(t, receiveChart(testLines()).writeSVG(failingWriter{}))
}
