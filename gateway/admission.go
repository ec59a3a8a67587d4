package gateway

import (
	"slices"
	"sync"

	"github.com/pghub/pghub"
)

// admission counts clients and topics, and refuses what goes beyond the limits of the Config.
type admission struct {
	cfg *Config

	mu        sync.Mutex
	closed    bool
	clients   map[*client]struct{}
	requests  int                 // whose body is under way
	addresses map[string]*address // that have a client or a request
	topics    map[string]int      // how many clients hold it
	byKind    [2]int
	dropped   uint64        // events, of clients that have left
	empty     chan struct{} // closed when closed and no client is left
}

// address is what counts for one address. Owned by admission.mu.
type address struct {
	clients  int
	requests int
	topics   map[string]int // how many of its clients hold it
}

func newAdmission(cfg *Config) *admission {
	return &admission{
		cfg:       cfg,
		clients:   make(map[*client]struct{}),
		addresses: make(map[string]*address),
		topics:    make(map[string]int),
		empty:     make(chan struct{}),
	}
}

// enter counts a client in, which has no consumer yet.
func (a *admission) enter(c *client) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.hasRoomLocked(c.address); err != nil {
		return err
	}
	from := a.addressLocked(c.address)
	a.clients[c] = struct{}{}
	from.clients++
	a.byKind[c.transport]++
	return nil
}

// hasRoom says why a client of an address would be refused; nil: it would not.
func (a *admission) hasRoom(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hasRoomLocked(name)
}

func (a *admission) hasRoomLocked(name string) error {
	from := a.addresses[name]
	switch {
	case a.closed:
		return &shuttingDown
	case len(a.clients) >= a.cfg.MaxClients:
		return &tooManyClients
	case from != nil && from.clients >= a.cfg.MaxClientsPerAddress:
		return &tooManyFromAddress
	}
	return nil
}

// begin gives a client its consumer, unless the gateway was closed meanwhile: close has not seen it then.
func (a *admission) begin(c *client, consumer *pghub.Consumer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return &shuttingDown
	}
	c.consumer = consumer
	return nil
}

// enterRequest counts a request in whose body is under way. There may be as many as there may be clients.
func (a *admission) enterRequest(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.addressLocked(name)
	defer a.forgetLocked(name) // if there is nothing of it
	switch {
	case a.requests >= a.cfg.MaxClients:
		return &tooManyClients
	case from.requests >= a.cfg.MaxClientsPerAddress:
		return &tooManyFromAddress
	}
	a.requests++
	from.requests++
	return nil
}

// leaveRequest counts a request out.
func (a *admission) leaveRequest(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests--
	a.addresses[name].requests--
	a.forgetLocked(name)
}

func (a *admission) addressLocked(name string) *address {
	from := a.addresses[name]
	if from == nil {
		from = &address{topics: make(map[string]int)}
		a.addresses[name] = from
	}
	return from
}

func (a *admission) forgetLocked(name string) {
	if from := a.addresses[name]; from.clients == 0 && from.requests == 0 {
		delete(a.addresses, name)
	}
}

// leave counts a client out, with all its topics and all that waits for it. first: it had not left before.
func (a *admission) leave(c *client) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, in := a.clients[c]; !in {
		return false
	}
	delete(a.clients, c)
	a.byKind[c.transport]--
	a.releaseLocked(c, c.topics)
	a.dropped += c.out.discard()
	a.addresses[c.address].clients--
	a.forgetLocked(c.address)
	if a.closed && len(a.clients) == 0 {
		close(a.empty)
	}
	return true
}

// hold counts topics in for a client, all or none; added are those that it did not have.
func (a *admission) hold(c *client, topics []string) (added []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, in := a.clients[c]; !in {
		return nil, &shuttingDown
	}
	from := a.addresses[c.address]
	fresh, freshThere := 0, 0
	for _, t := range topics {
		if slices.Contains(c.topics, t) || slices.Contains(added, t) {
			continue
		}
		if len(c.topics)+len(added) >= a.cfg.MaxTopics {
			return nil, tooManyTopics.about(t)
		}
		if a.topics[t] == 0 {
			if fresh++; len(a.topics)+fresh > a.cfg.MaxTopicsTotal {
				return nil, tooManyTopicsTotal.about(t)
			}
		}
		if from.topics[t] == 0 {
			if freshThere++; len(from.topics)+freshThere > a.cfg.MaxTopicsPerAddress {
				return nil, tooManyTopicsFromAddress.about(t)
			}
		}
		added = append(added, t)
	}
	for _, t := range added {
		a.topics[t]++
		from.topics[t]++
	}
	c.topics = append(c.topics, added...)
	return added, nil
}

// release counts topics out for a client.
func (a *admission) release(c *client, topics []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseLocked(c, topics)
}

func (a *admission) releaseLocked(c *client, topics []string) {
	from := a.addresses[c.address]
	for _, t := range slices.Clone(topics) {
		i := slices.Index(c.topics, t)
		if i < 0 {
			continue
		}
		c.topics = slices.Delete(c.topics, i, i+1)
		if a.topics[t]--; a.topics[t] == 0 {
			delete(a.topics, t)
		}
		if from.topics[t]--; from.topics[t] == 0 {
			delete(from.topics, t)
		}
	}
}

// topicsOf returns the topics that a client holds.
func (a *admission) topicsOf(c *client) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(c.topics)
}

// close admits no client any more, and returns those that have begun. Those that have not will not.
func (a *admission) close() []*client {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		if len(a.clients) == 0 {
			close(a.empty)
		}
	}
	return slices.DeleteFunc(a.allLocked(), func(c *client) bool { return c.consumer == nil })
}

func (a *admission) all() []*client {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.allLocked()
}

func (a *admission) allLocked() []*client {
	all := make([]*client, 0, len(a.clients))
	for c := range a.clients {
		all = append(all, c)
	}
	return all
}

// count returns how many clients there are by transport, and how many topics they hold.
func (a *admission) count() (webSockets, streams, topics int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byKind[viaWebSocket], a.byKind[viaStream], len(a.topics)
}

// queued returns how many items wait for clients, and how many events were dropped, those of clients that have left among them.
func (a *admission) queued() (pending int, dropped uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dropped = a.dropped
	for c := range a.clients {
		p, d := c.out.figures()
		pending, dropped = pending+p, dropped+d
	}
	return pending, dropped
}

func (a *admission) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}
