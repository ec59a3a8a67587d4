package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// writePlots draws what was measured of receiving and publishing into a folder.
func writePlots(folder string, lines []*line) error {
	for name, c := range map[string]*chart{"receive.svg": receiveChart(lines), "notify.svg": notifyChart(lines)} {
		if len(c.series) == 0 {
			continue
		}
		file, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		if err := c.writeSVG(file); err != nil {
			_ = file.Close()
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

func receiveChart(lines []*line) *chart {
	c := &chart{title: "Receive: throughput by payload size", xLabel: "payload", yLabel: "events/s"}
	for _, l := range lines {
		if l.section == "receive" && l.x > 0 {
			c.add(l, l.job, l.contender, false)
		}
	}
	return c
}

func notifyChart(lines []*line) *chart {
	c := &chart{title: "Notify: throughput by callers, unique events", xLabel: "callers", yLabel: "events/s"}
	for _, l := range lines {
		if l.section != "notify" || l.contender == byBatch {
			continue
		}
		callers := strconv.Itoa(int(l.x))
		switch l.job {
		case publishing{callers: int(l.x)}.name():
			c.add(l, callers, l.contender, false)
		case publishing{callers: int(l.x), listeners: 50}.name():
			c.add(l, callers, l.contender+", 50 listeners", true)
		}
	}
	return c
}

// add adds a line's median as a point of a series.
func (c *chart) add(l *line, label, name string, dashed bool) {
	if len(l.samples) == 0 {
		return
	}
	if !slices.ContainsFunc(c.ticks, func(t tick) bool { return t.x == l.x }) {
		c.ticks = append(c.ticks, tick{l.x, label})
	}
	i := slices.IndexFunc(c.series, func(s series) bool { return s.name == name })
	if i < 0 {
		i = len(c.series)
		c.series = append(c.series, series{name: name, dashed: dashed})
	}
	c.series[i].points = append(c.series[i].points, point{l.x, median(l.values())})
}
