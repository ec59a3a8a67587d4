package stream

import (
	"context"
	"errors"
	"time"
)

const (
	lookInterval = 5 * time.Millisecond  // from one look to the next while events come
	busyTime     = 10 * time.Second      // for so long it looks often, though somebody keeps it from sleeping
	slowInterval = 50 * time.Millisecond // from one to the next after that
)

// Tests change these.
var (
	quietTime = time.Second      // how long no event comes before the sequencer tries to sleep
	lookPause = time.Millisecond // between two looks, however long one takes
)

// sequence makes ticks until the lease is lost. Nobody else needs to look while it does.
//
// While events come it looks every lookInterval. After quietTime it tries to get the bell's lock. A writer that has written and not
// committed holds that lock, shared: so it goes on looking. If it gets the lock, it looks once more, since a writer may
// have committed in between. Only if nothing came does it sleep. A writer that finds the lock taken then rings.
func (l *link) sequence(ctx context.Context) error {
	if err := l.takeOver(ctx); err != nil {
		return err
	}
	renew := time.Now().Add(l.s.cfg.Lease / 3)
	rotate := time.Now()
	lastEvent := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		began := time.Now()
		if began.After(renew) {
			if leads, err := l.lead(ctx); err != nil || !leads {
				return err
			}
			renew = time.Now().Add(l.s.cfg.Lease / 3)
		}
		l.overheard()
		events, err := l.tick(ctx)
		if err != nil {
			return err
		}
		interval := lookInterval
		switch quiet := time.Since(lastEvent); {
		case events:
			lastEvent = time.Now()
			if time.Now().After(rotate) {
				if rotate, err = l.rotate(ctx); err != nil {
					return err
				}
			}
		case quiet > quietTime:
			slept, err := l.sleep(ctx, renew)
			if err != nil {
				return err
			}
			if slept {
				lastEvent = time.Now()
				continue // it looks at once: who rang has committed
			}
			if quiet > busyTime {
				interval = slowInterval
			}
		}
		timer.Reset(max(interval-time.Since(began), lookPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeOver ends the server process of a sequencer that has lost its lease and still holds the bell's lock: it was stopped, or its host is
// gone. Without the right to do that they keep the new one awake, and no more.
//
// It may have made a tick and told nobody. So all readers look, own ones too. If its server process is still at it, the look here waits for that,
// finds nothing new, and they look again.
func (l *link) takeOver(ctx context.Context) error {
	l.announce(ctx)
	const sql = `SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(l.pid)) FROM pg_catalog.pg_locks l
		JOIN pg_catalog.pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.classid = 1885816930 AND l.objid = 1 AND l.mode = 'ExclusiveLock' AND l.granted
		AND l.pid <> pg_catalog.pg_backend_pid() AND a.datname = pg_catalog.current_database() AND a.usename = current_user`
	var ended int
	if err := l.ask(ctx, &ended, sql); err != nil {
		return err
	}
	events, err := l.tick(ctx)
	if err == nil && !events {
		l.announce(ctx)
	}
	return err
}

// announce has readers look, own ones at once.
func (l *link) announce(ctx context.Context) {
	l.s.bus.tick()
	l.tell(ctx, "tick")
}

// tick makes what was committed readable. Own readers are told at once, and others too.
func (l *link) tick(ctx context.Context) (events bool, err error) {
	var tick *int64
	err = l.askFor(ctx, l.patience()<<l.late, &tick, `SELECT tick FROM pghub.tick()`)
	switch {
	case errors.Is(err, context.DeadlineExceeded): // of millions of events, perhaps: the next attempt has twice the time
		l.late = min(l.late+1, 8)
	case err == nil:
		l.late = 0
	}
	if err != nil || tick == nil {
		return false, err
	}
	l.ticks.Add(1)
	l.announce(ctx)
	return true, nil
}

// rotate drops what is old, and says when to look again.
func (l *link) rotate(ctx context.Context) (again time.Time, err error) {
	var retain time.Duration
	var rotated bool
	if err := l.ask(ctx, &rotated, `SELECT pghub.rotate()`); err != nil {
		return again, err
	}
	if err := l.ask(ctx, &retain, `SELECT retain FROM pghub.stream_settings`); err != nil {
		return again, err
	}
	return time.Now().Add(min(retain/20, time.Minute)), nil
}

// sleep waits for a writer to ring, if nothing keeps it from sleeping, and says whether it slept, or found something.
func (l *link) sleep(ctx context.Context, renew time.Time) (slept bool, err error) {
	var locked bool
	if err := l.ask(ctx, &locked, `SELECT pg_catalog.pg_try_advisory_lock(1885816930, 1) FROM pghub.stream_settings WHERE bell`+
		` UNION ALL SELECT false LIMIT 1`); err != nil || !locked {
		return false, err
	}
	defer func() {
		var unlocked bool
		if e := l.ask(ctx, &unlocked, `SELECT pg_catalog.pg_advisory_unlock(1885816930, 1)`); err == nil {
			err = e
		}
	}()
	if events, err := l.tick(ctx); err != nil || events {
		return events, err
	}
	l.sleeps.Add(1)
	for {
		n, err := l.hear(ctx, time.Until(renew))
		switch {
		case err != nil:
			return false, err
		case n == nil: // the lease: still asleep afterwards
			leads, err := l.lead(ctx)
			if err != nil || !leads {
				return false, err
			}
			renew = time.Now().Add(l.s.cfg.Lease / 3)
			continue
		}
		if what := l.heard(n); what == channelBell || what == "settings" {
			return true, nil
		}
	}
}
