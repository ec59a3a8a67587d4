package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

const cpuTime = 4 * time.Second // of a trial

func streamCPUSection(l *lab) *section {
	s := &section{
		name:  "stream consumers",
		title: "The stream: consumers that have caught up",
		about: fmt.Sprintf("Processor time that all processes of the server take in a second in which %d events are published, each with a statement of "+
			"its own, with so many durable consumers of all events in one process. It includes what publishing and ticks take.", crossingRate),
		unit:       seconds,
		references: []string{count(1, "consumer")},
	}
	job := benchCase{name: fmt.Sprintf("%d/s", crossingRate)}
	for _, consumers := range []int{0, 1, 10} {
		job.contenders = append(job.contenders, contender{count(consumers, "consumer"), func(ctx context.Context) (sample, error) {
			return cpuTrial(ctx, &l.fast, consumers, scaled(int(cpuTime.Seconds()*crossingRate), l.scale))
		}})
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		s.about += " It is left out here: there is no /proc."
		return s
	}
	s.cases = []benchCase{job}
	return s
}

func cpuTrial(ctx context.Context, server *labServer, consumers, events int) (s sample, err error) {
	dsn, drop, err := server.database(ctx)
	if err != nil {
		return s, err
	}
	defer drop()
	n, err := openNode(ctx, dsn, 8, stream.Config{Retain: rotating})
	if err != nil {
		return s, err
	}
	defer n.close(ctx)
	var got atomic.Int64
	for i := range consumers {
		_, err := n.stream.Durable(ctx, "reader"+strconv.Itoa(i), func(context.Context, *pghub.Event) error {
			got.Add(1)
			return nil
		}, nil)
		if err != nil {
			return s, err
		}
	}
	write := publishEach(n.pool, "SELECT pghub.publish($1, $2::bigint[], $3::json)")
	var all sync.WaitGroup
	var fault atomic.Pointer[error]
	publish := func(count int) error {
		start := time.Now()
		for i := range count {
			sleepUntil(start.Add(time.Duration(i) * time.Second / crossingRate))
			all.Go(func() {
				if _, err := write(ctx, int64(i)); err != nil {
					fault.Store(&err)
				}
			})
		}
		all.Wait()
		if err := fault.Load(); err != nil {
			return *err
		}
		return nil
	}
	if err := publish(warmings); err != nil {
		return s, err
	}
	begin()
	start := time.Now()
	before, err := serverCPU(server.server.Dir())
	if err != nil {
		return s, err
	}
	if err := publish(events); err != nil {
		return s, err
	}
	if err := await(ctx, func() bool { return got.Load() >= int64(consumers*(events+warmings)) }); err != nil {
		return s, err
	}
	after, err := serverCPU(server.server.Dir())
	s.value = (after - before).Seconds() / time.Since(start).Seconds()
	return s, err
}

// serverCPU is the processor time that a server has taken: its processes, and those that have ended.
func serverCPU(data string) (total time.Duration, err error) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	postmaster := string(bytes.TrimSpace(first))
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		p, err := parseStat(string(text))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		switch postmaster {
		case p.pid:
			total += p.own + p.children
		case p.parent:
			total += p.own
		}
	}
	return total, nil
}

// processStat is what Linux says of a process. children are those that have ended.
type processStat struct {
	pid, parent   string
	own, children time.Duration
}

// jiffy is Linux's unit of processor time towards programs.
const jiffy = 10 * time.Millisecond

// parseStat reads /proc/PID/stat. The second field is a name in parentheses that may have anything in it.
func parseStat(text string) (p processStat, err error) {
	opened, closed := strings.Index(text, " ("), strings.LastIndex(text, ") ")
	if opened < 0 || closed < opened {
		return p, errors.New("not the state of a process")
	}
	fields := strings.Fields(text[closed+2:]) // from the third on
	const parent, user, system, childUser, childSystem = 4 - 3, 14 - 3, 15 - 3, 16 - 3, 17 - 3
	if len(fields) <= childSystem {
		return p, errors.New("the state of a process has too few fields")
	}
	p.pid, p.parent = text[:opened], fields[parent]
	for _, f := range []struct {
		of   int
		into *time.Duration
	}{{user, &p.own}, {system, &p.own}, {childUser, &p.children}, {childSystem, &p.children}} {
		n, err := strconv.ParseInt(fields[f.of], 10, 64)
		if err != nil {
			return p, err
		}
		*f.into += time.Duration(n) * jiffy
	}
	return p, nil
}
