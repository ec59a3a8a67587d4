package pghub

// ring holds runs in the order of arrival. The first two need no allocation: an idle consumer never has more.
type ring struct {
	slots []run // their number is 0 or a power of two
	head  int
	n     int // runs
	first [2]run
}

const idleRing = 16 // slots; the room that an empty ring keeps

// at is the i-th run.
func (r *ring) at(i int) *run { return &r.slots[(r.head+i)&(len(r.slots)-1)] }

func (r *ring) push(last run) {
	if r.n == len(r.slots) {
		r.grow()
	}
	*r.at(r.n) = last
	r.n++
}

func (r *ring) grow() {
	if len(r.slots) == 0 {
		r.slots = r.first[:]
		return
	}
	slots := make([]run, 2*len(r.slots))
	for i := range r.n {
		slots[i] = *r.at(i)
	}
	r.slots, r.head, r.first = slots, 0, [2]run{}
}

func (r *ring) pop() {
	*r.at(0) = nil
	r.head = (r.head + 1) & (len(r.slots) - 1)
	r.n--
}

// truncate leaves the first n runs.
func (r *ring) truncate(n int) {
	for i := n; i < r.n; i++ {
		*r.at(i) = nil
	}
	r.n = n
}

// giveBack frees the room of a burst that has passed.
func (r *ring) giveBack() {
	if r.n == 0 && len(r.slots) > idleRing {
		*r = ring{}
	}
}
