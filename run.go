package pghub

// run is a stretch of events of one topic, or a single advisory. It is shared, and not changed.
type run []*Event

func (r run) isAdvisory() bool { return r[0].Advisory != nil }
func (r run) isLag() bool      { return r.isAdvisory() && r[0].Advisory.Action == ActionLag }

// skip leaves out the first n events.
func skip(runs []run, n int) []run {
	for n >= len(runs[0]) {
		n -= len(runs[0])
		runs = runs[1:]
	}
	return append([]run{runs[0][n:]}, runs[1:]...)
}

// addLag records that n events are missing behind runs.
func addLag(runs []run, n int) []run {
	if last := len(runs) - 1; last >= 0 && runs[last].isLag() {
		runs[last].add(n)
		return runs
	}
	return append(runs, newLagRun(n))
}

// newLagRun makes a lag that still counts; nextLocked makes the event of it.
func newLagRun(n int) run {
	return run{{Advisory: &Advisory{Action: ActionLag, Dropped: uint64(n)}}}
}

func (r run) add(n int) { r[0].Advisory.Dropped += uint64(n) }
