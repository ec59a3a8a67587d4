package pghub

import "time"

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

// newLagRun makes a lag that still counts; firstLocked makes the event of it.
func newLagRun(n int) run {
	return run{{Advisory: &Advisory{Action: ActionLag, Dropped: uint64(n)}}}
}

func (r run) add(n int) { r[0].Advisory.Dropped += uint64(n) }

// ring holds runs in the order of arrival. The first two need no allocation: an idle consumer never has more.
type ring struct {
	slots []slot // their number is 0 or a power of two
	head  int
	n     int // runs
	first [2]slot
}

// slot holds a run. Its topic stands beside it, so that looking for one among thousands of runs does not touch their events.
type slot struct {
	run
	topic   string        // "" of an advisory
	arrived time.Duration // since router.began; of an advisory 0
}

const idleRing = 16 // slots; the room that an empty ring keeps

// at is the i-th run.
func (r *ring) at(i int) *slot { return &r.slots[(r.head+i)&(len(r.slots)-1)] }

func (r *ring) push(last run, arrived time.Duration) {
	if r.n == len(r.slots) {
		r.grow()
	}
	*r.at(r.n) = slot{last, last[0].Topic, arrived}
	r.n++
}

func (r *ring) grow() {
	if len(r.slots) == 0 {
		r.slots = r.first[:]
		return
	}
	slots := make([]slot, 2*len(r.slots))
	for i := range r.n {
		slots[i] = *r.at(i)
	}
	r.slots, r.head, r.first = slots, 0, [2]slot{}
}

func (r *ring) pop() {
	*r.at(0) = slot{}
	r.head = (r.head + 1) & (len(r.slots) - 1)
	r.n--
}

// remove takes out the events of some topics.
func (r *ring) remove(topics topicSet) (events int) {
	kept := 0
	for i := range r.n {
		s := r.at(i)
		switch {
		case topics.has(s.topic):
			events += len(s.run)
			continue
		case kept < i:
			*r.at(kept) = *s
		}
		kept++
	}
	for i := kept; i < r.n; i++ {
		*r.at(i) = slot{}
	}
	r.n = kept
	return events
}

// giveBack frees the room of a burst that has passed.
func (r *ring) giveBack() {
	if r.n == 0 && len(r.slots) > idleRing {
		*r = ring{}
	}
}

// topicSet is a set of topics. One is compared, and many are looked up.
type topicSet struct {
	one  string
	many map[string]struct{}
}

func newTopicSet(topics []string) (set topicSet) {
	if len(topics) == 1 {
		return topicSet{one: topics[0]}
	}
	set.many = make(map[string]struct{}, len(topics))
	for _, t := range topics {
		set.many[t] = struct{}{}
	}
	return set
}

func (set topicSet) has(topic string) bool {
	if set.many == nil {
		return topic == set.one
	}
	_, in := set.many[topic]
	return in
}
